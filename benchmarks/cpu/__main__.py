"""``python -m benchmarks.cpu``: how should the graphs run on a CPU?

Each way differs in one factor from what the service does; all are measured in turns, on the
built-in bundle and on the paper's ``lookwhen_b16``. A faster way that answers otherwise is no way,
so those that compute otherwise are held against labels of clips that training never saw.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import out_option
from benchmarks.cpu.accuracy import measure as measure_accuracy
from benchmarks.cpu.engines import BASE, Engine, Graphs, Run, build, has_openvino, ways
from benchmarks.record import describe_run, write_result
from benchmarks.samples import take_turns
from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from bundle.tokens import tokens_to_keep
from export.graphs import example_inputs
from export.unpack import unpack
from lookwhen.bench.samples import ratios, spread
from model.classifier import LookWhen
from model.config import get_config
from training.moving_things.store import StoreError

console = Console(stderr=True)

BUILT_IN = "built-in"
# The paper's takes seconds for a dense clip, in each of a dozen ways.
SPARSITIES = {BUILT_IN: (0.0, 0.5, 0.7, 0.9, 0.95), "lookwhen_b16": (0.7, 0.9, 0.95)}
BATCHES = (1, 2, 4, 8)
# Sessions' threads go on spinning for a moment after a run: the next one must not pay for it.
_SETTLE_SECONDS = 0.02
# Ways that compute something else than the base does.
_NUMERICS = ("graphs as in the bundle", "int8", "int8, graphs as in the bundle", "torch bf16",
             "OpenVINO bf16")  # fmt: skip


def timed(run: Run, feeds: dict[str, Any]) -> float:
    time.sleep(_SETTLE_SECONDS)
    began = time.perf_counter()
    run(feeds)
    return time.perf_counter() - began


def feeds_for(model: LookWhen, batch: int, sparsity: float) -> dict[str, Any]:
    """Random inputs of the extractor."""
    kept = tokens_to_keep(sparsity, model.config.tokens)
    _, inputs = example_inputs(model.config, batch, kept)
    names = ("patches", "positions", "lengths", "context")
    return {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}


def measure_ways(
    engines: dict[str, Engine], model: LookWhen, sparsities: Sequence[float], rounds: int
) -> dict[str, Any]:
    """Seconds of the selector, and of the extractor at each sparsity, in each way."""
    clip_small, _ = example_inputs(model.config, 1, 1)
    small = {"clip_small": clip_small.numpy()}
    calls: dict[str, Callable[[], float]] = {}
    for sparsity in sparsities:
        feeds = feeds_for(model, 1, sparsity)
        for name, engine in engines.items():
            calls[f"{name}/{sparsity:g}"] = _call(engine.extractor, feeds)
    for name, engine in engines.items():
        calls[f"{name}/select"] = _call(engine.selector, small)
    samples = take_turns(calls, rounds, what="ways")
    return {
        name: {
            step: {
                "seconds": spread(samples[f"{name}/{step}"]),
                "times_faster": ratios(samples[f"{BASE.name}/{step}"], samples[f"{name}/{step}"]),
                "samples_seconds": samples[f"{name}/{step}"],
            }
            for step in ("select", *(f"{sparsity:g}" for sparsity in sparsities))
        }
        for name in engines
    }


def _call(run: Run, feeds: dict[str, Any]) -> Callable[[], float]:
    return lambda: timed(run, feeds)


def measure_batches(
    engine: Engine, model: LookWhen, sparsities: Sequence[float], rounds: int
) -> dict[str, Any]:
    """Seconds of a clip when several of the same sparsity run together."""
    calls = {
        f"{sparsity:g}/{batch}": _call(engine.extractor, feeds_for(model, batch, sparsity))
        for sparsity in sparsities
        for batch in BATCHES
    }
    samples = take_turns(calls, rounds, what="batches")
    return {
        f"{sparsity:g}": {
            str(batch): {
                "seconds_per_clip": spread([s / batch for s in samples[f"{sparsity:g}/{batch}"]]),
                "times_faster": ratios(
                    samples[f"{sparsity:g}/1"],
                    [s / batch for s in samples[f"{sparsity:g}/{batch}"]],
                ),
                "samples_seconds": samples[f"{sparsity:g}/{batch}"],
            }
            for batch in BATCHES
        }
        for sparsity in sparsities
    }


def measure_callers(
    graphs: Graphs, cpus: int, sparsity: float, seconds: float, rounds: int
) -> dict[str, Any]:
    """Runs a second of several callers of one session, who share the CPUs."""
    feeds = feeds_for(graphs.model, 1, sparsity)
    choices = {
        "all threads": BASE,
        "all threads, spinning": replace(BASE, spinning=True),
        "one thread": replace(BASE, threads=1),
        "one thread, spinning": replace(BASE, threads=1, spinning=True),
    }
    calls = {}
    for name, way in choices.items():
        run = build(way, graphs, cpus).extractor
        for callers in sorted({1, 2, cpus}):
            calls[f"{name}/{callers}"] = _rate(run, feeds, callers, seconds)
    samples = take_turns(calls, rounds, warm=0, what="callers")
    return {
        name: {"runs_per_second": spread(rates), "samples": rates}
        for name, rates in samples.items()
    }


def _rate(run: Run, feeds: dict[str, Any], callers: int, seconds: float) -> Callable[[], float]:
    def measure() -> float:
        done = [0] * callers
        began = time.perf_counter()

        def call(number: int) -> None:
            while time.perf_counter() - began < seconds:
                run(feeds)
                done[number] += 1

        threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done) / (time.perf_counter() - began)

    return measure


def show(name: str, measured: dict[str, Any], accuracy: dict[str, Any] | None) -> None:
    table = Table(title=f"{name}: milliseconds, times the base's speed")
    steps = list(next(iter(measured.values())))
    for column in ("way", *steps, *(("top-1, agreement",) if accuracy else ())):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, of_way in measured.items():
        cells = [
            f"{1e3 * of_way[step]['seconds']['median']:.1f} "
            f"({of_way[step]['times_faster']['median']:.2f}x)"
            for step in steps
        ]
        if accuracy:
            points = accuracy.get(way, {})
            cells.append(
                "; ".join(
                    f"{sparsity}: {point['top1']['share']:.1%}, {point['agreement']['share']:.1%}"
                    for sparsity, point in points.items()
                )
            )
        table.add_row(way, *cells)
    Console().print(table)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model", "models", multiple=True, type=click.Choice(list(SPARSITIES)),
    default=tuple(SPARSITIES), show_default=True,
)  # fmt: skip
@click.option("--way", "only", multiple=True, help="Only this way besides the base; repeatable.")
@click.option("--sparsity", "sparsities", type=click.FloatRange(0, 1, max_open=True), multiple=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Of the base. Default: one per CPU.")
@click.option("--caller-seconds", type=float, default=2.0, show_default=True)
@click.option(
    "--held-out",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A store that `lookwhen train render` made with another seed than "
    "the training's; without it accuracy is not measured.",
)
@click.option("--clips", type=click.IntRange(1), default=600, show_default=True, help="Held out.")
@click.option(
    "--cache", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/graphs/cpu"),
    show_default=True, help="Folder for exported graphs; delete it when the exporter has changed.",
)  # fmt: skip
@out_option("cpu")
def main(
    models: tuple[str, ...], only: tuple[str, ...], sparsities: tuple[float, ...], rounds: int,
    threads: int | None, caller_seconds: float, held_out: Path | None, clips: int, cache: Path,
    out: Path,
) -> None:  # fmt: skip
    """Time the ways to run both graphs on this CPU.

    At its defaults about 6 minutes on two cores, 2 of them to export the first time, and 2 more
    for the accuracy; 8 GB of memory.
    """
    cpus = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(cpus)
    chosen = {
        name: way for name, way in ways(cpus).items() if not only or name in (BASE.name, *only)
    }
    if unknown := set(only) - set(chosen):
        raise click.UsageError(f"no way {', '.join(unknown)}; known: {', '.join(ways(cpus))}")
    if not has_openvino():
        skipped = [name for name, way in chosen.items() if way.runtime == "openvino"]
        if skipped:
            console.print("OpenVINO is not installed here and is left out: pip install openvino")
        chosen = {name: way for name, way in chosen.items() if name not in skipped}
    if held_out is None:
        console.print("no --held-out store: accuracy is not measured")
    result = describe_run(torch.device("cpu")) | {"rounds": rounds, "models": {}}
    bundle = read_bundle(default_bundle_path())
    for name in models:
        model = unpack(bundle)[0] if name == BUILT_IN else LookWhen(get_config(name))
        graphs = Graphs(model, cache / name)
        engines = {way: build(chosen[way], graphs, cpus) for way in chosen}
        steps = sparsities or SPARSITIES[name]
        measured = measure_ways(engines, model, steps, rounds)
        accuracy = None
        if name == BUILT_IN and held_out is not None:
            compared = {way: engines[way] for way in (BASE.name, *_NUMERICS) if way in engines}
            try:
                accuracy = measure_accuracy(
                    compared, BASE.name, bundle.manifest, held_out, clips, (0.7, 0.9)
                )
            except StoreError as error:
                raise click.ClickException(str(error)) from None
        result["models"][name] = {
            "ways": measured,
            "batches": measure_batches(engines[BASE.name], model, steps[-2:], rounds),
            "callers": measure_callers(graphs, cpus, steps[-1], caller_seconds, min(rounds, 3)),
            "accuracy": accuracy,
        }
        show(name, measured, accuracy)
    write_result(out, result)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
