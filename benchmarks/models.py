"""``python -m benchmarks.models``: every system of the paper's table, timed on one engine.

torch on a CPU, eager, in float32: what runs all of them. In each round every system is built with
random weights, which change nothing about the time, and takes one view of a rendered clip from
frames to logits; only one is in memory at a time. Time is that of the CPU, which other work on the
machine hardly changes; with one thread, the default, it is the time of a view on a free core.
Accuracy is what was published; nothing here measures it.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.command_line import out_option
from benchmarks.network.__main__ import frames_of
from benchmarks.network.contenders import SparseClassifier
from benchmarks.record import describe_run, write_result
from benchmarks.samples import take_turns
from lookwhen.bench.samples import spread
from model.classifier import LookWhen
from training.baselines import RLT, Baseline
from training.moving_things.clip import render_clip
from training.systems import SYSTEMS, System

# Above this a system takes minutes and gigabytes: InternVideo2-1B, V-JEPA 2 L, VideoMambaPro-M.
LARGEST_GMACS = 300


def runnable(system: System, network: nn.Module) -> Callable[[Tensor], object]:
    """A function from frames, uint8 [1, T, H, W, 3], to an answer."""
    if system.sparsity is not None:
        assert isinstance(network, LookWhen)
        return SparseClassifier(network, system.sparsity)
    return network


def macs_of(system: System, network: nn.Module, frames: Tensor) -> int:
    """Multiply-accumulates of a view; of RLT those of these very frames."""
    if isinstance(network, Baseline) and isinstance(network, RLT):
        return network.macs(network.counts(int(network.changed(frames).sum())))
    return system.macs(network)


def measure(
    systems: Mapping[str, System], video: bytes, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """CPU seconds of a view by system, a list over rounds, and its multiply-accumulates."""
    views: dict[tuple[int, int, int], NDArray[np.uint8]] = {}
    macs: dict[str, int] = {}

    def once(system: System) -> float:
        if system.view not in views:
            views[system.view] = frames_of(video, system.view, 1)
        frames = torch.from_numpy(views[system.view])
        torch.manual_seed(0)
        network = system.build().eval()
        run = runnable(system, network)
        with torch.inference_mode():
            macs[system.name] = macs_of(system, network, frames)
            began = time.process_time()
            run(frames)
            return time.process_time() - began

    ways = {name: lambda system=system: once(system) for name, system in systems.items()}
    return take_turns(ways, rounds, warm=0, what="systems"), macs


def chosen(only: tuple[str, ...], largest: float) -> dict[str, System]:
    """The systems to run, by name.

    Raises:
        click.UsageError: there is none of that name.
    """
    for name in only:
        if name not in SYSTEMS:
            raise click.UsageError(f"no system {name!r}; known: {', '.join(SYSTEMS)}")
    if only:
        return {name: SYSTEMS[name] for name in only}
    # Before anything is built: the counts need no memory.
    return {name: s for name, s in SYSTEMS.items() if s.count().macs <= largest * 1e9}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, help="Only this system; repeatable.")
@click.option("--largest", default=LARGEST_GMACS, show_default=True, type=click.FloatRange(0),
              help="Leave out systems of more multiply-accumulates, in G.")  # fmt: skip
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Of torch.")
@out_option("models")
def main(only: tuple[str, ...], largest: float, rounds: int, threads: int, out: Path) -> None:
    """Time the paper's systems in turns, one view each.

    At its defaults about 10 minutes of one core, and 3 GB of memory.
    """
    torch.set_num_threads(threads)
    systems = chosen(only, largest)
    if not systems:
        raise click.UsageError(f"no system has {largest:g} G multiply-accumulates or fewer")
    samples, macs = measure(systems, render_clip(seed=1, index=0).video, rounds)
    rows: list[dict[str, Any]] = []
    for name, taken in samples.items():
        published = SYSTEMS[name].published
        rows.append(
            {
                "name": name,
                "macs": macs[name],
                "seconds": spread(taken),
                "published": {
                    "gmacs": published.gmacs,
                    "kinetics": published.kinetics,
                    "something": published.something,
                },
            }
        )
        click.echo(f"{name:28}{macs[name] / 1e9:8.1f} G {spread(taken)['median']:8.2f} s")
    result = describe_run(torch.device("cpu")) | {
        "rounds": rounds,
        "left_out": [name for name in SYSTEMS if name not in systems],
        "rows": rows,
        "samples_seconds": samples,
    }
    write_result(out, result)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
