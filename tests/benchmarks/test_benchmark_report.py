"""The page of benchmarks is what the results say."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.record import RESULTS
from benchmarks.report.__main__ import DOCS, PAGES, ReportError, fill, main, read_results
from benchmarks.report.plots import PLOTS

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
        "capacity_per_second": 42.0, "right_share": {"0": 0.5, "0.5": 0.6, "0.95": 0.75},
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
    "live": MACHINE | {
        "clips": 30, "pauses": 5,
        "selection": [
            {"windows_lie": "1 s", "way": way, "threshold": 0.5, "f1": 0.25, "right": 3,
             "found": 9, "there": 30, "windows": 40, "selections": 20, "macs": 2e9,
             "same_tokens": 0.625}
            for way in ("kept", "every other")
        ],
        "latency": {"seconds": 60.0, "events": 7, "median": 1.625, "most": 2.0,
                    "dropped_frames": 0, "windows": 40, "skipped_windows": 1},
    },
    "models": {
        **MACHINE, "machine": MACHINE["machine"] | {"threads": 2}, "rounds": 3,
        "left_out": ["V-JEPA 2 L"],
        "rows": [
            {"name": name, "macs": macs, "seconds": middle(seconds),
             "published": {"gmacs": 1, "kinetics": 82.6, "something": something}}
            for name, macs, seconds, something in (
                ("LookWhen 90 %", 4e10, 0.5, 69.3), ("VideoMAE-B", 1.8e11, 2, None)
            )
        ],
    },
    "public_models": MACHINE | {
        "rounds": 3, "threads": 1,
        "models": {
            "UMT-B": {
                "import": {"seconds": 9.0, "cpu_seconds": 8.0, "peak_bytes": 2_700_000_000,
                           "file_bytes": 344_000_000},
                "start_seconds": 30.0, "rest_bytes": 1_400_000_000,
                "rows": {
                    "0.9": {"tokens": 157, "of": 1568, "macs": 13_900_000_000,
                            "within_range": False, "total_seconds": middle(0.7),
                            "select_seconds": middle(0.01), "extract_seconds": middle(0.6),
                            "dense_over": middle(13.0), "peak_bytes": 1_500_000_000},
                },
            },
        },
    },
    "serving": MACHINE | {
        "deadline_seconds": 1.0, "p99_bound_seconds": 0.25, "seconds": 60, "rounds": 2,
        "generator": {"highest_per_second": 4321, "rate_per_second": 200,
                      "at_that_rate": {"generator_lag_seconds": {"p99": 0.0012}}},
        "bare_per_second": [71.2, 69.8],
        "servers": {
            "lookwhen": {"capacity_per_second": 42.0, "throughput_at_p99": 30.0,
                         "cpu_seconds_per_clip": 0.045,
                         "points": [serving_point(0.6, 0.1, 24), serving_point(5, 0.6, 41)]},
            "ray": {"capacity_per_second": 21.0, "throughput_at_p99": None,
                    "cpu_seconds_per_clip": None,
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
    "recall": MACHINE | {
        "sparsities": [0.7, 0.9],
        "rows": [
            {"teacher": None, "target": "random", "recall": [0.3, 0.1],
             "standard_error": [0.01, 0.01], "clips": 40},
            {"teacher": "trained", "target": "top1_distance", "recall": [0.95, 0.87],
             "standard_error": [0.01, 0.02], "clips": 40},
        ],
    },
    "selected_by": MACHINE | {
        "checkpoint_sha256": "f00",
        "rows": [
            {"by": by, "points": [{"sparsity": 0.9, "kept": 102, "macs": 5e8, "clips": 400,
                                   "top1": top1, "interval": [top1 - 0.02, top1 + 0.02]}]}
            for by, top1 in (("selector", 0.96), ("target", 0.89), ("random", 0.09))
        ],
    },
    "pretraining_selection": MACHINE | {
        "budget": {"pretrain_steps": 5, "finetune_steps": 6}, "clips": {"train": 7, "held_out": 8},
        "curves": {name: [
            {"points": [{"sparsity": sparsity, "top1": top1, "recall": top1 / 2,
                         "macs": 1e9 * (1.1 - sparsity)} for sparsity in (0.0, 0.9)]}
            for top1 in tops] for name, tops in {"ours": (0.8, 0.9), "chance": (0.3, 0.4)}.items()},
        "baselines": [{"series": "rlt", "setting": "0.1", "macs": 2e9, "top1": 0.75,
                       "intervals": {"top1": [0.7, 0.8]}}],
    },
    "fuzz": MACHINE | {
        "seed": 1, "mutants": 12_345, "clips": {"a.mp4": 9, "b.webm": 9}, "seconds": 600,
        "answered": {"undecodable": 7000, "ok": 5345}, "slowest_seconds": 4.56, "failures": [],
        "worker_restarts": {"crashed": 0.0, "recycled": 61.0}, "faults": [],
        "growth": {"rss_bytes": {"most_over_the_run": 3 * 2**20, "limit": 32 * 2**20}},
    },
    "soak": MACHINE | {
        "minutes": 60.0, "rate": 10.0, "requests": 36_000, "answered": {"good ok": 28_800},
        "slowest_seconds": 1.0, "faults": ["threads may have grown by 9"],
        "growth": {"threads": {"most_over_the_run": 9.0, "limit": 4}},
    },
    "drain": MACHINE | {
        "times": 20, "rate": 20.0, "answered": {"ok": 99, "not_ready": 1},
        "in_flight_at_the_signal": [7, 3, 16], "seconds_from_signal_to_exit": [2.5, 1.25, 3],
        "accepted_and_lost": 0, "faults": [],
    },
    "survfight": {"variants": {"tuned": MACHINE | {
        "recipe": {"epochs": 40.0}, "parts": ["0", "1"], "column": "fold", "views": "1x1",
        "intervals": {"groups": 46},
        "points": [
            {"sparsity": 0.0, "clips": 300, "top1": 0.8, "intervals": {"top1": [0.75, 0.85]},
             "differences": {}},
            {"sparsity": 0.9, "clips": 300, "top1": 0.78, "intervals": {"top1": [0.7, 0.84]},
             "differences": {"top1": [-0.02, -0.05, 0.01]}},
        ],
        "against": {"variant": "untuned", "top1": {
            "0": [0.11, 0.01, 0.21], "0.9": [0.12, 0.02, 0.22], "mean": [0.115, 0.03, 0.2],
        }},
    }}},
    "jhmdb": {"variants": {"stem": MACHINE | {
        "recipe": {"epochs": 30.0}, "parts": ["0", "1"], "column": "fold", "views": "1x1",
        "intervals": {"groups": 46}, "labels": list("abcdef"),
        "points": [
            {"sparsity": 0.9, "clips": 900, "top1": 0.4, "top5": 0.75,
             "intervals": {"top1": [0.35, 0.45]}, "differences": {}},
        ],
        "against": {"variant": "other", "top1": {
            "0.9": [0.12, 0.02, 0.22], "mean": [0.115, 0.03, 0.2],
        }},
    }}},
}  # fmt: skip


@pytest.mark.parametrize("stem", PAGES)
def test_the_pages_are_what_the_results_say(stem: str) -> None:
    """Run `python -m benchmarks.report` when this fails."""
    text, page = (DOCS / f"{stem}.md").read_text(), PAGES[stem]
    found = read_results(RESULTS, page.tables)
    assert fill(text, page, found, stem) == text
    for name in page.plots:
        assert (DOCS / stem / f"{name}.svg").exists() == (name in found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("network", ["| lookwhen 0.9 | 40.0 | 4.00 |", "6.50 (5.85-7.15) (7.25)", "50%"]),
        (
            "serving",
            [
                "| ray | 21.0 | 2.00x |  | none |",
                "| lookwhen | 42.0 |  | 45.0 | 30.0 |",
                "do 71.2 and 69.8 clips",
                "| lookwhen | 5 | 200.0 | 41.0 | 98% | 50%, 75% |",
            ],
        ),
        (
            "live",
            [
                "| 1 s | kept | 0.5 | 0.25 | 3 | 9 | 30 | 62 % | 20 | 2 |",
                "| 1 s | every other | 0.5 | 0.25 | 3 | 9 | 30 |  | 20 | 2 |",
                "| 60 | 7 | 1.62 | 2.00 | 0 | 1 |",
            ],
        ),
        ("growth", ["| 4x3 | 10.0 |", "| 8 | 33.3 | 200 | 400 | 900 |", "800 MB"]),
        ("overhead", ["| 0.9 | 22.0 | 20.0 | 1.100 | 1.00 | 0.50 |", "96.0%"]),
        ("recall", ["| top1_distance, trained teacher | 95.0% ± 1.0 | 87.0% ± 2.0 |"]),
        (
            "pretraining_selection",
            [
                "| ours | 85.0% (80.0-90.0) |",
                "| rlt 0.1 | 2.00 | 75.0% |",
                "| chance | 17.5% (15.0-20.0) |",
            ],
        ),
        ("selected_by", ["400 clips", "| chance | 9.0% (7.0 - 11.0) |"]),
        (
            "survfight",
            ["300 clips of 2 parts", "| 0.9 | 78.0% | 70.0 - 84.0 | -2.0 (-5.0 to +1.0)"],
        ),
        (
            "jhmdb",
            [
                "| sparsity | top-1 | 95 % interval | top-5 |",
                "| 0.9 | 40.0% | 35.0 - 45.0 | 75.0% |  | +12.0 (+2.0 to +22.0) |",
                "| mean |  |  |  |  | +11.5 (+3.0 to +20.0) |",
            ],
        ),
        (
            "fuzz",
            [
                "12,345 mutants of 2 clips in 10 minutes",
                "61 recycled",
                "The run passed.",
                "| rss, MiB | 3.0 | 32 |",
                "| `ok` | 5,345 |",
            ],
        ),
        (
            "soak",
            [
                "36,000 requests",
                "**The run failed**: threads may have grown by 9.",
                "| threads | 9.0 | 4 |",
            ],
        ),
        ("drain", ["3 to 16 requests accepted", "lost: 0", "1.2 to 3.0 s"]),
        ("cpu", ["| int8 | 20.0 (2.50x) | 20.0 (2.50x) | 91.0% (98.0%) |", "| 4.0 | 3.0 |"]),
    ],
)
def test_tables_show_what_was_measured(name: str, expected: list[str]) -> None:
    tables = {key: table for page in PAGES.values() for key, table in page.tables.items()}
    table = tables[name](copy.deepcopy(RESULT[name]))
    for part in ["`abc`", *expected]:
        assert part in table


FOLDS = {"survfight", "skateboard", "jhmdb"}


def test_every_result_is_asked_for_and_what_is_missing_is_said() -> None:
    for stem, page in PAGES.items():
        text = (DOCS / f"{stem}.md").read_text()
        filled = fill(text, page, {}, "plots")
        assert filled.count("\nNot measured yet.\n") == len(page.tables)
        for name in page.tables:
            command = "folds" if name in FOLDS else name.split("_")[0]
            assert f"benchmarks.{command}" in text or f"`make {command}" in text


def test_a_page_without_a_place_or_a_result_of_another_form_is_refused() -> None:
    first = next(iter(PAGES["benchmarks"].tables))
    with pytest.raises(ReportError, match=f"0 places for {first}"):
        fill("no places", PAGES["benchmarks"], {}, "plots")
    text = (DOCS / "benchmarks.md").read_text()
    with pytest.raises(ReportError, match=r"network\.json has another form"):
        fill(text, PAGES["benchmarks"], {"network": {"runs": []}}, "plots")


@pytest.mark.long
def test_the_command_fills_the_page_and_draws(tmp_path: Path) -> None:
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    docs.mkdir()
    drawn = [*PLOTS, "pretraining_selection"]
    for name in drawn:
        (results / f"{name}.json").write_text(json.dumps(RESULT[name]))
    for stem in PAGES:
        (docs / f"{stem}.md").write_text((DOCS / f"{stem}.md").read_text())
    arguments = ["--results", str(results), "--docs", str(docs)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    missing = [name for name in PAGES["benchmarks"].tables if name not in drawn]
    assert {"odd_clips", "stages", "cpu"} <= set(missing)
    assert f"benchmarks.md; not measured: {', '.join(missing)}\n" in done.output
    assert "6.50 (5.85-7.15)" in (docs / "benchmarks.md").read_text()

    def pictures() -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in docs.glob("*/*.svg")}

    first = pictures()
    assert set(first) == set(drawn)
    assert all(content.startswith(b"<?xml") for content in first.values())
    assert "](experiments/pretraining_selection.svg)" in (docs / "experiments.md").read_text()
    # The same results make the same files, so that a commit shows only what changed.
    CliRunner().invoke(main, arguments)
    assert pictures() == first
