"""Results as Markdown: one function a result, each takes the file's content."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Result = dict[str, Any]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    lines = [
        f"| {' | '.join(header)} |",
        f"|---|{'---:|' * (len(header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines)


def where(result: Result) -> str:
    """On which machine, when, and of which commit."""
    machine = result["machine"]
    device = machine.get("gpu") or f"{machine['cpus']} CPUs of {machine['cpu']}"
    return f"{device}, torch {machine['torch']}, {result['measured'][:10]}, `{result['commit']}`."


def network(result: Result) -> str:
    """One table a run: engine, device, precision, batch."""
    parts = []
    for run in result["runs"]:
        references = sorted({name for row in run["rows"] for name in row["times_faster"]})
        header = ["network", "GMACs", "clips/s", "ms", "peak MB", "of ceiling"]
        header += [f"times {name} (by MACs)" for name in references]
        rows = []
        for row in run["rows"]:
            cells = [row["name"], f"{row['macs'] / 1e9:.1f}", _middle(row["clips_per_second"], 2)]
            cells += [_range(row["seconds"], 0, 1e3), _megabytes(row["peak_bytes"])]
            cells.append(f"{row['share_of_ceiling']['median']:.0%}")
            for name in references:
                times = row["times_faster"].get(name)
                cells.append(f"{_range(times, 2)} ({times['macs']:.2f})" if times else "")
            rows.append(cells)
        ceiling = run["macs_per_second_ceiling"]["median"]
        parts += [
            f"{run['engine']}, {run['device']}, {run['dtype']}, batch {run['batch']}, "
            f"{run['threads']} threads; the ceiling is {ceiling / 1e9:.0f} G multiply-accumulates "
            "a second:",
            markdown(header, rows),
        ]
    return "\n\n".join([where(result), *parts])


def cpu(result: Result) -> str:
    """Ways, batches and callers of each model."""
    parts = [where(result)]
    for name, model in result["models"].items():
        ways = model["ways"]
        steps = list(next(iter(ways.values())))
        accuracy = model["accuracy"] or {}
        compared = list(next(iter(accuracy.values()), {}))
        header = [f"{name}, ms", *(_sparsity(step) for step in steps)]
        header += [f"top-1 (as fp32) at {sparsity}" for sparsity in compared]
        rows = []
        for way, of_way in ways.items():
            cells = [way]
            for step in steps:
                seconds, times = of_way[step]["seconds"], of_way[step]["times_faster"]
                cells.append(f"{1e3 * seconds['median']:.1f} ({times['median']:.2f}x)")
            for sparsity in compared:
                point = accuracy.get(way, {}).get(sparsity)
                cells.append(
                    f"{point['top1']['share']:.1%} ({point['agreement']['share']:.1%})"
                    if point
                    else ""
                )
            rows.append(cells)
        parts.append(markdown(header, rows))
        batches = list(next(iter(model["batches"].values())))
        parts.append(
            markdown(
                [f"{name}, ms a clip", *(f"batch {batch}" for batch in batches)],
                (
                    [
                        _sparsity(sparsity),
                        *(_middle(point[b]["seconds_per_clip"], 1, 1e3) for b in batches),
                    ]
                    for sparsity, point in model["batches"].items()
                ),
            )
        )
        parts.append(_callers(name, model["callers"]))
    return "\n\n".join(parts)


def _callers(name: str, measured: Result) -> str:
    counts = sorted({key.rpartition("/")[2] for key in measured}, key=int)
    choices = list(dict.fromkeys(key.rpartition("/")[0] for key in measured))
    return markdown(
        [
            f"{name}, runs/s of one session",
            *(f"{count} caller{'s' * (count != '1')}" for count in counts),
        ],
        (
            [choice, *(_range(measured[f"{choice}/{c}"]["runs_per_second"], 1) for c in counts)]
            for choice in choices
        ),
    )


def serving(result: Result) -> str:
    """Capacity and throughput at the bound, then each point."""
    bound, servers = result["p99_bound_seconds"], result["servers"]
    ours = servers["lookwhen"]

    def ahead(name: str, key: str) -> str:
        mine, theirs = ours[key], servers[name][key]
        return f"{mine / theirs:.2f}x" if mine and theirs and name != "lookwhen" else ""

    first = markdown(
        ["server", "capacity/s", "ours over it", "CPU ms a clip",
         f"right/s at p99 <= {1e3 * bound:.0f} ms", "ours over it"],
        (
            [
                name,
                f"{server['capacity_per_second']:.1f}",
                ahead(name, "capacity_per_second"),
                "" if (cpu := server["cpu_seconds_per_clip"]) is None else f"{1e3 * cpu:.1f}",
                "none" if server["throughput_at_p99"] is None
                else f"{server['throughput_at_p99']:.1f}",
                ahead(name, "throughput_at_p99"),
            ]
            for name, server in servers.items()
        ),
    )  # fmt: skip
    rows = []
    for name, server in servers.items():
        for load in sorted({point["load"] for point in server["points"]}):
            points = [point for point in server["points"] if point["load"] == load]
            rows.append([name, f"{load:g}", *_point(points)])
    second = markdown(
        ["server", "load", "offered/s", "right/s", "of capacity", "dense, sparsest right",
         "p50 ms", "p99 ms", "refused", "late", "sparser"],
        rows,
    )  # fmt: skip
    generator = result["generator"]
    lag = generator["at_that_rate"]["generator_lag_seconds"]
    bare = " and ".join(f"{rate:.1f}" for rate in result["bare_per_second"])
    note = (
        f"Deadline {result['deadline_seconds']:g} s, {result['seconds']:g} s a point in "
        f"{result['rounds']} turns, each server with the better of its set-ups. The load generator "
        f"alone reaches {generator['highest_per_second']:.0f} requests a second; at "
        f"{generator['rate_per_second']:.0f} it is {1e3 * lag['p99']:.1f} ms late (p99). "
        "Decoding and inference alone, with a process for each CPU and nothing around them, do "
        f"{bare} clips a second (before and after the capacities)."
    )
    return "\n\n".join([where(result), note, first, second])


def _point(points: Sequence[Result]) -> list[str]:
    """The rounds of one load together; percentiles are the worst round's."""

    def mean(key: str) -> float:
        return float(sum(point[key] for point in points) / len(points))

    def count(*names: str) -> str:
        return str(sum(point["outcomes"][name] for point in points for name in names))

    def worst(name: str) -> str:
        known = [value for p in points if (value := p["latency_seconds"][name]) is not None]
        return f"{1e3 * max(known):.0f}" if known else ""

    def right(sparsity: str) -> str:
        shares = [known for p in points if (known := p["right_share"].get(sparsity)) is not None]
        return f"{sum(shares) / len(shares):.0%}"

    sparsities = sorted({name for point in points for name in point["right_share"]}, key=float)
    goodput, capacity = mean("goodput_per_second"), mean("capacity_per_second")
    return [
        f"{mean('offered_per_second'):.1f}",
        f"{goodput:.1f}",
        f"{goodput / capacity:.0%}" if capacity else "",
        f"{right(sparsities[0])}, {right(sparsities[-1])}",
        worst("p50"),
        worst("p99"),
        count("refused", "expired"),
        count("late", "failed", "wrong"),
        str(sum(point["degraded"] for point in points)),
    ]


def overhead(result: Result) -> str:
    rows = []
    for sparsity, point in result["one_caller"].items():
        seconds = point["seconds"]
        rows.append(
            [
                sparsity,
                _middle(seconds["served"], 1, 1e3),
                _middle(seconds["bare total"], 1, 1e3),
                f"{point['p50_served_over_bare']:.3f}",
                f"{1e3 * point['seconds_outside']:.2f}",
                f"{1e3 * point['seconds_between_stages']:.2f}",
                f"{1e3 * point['seconds_decode_more_than_bare']:.2f}",
                f"{1e3 * point['seconds_infer_more_than_bare']:.2f}",
            ]
        )
    one = markdown(
        ["sparsity", "served, p50 ms", "bare, p50 ms", "times", "HTTP ms", "between stages ms",
         "decoding, more ms", "inference, more ms"],
        rows,
    )  # fmt: skip
    full = result["saturation"]
    rates = full["clips_per_second"]
    two = (
        f"At saturation, {full['callers']} callers: {_range(rates['served'], 1)} clips a second "
        f"served, {_range(rates['bare'], 1)} by the bare loop, "
        f"{full['served_over_bare']['median']:.1%}."
    )
    return "\n\n".join([where(result), one, two])


def growth(result: Result) -> str:
    parts = [where(result)]
    names = ("caller", "upload", "decode", "select", "extract")
    for axis, rows in result["axes"].items():
        parts.append(
            markdown(
                [axis, *(f"{name} ms" for name in names)],
                ([row["at"], *(_middle(row["seconds"][n], 1, 1e3) for n in names)] for row in rows),
            )
        )
    parts.append(
        markdown(
            ["callers", "clips/s", "p50 ms", "p99 ms", "MB"],
            (
                [
                    row["at"],
                    f"{row['clips_per_second']:.1f}",
                    *(f"{1e3 * row['latency_seconds'][p]:.0f}" for p in ("p50", "p99")),
                    f"{row['memory_bytes'] / 1e6:.0f}",
                ]
                for row in result["callers"]
            ),
        )
    )
    memory = result["memory"]
    parts.append(
        f"Memory of the service and its workers over {memory['requests']} requests of all these "
        f"kinds: {memory['early_bytes'] / 1e6:.0f} MB in the second quarter, "
        f"{memory['late_bytes'] / 1e6:.0f} MB in the last."
    )
    return "\n\n".join(parts)


def stages(result: Result) -> str:
    names = ("decode", "select", "extract", "total")
    table = markdown(
        ["sparsity", *(f"{name} ms" for name in names), "against dense"],
        (
            [
                f"{row['sparsity']:g}",
                *(_range(row["seconds"][name], 1, 1e3) for name in names),
                f"{_range(row['times_faster'], 1)}",
            ]
            for row in result["rows"]
        ),
    )
    return "\n\n".join([where(result), table])


def targets(result: Result) -> str:
    seconds, ratio = result["seconds"], result["ratio"]
    return (
        f"{where(result)} {result['tokens']} tokens, batch {result['batch']}: "
        f"{1e3 * seconds['chunked']['median']:.0f} ms in chunks, "
        f"{1e3 * seconds['plain']['median']:.0f} ms by the full matrix, "
        f"{ratio['median']:.2f} times "
        f"(quartiles {ratio['quartile_1']:.2f} to {ratio['quartile_3']:.2f})."
    )


def odd_clips(result: Result) -> str:
    table = markdown(
        ["clip", "KB", "CPU ms", "times a 1080p clip", "times 1080p of as many decoded pixels"],
        (
            [
                name,
                f"{row['bytes'] / 1000:.0f}",
                f"{1e3 * row['cpu_seconds']:.0f}",
                _range(row["of_a_1080p_clip"], 2),
                _range(row["of_its_pixels"], 1),
            ]
            for name, row in result["clips"].items()
        ),
    )
    return "\n\n".join([where(result), table])


def timeline(result: Result) -> str:
    """A timeline's segments at each way, stride and threshold, and the cost of a longer video."""
    found = markdown(
        [
            "windows lie",
            "stride s",
            "threshold",
            "F1",
            "right",
            "found",
            "there",
            "closest window right",
            "windows",
            "tokens",
        ],
        (
            [
                row["way"],
                f"{row['stride']:g}",
                f"{row['threshold']:g}",
                f"{row['f1']:.2f}",
                *(str(row[name]) for name in ("right", "found", "there", "closest_right")),
                *(str(row[name]) for name in ("windows", "tokens")),
            ]
            for row in result["accuracy"]
        ),
    )
    grown = markdown(
        ["minutes of video", "MB", "windows", "s", "s of video a second", "peak MB"],
        (
            [
                f"{row['minutes']:g}",
                f"{row['bytes'] / 1e6:.1f}",
                str(row["windows"]),
                f"{row['wall_seconds']:.0f}",
                f"{row['seconds_of_video_a_second']:.1f}",
                f"{row['peak_mb']:.0f}",
            ]
            for row in result["growth"]
        ),
    )
    said = f"{result['clips']} clips, pauses of {result['pauses']} videos, tIoU {result['tiou']}."
    return "\n\n".join([f"{where(result)} {said}", found, grown])


def models(result: Result) -> str:
    """Time of a view and published accuracy of each system."""
    rows = [
        [
            row["name"],
            f"{row['macs'] / 1e9:.1f}",
            _range(row["seconds"], 2),
            f"{row['macs'] / 1e9 / row['seconds']['median']:.0f}",
            _published(row["published"]["kinetics"]),
            _published(row["published"]["something"]),
        ]
        for row in result["rows"]
    ]
    header = ["system", "GMACs", "CPU s a view", "GMACs/s", "K400 (published)", "SSv2 (published)"]
    threads = result["machine"]["threads"]
    said = f"{threads} thread{'s' * (threads != 1)} of torch, {result['rounds']} rounds."
    if result["left_out"]:
        said += f" Not run: {', '.join(result['left_out'])}."
    return "\n\n".join([f"{where(result)} {said}", markdown(header, rows)])


def public_models(result: Result) -> str:
    """What public checkpoints of full size cost in the service, and what their import took."""
    imported, served = [], []
    for name, model in result["models"].items():
        took = model["import"]
        imported.append([
            name, _megabytes(took["file_bytes"]), f"{took['cpu_seconds']:.0f}",
            _megabytes(took["peak_bytes"]), f"{model['start_seconds']:.0f}",
            _megabytes(model["rest_bytes"]),
        ])  # fmt: skip
        served += [
            [
                name, sparsity, f"{row['tokens']} of {row['of']}", f"{row['macs'] / 1e9:.0f}",
                _range(row["extract_seconds"], 2), _range(row["total_seconds"], 2),
                f"{_range(row['dense_over'], 1)}x", _megabytes(row["peak_bytes"]),
            ]
            for sparsity, row in model["rows"].items()
        ]  # fmt: skip
    threads = result["threads"]
    said = f"{threads} thread{'s' * (threads != 1)} a run, {result['rounds']} rounds in turns."
    return "\n\n".join([
        f"{where(result)} {said}",
        markdown(["model", "sparsity", "tokens", "GMACs", "extract s", "total s", "against dense",
                  "peak MB"], served),
        markdown(["model", "file MB", "import CPU s", "its peak MB", "start s", "at rest MB"],
                 imported),
    ])  # fmt: skip


def _published(top1: float | None) -> str:
    return "" if top1 is None else f"{top1:.1f}"


TABLES: dict[str, Callable[[Result], str]] = {
    "odd_clips": odd_clips,
    "stages": stages,
    "network": network,
    "models": models,
    "public_models": public_models,
    "cpu": cpu,
    "serving": serving,
    "overhead": overhead,
    "growth": growth,
    "targets": targets,
    "timeline": timeline,
}


def _middle(value: Result, digits: int, scale: float = 1.0) -> str:
    return f"{scale * value['median']:.{digits}f}"


def _range(value: Result, digits: int, scale: float = 1.0) -> str:
    low, high = (f"{scale * value[name]:.{digits}f}" for name in ("low", "high"))
    return f"{_middle(value, digits, scale)} ({low}-{high})"


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.0f}"


def _sparsity(step: str) -> str:
    return step if step == "select" else f"sparsity {step}"
