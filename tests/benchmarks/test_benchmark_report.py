"""The page of benchmarks is what the results say."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.record import RESULTS
from benchmarks.report.__main__ import PAGE, ReportError, fill, main, read_results
from benchmarks.report.plots import PLOTS
from benchmarks.report.tables import TABLES

MACHINE = {
    "measured": "2026-01-02T03:04:05+00:00",
    "commit": "abc",
    "machine": {"cpu": "a CPU", "cpus": 2, "torch": "2"},
}


def middle(value: float) -> dict[str, float]:
    return {"median": value, "low": value * 0.9, "high": value * 1.1}


def serving_point(load: float, p99: float | None, right: float) -> dict[str, Any]:
    return {
        "load": load, "round": 0, "offered_per_second": 40 * load, "goodput_per_second": right,
        "latency_seconds": {"p50": p99, "p99": p99}, "degraded": 0,
        "outcomes": {"right": 9, "wrong": 0, "late": 1, "expired": 2, "refused": 3, "failed": 0},
    }  # fmt: skip


RESULT: dict[str, dict[str, Any]] = {
    "network": MACHINE | {
        "runs": [{
            "engine": "torch", "device": "cpu", "dtype": "fp32", "batch": 1, "threads": 2,
            "macs_per_second_ceiling": middle(1e11),
            "rows": [
                {"name": name, "macs": macs, "seconds": middle(seconds),
                 "clips_per_second": middle(1 / seconds), "peak_bytes": 123_000_000,
                 "share_of_ceiling": middle(0.5),
                 "times_faster": {"InternVideo2": middle(6.5) | {"macs": 7.25}}}
                for name, macs, seconds in (("lookwhen 0.9", 4e10, 0.25), ("RLT", 2e11, 1.5))
            ],
        }],
    },
    "serving": MACHINE | {
        "deadline_seconds": 1.0, "p99_bound_seconds": 0.25, "seconds": 60, "rounds": 2,
        "generator": {"highest_per_second": 4321, "rate_per_second": 200,
                      "at_that_rate": {"generator_lag_seconds": {"p99": 0.0012}}},
        "servers": {
            "lookwhen": {"capacity_per_second": 42.0, "throughput_at_p99": 30.0,
                         "points": [serving_point(0.6, 0.1, 24), serving_point(5, 0.6, 41)]},
            "ray": {"capacity_per_second": 21.0, "throughput_at_p99": None,
                    "points": [serving_point(0.6, 0.3, 12), serving_point(5, None, 0)]},
        },
    },
    "growth": MACHINE | {
        "axes": {"views": [
            {"at": at, "seconds": {stage: middle(0.01) for stage in
                                   ("caller", "upload", "decode", "select", "extract", "total")}}
            for at in ("1x1", "4x3")
        ]},
        "callers": [{"at": "8", "clips_per_second": 33.3, "memory_bytes": 9e8,
                     "latency_seconds": {"p50": 0.2, "p99": 0.4}}],
        "memory": {"requests": 99, "early_bytes": 8e8, "late_bytes": 8.1e8},
    },
    "overhead": MACHINE | {
        "one_caller": {"0.9": {
            "seconds": {"served": middle(0.022), "bare total": middle(0.020)},
            "p50_served_over_bare": 1.1, "seconds_outside": 0.001,
            "seconds_between_stages": 0.0005, "seconds_decode_more_than_bare": 0.0004,
            "seconds_infer_more_than_bare": 0.0001,
        }},
        "saturation": {"callers": 8, "served_over_bare": middle(0.96),
                       "clips_per_second": {"served": middle(48), "bare": middle(50)}},
    },
    "cpu": MACHINE | {
        "models": {"built-in": {
            "ways": {way: {step: {"seconds": middle(0.02), "times_faster": middle(times)}
                           for step in ("select", "0.9")}
                     for way, times in (("onnxruntime fp32", 1.0), ("int8", 2.5))},
            "batches": {"0.9": {"1": {"seconds_per_clip": middle(0.004)},
                                "8": {"seconds_per_clip": middle(0.003)}}},
            "callers": {"one thread/2": {"runs_per_second": middle(400)}},
            "accuracy": {"int8": {"0.9": {"top1": {"share": 0.91}, "agreement": {"share": 0.98}}}},
        }},
    },
}  # fmt: skip


def test_the_page_is_what_the_results_say() -> None:
    """Run `python -m benchmarks.report` when this fails."""
    page = PAGE.read_text()
    assert fill(page, read_results(RESULTS), Path(PAGE.stem)) == page


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("network", ["| lookwhen 0.9 | 40.0 | 4.00 |", "6.50 (5.85-7.15) (7.25)", "50%"]),
        ("serving", ["| ray | 21.0 | 2.00x | none |", "| lookwhen | 5 | 200.0 | 41.0 | 98% |"]),
        ("growth", ["| 4x3 | 10.0 |", "| 8 | 33.3 | 200 | 400 | 900 |", "800 MB"]),
        ("overhead", ["| 0.9 | 22.0 | 20.0 | 1.100 | 1.00 | 0.50 |", "96.0%"]),
        ("cpu", ["| int8 | 20.0 (2.50x) | 20.0 (2.50x) | 91.0% (98.0%) |", "| 4.0 | 3.0 |"]),
    ],
)
def test_tables_show_what_was_measured(name: str, expected: list[str]) -> None:
    table = TABLES[name](copy.deepcopy(RESULT[name]))
    for part in ["`abc`", *expected]:
        assert part in table


def test_every_result_is_asked_for_and_what_is_missing_is_said() -> None:
    page = PAGE.read_text()
    filled = fill(page, {}, Path("plots"))
    for name in TABLES:
        assert f"`python -m benchmarks.{name}`" in page.partition("\n## ")[0] + filled
        assert f"Not measured yet: `python -m benchmarks.{name}`." in filled


def test_a_page_without_a_place_or_a_result_of_another_form_is_refused() -> None:
    with pytest.raises(ReportError, match="0 places for stages"):
        fill("no places", {}, Path("plots"))
    with pytest.raises(ReportError, match=r"network\.json has another form"):
        fill(PAGE.read_text(), {"network": {"runs": []}}, Path("plots"))


def test_the_command_fills_the_page_and_draws(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "page.md"
    results.mkdir()
    for name in PLOTS:
        (results / f"{name}.json").write_text(json.dumps(RESULT[name]))
    page.write_text(PAGE.read_text())
    arguments = ["--results", str(results), "--page", str(page)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "not measured: stages, cpu, overhead, targets" in done.output
    assert "6.50 (5.85-7.15)" in page.read_text()
    drawn = {name: (tmp_path / "page" / f"{name}.svg").read_bytes() for name in PLOTS}
    for name, content in drawn.items():
        assert f"](page/{name}.svg)" in page.read_text()
        assert content.startswith(b"<?xml")
    # The same results make the same files, so that a commit shows only what changed.
    CliRunner().invoke(main, arguments)
    assert drawn == {name: (tmp_path / "page" / f"{name}.svg").read_bytes() for name in PLOTS}
