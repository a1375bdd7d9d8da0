"""What is said of a measurement: a JSON document, and a table of it."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from lookwhen.bench.measuring import STAGES, Level, Trial
from lookwhen.bench.samples import percentile, ratios, spread
from service.http.model_schemas import AccuracyAnswer, Model

# Stages that a row of the table has room for; the document has all.
_SHOWN = ("decode", "select", "extract")
_SAME = 1e-9


def row(level: Level, densest: Level, accuracy: AccuracyAnswer | None) -> dict[str, Any]:
    """One sparsity, as JSON.

    Times are seconds; a spread is median and quartiles (``low``, ``high``). Ratios are taken within
    a turn: ``times_faster`` of the medians of the one caller, ``times_throughput`` of the clips a
    second of all callers.

    Args:
        densest: what ratios are taken against.
        accuracy: what the bundle records of this sparsity, if anything.
    """
    asked = level.answer["sparsity"]
    alone = [seconds for turn in level.turns for seconds in turn.latencies]
    rates = [turn.count.rate for turn in level.turns]
    medians, dense_medians = _medians(level), _medians(densest)
    return {
        "sparsity": level.sparsity,
        "used": asked["used"],
        "within_range": asked["within_range"],
        "tokens": level.answer["tokens"]["kept"],
        "macs": level.answer["macs"],
        "accuracy": None if accuracy is None else accuracy.model_dump(),
        "one_caller": {
            "clips": len(alone),
            "latency_seconds": spread(alone) | {"p95": percentile(alone, 0.95)},
            "stages_seconds": {
                stage: spread([s for turn in level.turns for s in turn.stages[stage]])
                for stage in STAGES
            },
            "times_faster": ratios(dense_medians, medians),
        },
        "all_callers": {
            "callers": level.pace.callers,
            "clips": sum(turn.count.clips for turn in level.turns),
            "clips_per_second": spread(rates),
            "times_throughput": ratios(rates, [turn.count.rate for turn in densest.turns]),
        },
        "turns": [
            {
                "latencies_seconds": turn.latencies,
                "clips": turn.count.clips,
                "seconds": turn.count.seconds,
            }
            for turn in level.turns
        ],
    }


def _medians(level: Level) -> list[float]:
    return [spread(turn.latencies)["median"] for turn in level.turns]


def recorded(
    points: Sequence[AccuracyAnswer], used: float, precision: str
) -> AccuracyAnswer | None:
    """What a bundle records of a sparsity: in the precision that is served, or else in fp32."""
    here = {point.precision: point for point in points if abs(point.sparsity - used) < _SAME}
    return here.get(precision) or here.get("fp32")


def describe_service(model: Model, url: str | None, version: str | None) -> dict[str, Any]:
    """The service that was measured, as JSON; ``url`` is None of one that was started for it."""
    engine = model.engine.model_dump(exclude={"batching", "cost"})
    return {
        "url": url,
        "version": version,
        "bundle": model.bundle.model_dump(),
        "engine": engine,
        "decoding": model.decoding.model_dump(),
        "range": {"lowest": model.sparsity.lowest, "highest": model.sparsity.highest},
    }


def describe_trials(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The numbers of callers that were tried, as JSON."""
    return [{"callers": one.callers, "clips_per_second": one.rate} for one in trials]


def show(console: Console, document: dict[str, Any]) -> None:
    """Print the table, and below it what its columns are."""
    service, machine = document["service"], document["machine"]
    bundle, engine = service["bundle"], service["engine"]
    console.print(
        f"{bundle['name']} {bundle['version']}, {engine['runtime']}, "
        f"{', '.join(engine['execution_providers'])}, {engine['precision']}"
    )
    console.print(f"{machine['cpus']} CPUs of {machine['cpu']}{_whose(document)}")
    console.print()
    rows = document["levels"]
    table = Table(box=None, padding=(0, 1, 0, 0))
    densest = f"times {document['densest']:g}"
    for title in ("sparsity", "top-1", "ms", "p95", *_SHOWN, "clips/s", densest):
        table.add_column(title, justify="right", no_wrap=True)
    for one in rows:
        alone, busy = one["one_caller"], one["all_callers"]
        latency, accuracy = alone["latency_seconds"], one["accuracy"]
        table.add_row(
            f"{one['used']:g}",
            "" if accuracy is None else f"{accuracy['top1']:.1%}",
            _milliseconds(latency["median"]),
            _milliseconds(latency["p95"]),
            *(_milliseconds(alone["stages_seconds"][stage]["median"]) for stage in _SHOWN),
            _of(busy["clips_per_second"], document["turns"]),
            _of(busy["times_throughput"], document["turns"], decimals=1),
        )
    console.print(table)
    console.print()
    for line in _legend(document):
        console.print(line)


def _legend(document: dict[str, Any]) -> Iterator[str]:
    rows = document["levels"]
    callers = sorted({one["all_callers"]["callers"] for one in rows})
    many = f"{callers[0]}" if len(callers) == 1 else f"{callers[0]} to {callers[-1]}"
    yield (
        "ms, p95: median and 95th percentile of one caller; decode, select, extract: medians of "
        "its stages."
    )
    if document["turns"] > 1:
        yield (
            f"clips/s: with {many} callers; median and quartiles of {document['turns']} turns, "
            "ratios within a turn."
        )
    else:
        yield f"clips/s: with {many} callers; of one turn, so that more --seconds show its spread."
    known = [one["accuracy"] for one in rows if one["accuracy"] is not None]
    if known:
        clips = sorted({point["clips"] for point in known})
        of = f"{clips[0]}" if len(clips) == 1 else f"{clips[0]} to {clips[-1]}"
        bits = "/".join(sorted({point["precision"] for point in known}))
        yield f"top-1: as the bundle records it, of {of} held-out clips, in {bits}."
    else:
        yield "The bundle records no accuracy at these sparsities."
    load = document["machine"]["load_average"][0]
    yield f"Other work of the machine, when this began: a load of {load:.1f}."
    if outside := [f"{one['used']:g}" for one in rows if not one["within_range"]]:
        meant = document["service"]["range"]
        yield (
            f"Outside of the range that the bundle is meant for, {meant['lowest']:g} to "
            f"{meant['highest']:g}: {', '.join(outside)}."
        )


def _whose(document: dict[str, Any]) -> str:
    return "" if document["machine"]["serves"] else ", which asks; the service has its own machine"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f}"


def _of(one: dict[str, float], turns: int, decimals: int | None = None) -> str:
    """A median with its quartiles, if there are several turns to have any."""
    if decimals is None:  # three digits, as far as there is a fraction
        decimals = 0 if one["median"] >= 100 else 1 if one["median"] >= 10 else 2
    median, low, high = (f"{one[name]:.{decimals}f}" for name in ("median", "low", "high"))
    return f"{median} ({low}-{high})" if turns > 1 else median
