"""How a timeline is held against the truth, and that its benchmark runs."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.splicing import Spoken, listed
from benchmarks.timeline import closest_right, main, score

THERE = [Spoken("up", 1, 3), Spoken("down", 5, 7), Spoken("up", 9, 11)]


def test_what_is_found_as_it_is_scores_one() -> None:
    found = score(THERE, THERE)
    assert (found.right, found.found, found.there, found.f1) == (3, 3, 3, 1.0)
    assert score([], THERE).f1 == 0.0
    assert score([], []).f1 == 0.0


def test_half_of_both_together_is_enough_and_less_is_not() -> None:
    assert score([Spoken("up", 1, 2)], THERE).right == 1
    assert score([Spoken("up", 1, 1.9)], THERE).right == 0
    assert score([Spoken("up", 0, 5.1)], THERE).right == 0
    assert score([Spoken("down", 1, 3)], THERE).right == 0, "another label"


def test_each_is_matched_once() -> None:
    twice = [Spoken("up", 1, 3), Spoken("up", 1.1, 3)]
    found = score(twice, THERE)
    assert (found.right, found.found, found.f1) == (1, 2, pytest.approx(0.4))


def test_the_closest_window_is_what_counts() -> None:
    looks = [Spoken("up", 0.2, 2.2), Spoken("down", 1.2, 3.2), Spoken("down", 5.3, 7.3)]
    assert closest_right(looks, THERE[:2]) == 1
    looks[1] = Spoken("up", 1.2, 3.2)
    assert closest_right(looks, THERE[:2]) == 2


def test_clips_of_an_index_are_chosen_by_its_columns(tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    index.write_text("path,label,fold\na/1.mp4,run,0\na/2.mp4,run,1\nb/3.mp4,rest,0\n")
    assert listed(index, {"fold": "0"}, ["rest"]) == [(tmp_path / "a/1.mp4", "run")]
    assert len(listed(index, {}, [])) == 3
    with pytest.raises(click.UsageError, match="has no column split"):
        listed(index, {"split": "test"}, [])
    with pytest.raises(click.UsageError, match="has no clip of which that is true"):
        listed(index, {"fold": "7"}, [])


@pytest.mark.long
def test_it_joins_real_clips(tmp_path: Path) -> None:
    from training.moving_things.sample import sample

    for number in range(3):
        CliRunner().invoke(sample, [str(tmp_path / f"{number}.mp4"), "--seed", str(number)])
    index = tmp_path / "index.csv"
    index.write_text("path,label\n0.mp4,falling\n1.mp4,moving left\n2.mp4,nothing moves\n")
    out = tmp_path / "out.json"
    arguments = ["--index", str(index), "--minutes", "2", "--strides", "1", "--thresholds", "0.5"]
    done = CliRunner().invoke(main, [str(tmp_path), *arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert (result["real"], result["clips"]) == (True, 2)
    assert [row["there"] for row in result["accuracy"]] == [2] * 3


@pytest.mark.long
def test_it_joins_goes_through_and_writes(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(tmp_path)])
    assert done.exit_code == 2
    assert "has no videos" in done.output
    from training.moving_things.sample import sample

    CliRunner().invoke(sample, [str(tmp_path / "other.mp4"), "--seed", "3"])
    out = tmp_path / "out.json"
    arguments = [str(tmp_path), "--clips", "2", "--minutes", "2", "--strides", "1"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert [row["there"] for row in result["accuracy"]] == [2] * 6
    assert [row["skipped"] > 0 for row in result["accuracy"]] == [False] * 4 + [True] * 2
    assert all(0 <= row["closest_right"] <= 2 for row in result["accuracy"])
    assert result["growth"][0]["peak_mb"] > 100
