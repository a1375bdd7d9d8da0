"""The benchmark of stages, against a real server."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from service_server import Server

from benchmarks.stages import main
from lookwhen.bench.samples import spread


def test_it_times_every_stage_in_turns(server: Server, white: Path, tmp_path: Path) -> None:
    out = tmp_path / "stages.json"
    arguments = [str(white), "--url", server.url, "--rounds", "3", "--out", str(out)]
    done = CliRunner().invoke(main, [*arguments, "--sparsity", "0", "--sparsity", "0.9"])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert [row["sparsity"] for row in result["rows"]] == [0.0, 0.9]
    for samples in result["samples_seconds"].values():
        assert len(samples["total"]) == 3
        parts = zip(samples["decode"], samples["select"], samples["extract"], strict=True)
        for total, stages in zip(samples["total"], parts, strict=True):
            assert total >= sum(stages)
    assert result["rows"][0]["times_faster"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert result["bundle"]["name"]


def test_it_says_what_is_wrong(server: Server, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.mp4"
    nothing.write_bytes(b"not a video")
    done = CliRunner().invoke(main, [str(nothing), "--url", server.url])
    assert done.exit_code == 1
    assert "the service answered" in done.output
    done = CliRunner().invoke(main, [str(nothing), "--url", "http://127.0.0.1:1"])
    assert done.exit_code == 1
    assert "cannot be measured" in done.output


def test_the_spread_is_median_and_quartiles() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == {
        "median": 3.0,
        "low": pytest.approx(2.0),
        "high": pytest.approx(4.0),
    }
