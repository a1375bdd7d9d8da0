"""How a selection is kept from window to window, and that the benchmark runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.live import PLACES, WAYS, kept_places, main, repeated_places, shifted

GRID = (4, 1, 3)  # of 12 tokens the first 6 are of the first half


def test_what_was_selected_of_shared_frames_is_kept() -> None:
    before = np.array([0, 5, 7, 11])
    assert shifted(before, GRID).tolist() == [1, 5]
    scores = np.array([9, 9, 9, 9, 9, 9, 1, 5, 2, 4, 0, 3], np.float32)
    assert kept_places(before, scores, 4, GRID).tolist() == [1, 5, 7, 9]
    # Nothing was selected of them: all are new.
    assert kept_places(np.array([0, 1]), scores, 2, GRID).tolist() == [7, 9]


def test_what_was_selected_is_repeated_where_the_selector_does_not_look() -> None:
    assert repeated_places(np.array([0, 5, 7, 11]), GRID).tolist() == [1, 5, 7, 11]
    filled = repeated_places(np.array([0, 2, 3, 7]), GRID).tolist()
    assert filled[0] == 0
    assert {1, 7} <= set(filled)
    assert len(filled) == len(set(filled)) == 4


@pytest.mark.long
def test_it_compares_and_watches(tmp_path: Path) -> None:
    from training.moving_things.sample import sample

    assert CliRunner().invoke(main, [str(tmp_path)]).exit_code == 2
    CliRunner().invoke(sample, [str(tmp_path / "other.mp4"), "--seed", "3"])
    out = tmp_path / "out.json"
    arguments = ["--clips", "2", "--seconds", "6", "--thresholds", "0.5", "--out", str(out)]
    done = CliRunner().invoke(main, [str(tmp_path), *arguments])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    rows = result["selection"]
    assert [(row["windows_lie"], row["way"]) for row in rows] == [
        (lie, way) for lie in PLACES for way in WAYS
    ]  # fmt: skip
    for anew, kept, every_other in (rows[:3], rows[3:]):
        assert anew["macs"] == kept["macs"] > every_other["macs"]
        assert anew["same_tokens"] == 1.0 > kept["same_tokens"]
    assert result["latency"]["windows"] > 0
