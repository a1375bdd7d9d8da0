"""The benchmark of the selection target, at a tiny size."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.targets import main

pytestmark = pytest.mark.slow


def test_it_writes_every_sample_and_says_where_it_ran(tmp_path: Path) -> None:
    out = tmp_path / "results" / "targets.json"
    options = ["--tokens", "60", "--width", "8", "--batch", "2", "--pairs", "4", "--chunk", "1200"]
    done = CliRunner().invoke(main, [*options, "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert {name: len(taken) for name, taken in result["samples"].items()} == {
        "chunked": 4,
        "plain": 4,
    }
    ratios = sorted(
        plain / chunked
        for plain, chunked in zip(
            result["samples"]["plain"], result["samples"]["chunked"], strict=True
        )
    )
    assert result["ratio"]["median"] == pytest.approx((ratios[1] + ratios[2]) / 2)
    assert (result["ratio"]["lowest"], result["ratio"]["highest"]) == (ratios[0], ratios[-1])
    assert result["machine"]["threads"] >= 1
    assert result["commit"]
    # Both ways are the same target; one makes a table of all pairs, the other never does.
    assert result["largest_difference"] < 1e-5
    made = result["largest_tensor_mib"]
    assert made["plain"] == pytest.approx(2 * 60 * 60 * 4 / 2**20, abs=0.01)
    assert made["chunked"] < made["plain"]
    assert f"{result['ratio']['median']:.2f}" in done.output
