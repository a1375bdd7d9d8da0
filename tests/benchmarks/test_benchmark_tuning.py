"""A dense network is trained, tuned and compared with itself, in one command that goes on."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import tuning
from benchmarks.events import EVENTS, plain_scene, write_events
from networks.checkpoint import load_network, load_selector
from networks.learned_selector import LearnedSelector


@pytest.mark.long
def test_the_command_trains_and_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(tuning.Setup, size=32, width=24, depth=1, heads=2, batch=4)
    monkeypatch.setattr(tuning, "Setup", small)
    write_events(tmp_path / "train", 10, 0)
    write_events(tmp_path / "held", 5, 1)
    out = tmp_path / "out.json"
    given = [tmp_path / "train", tmp_path / "held", tmp_path / "work"]
    run = [*map(str, given), "--dense-steps", "2", "--tune-steps", "1", "--out", str(out)]
    done = CliRunner().invoke(tuning.main, run)
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert result["clips"] == {"train": 10, "held_out": 5}
    ways: dict[str, list[float]] = {}
    for row in result["rows"]:
        ways.setdefault(row["way"], []).append(row["sparsity"])
        assert row["interval"][0] <= row["top1"] <= row["interval"][1]
    assert ways.pop("dense, fewer frames") == [0.5, 0.75]
    assert list(ways) == ["dense, group", "control, group", "tuned, group", "tuned, learned"]
    assert set(map(tuple, ways.values())) == {tuning.SPARSITIES}
    tuned = tmp_path / "work" / "tuned" / "tuned.safetensors"
    assert isinstance(load_selector(tuned), LearnedSelector)
    dense, _ = load_network(tmp_path / "work" / "dense" / "checkpoint.safetensors")
    control, facts = load_network(
        tmp_path / "work" / "control" / "network" / "checkpoint.safetensors"
    )
    assert facts["sparsities"] == [0.0]
    assert dense.config == control.config


def test_one_thing_acts_before_a_dark_picture(tmp_path: Path) -> None:
    for label in EVENTS:
        scene = plain_scene(label, np.random.default_rng(0))
        assert scene.label == label
        (thing,) = scene.things
        assert thing.actor
        assert not scene.camera.x.any()
    first = write_events(tmp_path, 5, 0)
    assert set(first.labels) == set(EVENTS)
    made = {entry.name: Path(entry.name).stat().st_mtime_ns for entry in first.entries}
    more = write_events(tmp_path, 10, 0)
    assert len(more) == 10
    assert all(Path(name).stat().st_mtime_ns == when for name, when in made.items())


def test_gains_are_those_of_the_same_clips() -> None:
    before = np.array([True, True, False, False, False])
    after = np.array([True, False, True, True, False])
    rows = tuning.compared({"dense, group": {0.5: before}, "tuned, group": {0.5: after}})
    assert [row["top1"] for row in rows] == [0.4, 0.6]
    assert rows[0]["gain"] == 0
    assert rows[1]["gain"] == pytest.approx(0.2)  # two gained, one lost, of five
    low, high = rows[1]["gain_interval"]
    assert low < 0 < 0.2 < high
