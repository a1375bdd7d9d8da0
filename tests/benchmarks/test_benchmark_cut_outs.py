"""Cut-outs that move: what is drawn is what the label says."""

import csv
from pathlib import Path

import numpy as np
import pytest
import service_clips as clips
from click.testing import CliRunner
from numpy.typing import NDArray

from benchmarks.cut_outs.__main__ import main
from benchmarks.cut_outs.drawing import draw
from benchmarks.cut_outs.ways import WAYS, Way
from training.datasets import read_dataset
from training.moving_things.labels import LABELS

T = np.linspace(0, 1, 48)


def ways(label: str, seed: int) -> list[Way]:
    return WAYS[label](np.random.default_rng(seed), T)


def gap(pair: list[Way]) -> NDArray[np.float64]:
    one, other = pair
    return np.hypot(one.x - other.x, one.y - other.y) - one.radius - other.radius


def test_there_is_a_way_for_each_label_of_the_built_in_model() -> None:
    assert tuple(WAYS) == LABELS


@pytest.mark.parametrize("seed", range(5))
def test_things_do_what_the_label_says(seed: int) -> None:
    for label, along in (("moving left", (-1, 0)), ("moving right", (1, 0)),
                         ("moving up", (0, -1)), ("moving down", (0, 1))):  # fmt: skip
        (way,) = ways(label, seed)
        moved = way.x[-1] - way.x[0], way.y[-1] - way.y[0]
        assert moved[0] * along[0] + moved[1] * along[1] > 0.3, label
        assert abs(moved[0] * along[1] + moved[1] * along[0]) < 1e-9
    (near,), (far,) = ways("approaching", seed), ways("receding", seed)
    assert near.radius[-1] > 2 * near.radius[0]
    assert far.radius[0] > 2 * far.radius[-1]
    (clockwise,) = ways("turning clockwise", seed)
    assert (np.diff(clockwise.angle) > 0).all()
    (there,), (gone,) = ways("appearing", seed), ways("disappearing", seed)
    assert (there.alpha[0], there.alpha[-1], gone.alpha[0], gone.alpha[-1]) == (0, 1, 1, 0)
    together, apart = gap(ways("two things meeting", seed)), gap(ways("two things parting", seed))
    assert together[0] > 0.2 > 1e-6 > abs(together[-1])
    assert apart[-1] > 0.2 > 1e-6 > abs(apart[0])
    assert gap(ways("one thing passing behind another", seed)).min() < -0.1
    (ball,), (stone,) = ways("bouncing", seed), ways("falling", seed)
    turns = np.flatnonzero(np.diff(np.sign(np.diff(ball.y))))
    assert len(turns) >= 3
    assert (np.diff(stone.y) >= 0).all()
    assert np.diff(stone.y)[:10].max() < np.diff(stone.y).max() / 2, "faster and faster"
    for label in WAYS:
        for way in ways(label, seed):
            reach = np.maximum(np.abs(way.x), np.abs(way.y)) + way.radius
            assert reach.max() <= 0.5 + 0.06, f"{label} leaves the square in the middle"


@pytest.mark.slow
def test_only_what_should_moves_in_the_picture(tmp_path: Path) -> None:
    photos = [clips.pattern(tmp_path / "photo.mp4")]
    for background in ("photo", "noise", "plain"):
        still = draw("nothing moves", background, np.random.default_rng(0), photos).frames
        assert (still == still[:1]).all()
        moving = draw("moving right", background, np.random.default_rng(0), photos).frames
        changed = np.abs(moving[-1].astype(int) - moving[0]).max(axis=2) > 20
        assert 0.005 < changed.mean() < 0.3
    camera = draw("only the camera moves", "plain", np.random.default_rng(0), photos).frames
    assert (np.abs(camera[-1].astype(int) - camera[0]).max(axis=2) > 20).mean() > 0.5


@pytest.mark.slow
def test_a_folder_of_clips_with_an_index(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(main, [str(out), "--clips", "20", "--seed", "3"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "index.csv").open()))
    assert {row["background"] for row in rows} == {"noise", "plain"}
    found = read_dataset("index", out / "index.csv")
    assert sorted(found.labels) == sorted(LABELS)
    assert len(found) == 20
    (tmp_path / "empty").mkdir()
    refused = CliRunner().invoke(main, [str(out), "--photos", str(tmp_path / "empty")])
    assert "there is no video in" in refused.output
