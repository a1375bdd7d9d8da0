"""``python -m benchmarks.network``: LookWhen's network against others, on the same engine.

Every network takes frames (uint8) to logits, alone in a process; the processes are asked in turns.
torch runs all of them; onnxruntime those whose shapes do not depend on the clip. A row is compared
only with rows of its own engine, and with a large matrix product on it: the ceiling.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import out_option
from benchmarks.decoding import decode
from benchmarks.network.contenders import FAMILIES, contenders
from benchmarks.network.runners import CEILING, DTYPES, Plan, Runner, RunnerError, running
from benchmarks.record import describe_run, write_result
from benchmarks.samples import take_turns
from lookwhen.bench.samples import ratios, spread
from service.errors import ClipError
from training.moving_things.clip import render_clip
from video.facts import ViewPlan

# What the paper compares with, and what shows how much of it is the tokens' doing.
REFERENCES = ("InternVideo2", "dense ViT")


def measure(plan: Plan, names: Sequence[str], video: bytes, rounds: int) -> dict[str, Any]:
    """Time the networks of one engine in turns.

    Raises:
        RunnerError: one of them cannot be built or run.
    """
    found = contenders(FAMILIES[plan.family])
    clips = {view: frames_of(video, view, plan.batch) for view in {c.view for c in found.values()}}
    runnable = [n for n in names if plan.engine == "torch" or found[n].exportable]
    with running(plan, runnable, clips) as runners:
        samples = take_turns(
            {name: runner.run for name, runner in runners.items()},
            rounds,
            what=f"{plan.engine} {plan.device} {plan.dtype}, batch {plan.batch}",
        )
        return {
            "engine": plan.engine,
            "device": plan.device,
            "dtype": plan.dtype,
            "batch": plan.batch,
            "threads": plan.threads,
            **summarise(runners, samples, plan.batch),
            "samples_seconds": samples,
        }


def summarise(
    runners: dict[str, Runner], samples: dict[str, list[float]], batch: int
) -> dict[str, Any]:
    """The ceiling, and what is said of each network."""
    ceiling = [runners[CEILING].facts()["macs"] / seconds for seconds in samples[CEILING]]
    rows = []
    for name, runner in runners.items():
        if name == CEILING:
            continue
        taken, macs = samples[name], runner.facts()["macs"]
        rates = [batch * macs / seconds for seconds in taken]
        rows.append(
            {
                "name": name,
                "macs": macs,
                "seconds": spread(taken),
                "clips_per_second": spread([batch / seconds for seconds in taken]),
                "peak_bytes": runner.peak_bytes(),
                "share_of_ceiling": ratios(rates, ceiling),
                # Were every multiply-accumulate as fast as the large product's.
                "clips_per_second_at_ceiling": spread(ceiling)["median"] / macs,
                "times_faster": {
                    other: {
                        **ratios(samples[other], taken),
                        "macs": runners[other].facts()["macs"] / macs,
                    }
                    for other in REFERENCES
                    if other in runners
                },
            }
        )
    return {"macs_per_second_ceiling": spread(ceiling), "rows": rows}


def frames_of(video: bytes, view: tuple[int, int, int], batch: int) -> NDArray[np.uint8]:
    """The centre view of a clip, ``batch`` times: uint8 [B, T, H, W, 3]."""
    frames, side, _ = view
    plan = ViewPlan(temporal=1, spatial=1, frames=frames, size=side, short_side=side)
    return np.repeat(decode(video, plan), batch, axis=0)


def show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['engine']}, {result['device']}, {result['dtype']}, "
                        f"batch {result['batch']}, {result['threads']} threads")  # fmt: skip
    for column in ("network", "GMACs", "seconds", "clips/s", "peak MB", "of ceiling"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for reference in REFERENCES:
        table.add_column(f"x {reference} (by MACs)", justify="right")
    for row in result["rows"]:
        cells = [row["name"], f"{row['macs'] / 1e9:.1f}", _range(row["seconds"], 3)]
        cells += [_range(row["clips_per_second"], 2), _megabytes(row["peak_bytes"])]
        cells.append(f"{row['share_of_ceiling']['median']:.0%}")
        for reference in REFERENCES:
            times = row["times_faster"].get(reference)
            cells.append(f"{_range(times, 2)} ({times['macs']:.2f})" if times else "")
        table.add_row(*cells)
    Console().print(table)
    ceiling = result["macs_per_second_ceiling"]
    click.echo(f"ceiling: {ceiling['median'] / 1e9:.0f} G multiply-accumulates a second")


def _range(value: dict[str, float], digits: int) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f}-{value['high']:.{digits}f})"


def _megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:.0f}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--family",
    type=click.Choice(list(FAMILIES)),
    default="b16",
    show_default=True,
    help="mini16 is small, to try the benchmark with.",
)
@click.option(
    "--engine",
    "engines",
    type=click.Choice(["torch", "onnxruntime"]),
    multiple=True,
    default=("torch", "onnxruntime"),
    show_default=True,
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--dtype", type=click.Choice(list(DTYPES)), help="Default: fp32 on a CPU, fp16 on a GPU."
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    help="Clips of one run; repeatable. Default: 1 on a CPU, 1 and 64 on a GPU.",
)
@click.option("--only", multiple=True, help="Only this network; repeatable.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Of one run. Default: one per CPU.")
@click.option("--side", type=click.IntRange(16), help="Of the ceiling's matrices. Default: 4096, "
              "8192 on a GPU.")  # fmt: skip
@click.option(
    "--clip",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What is looked at; RLT's cost depends on it. Default: a rendered clip.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/graphs"),
    show_default=True,
    help="Folder for exported graphs, about 4 GB for b16.",
)
@out_option("network")
def main(
    family: str, engines: tuple[Any, ...], device: str, dtype: str | None,
    batches: tuple[int, ...], only: tuple[str, ...], rounds: int, threads: int | None,
    side: int | None, clip: Path | None, cache: Path, out: Path,
) -> None:  # fmt: skip
    """Time LookWhen at 0 to 95 % sparsity against dense and thinned video transformers.

    At its defaults about 8 minutes on two cores, 3 of them to export graphs the first time, and
    10 GB of memory. Results of other devices go to other files: --out.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("torch finds no CUDA device here")
    known = contenders(FAMILIES[family])
    for name in only:
        if name not in known:
            raise click.UsageError(f"no network {name!r}; known: {', '.join(known)}")
    kind = dtype or ("fp16" if device == "cuda" else "fp32")
    if kind == "bf16" and "onnxruntime" in engines:
        raise click.UsageError("onnxruntime is fed numpy's arrays, which have no bf16: use fp16")
    video = clip.read_bytes() if clip else render_clip(seed=1, index=0).video
    result = describe_run(torch.device(device)) | {
        "family": family,
        "clip": "given" if clip else "rendered, seed 1, index 0",
        "rounds": rounds,
        "runs": [],
    }
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        for batch in batches or ((1, 64) if device == "cuda" else (1,)):
            for engine in engines:
                plan = Plan(
                    family=family, engine=engine, device=device, dtype=kind, batch=batch,
                    threads=threads or cpus or 1, cache=cache.absolute(),
                    side=side or (8192 if device == "cuda" else 4096),
                )  # fmt: skip
                run = measure(plan, only or list(known), video, rounds)
                result["runs"].append(run)
                show(run)
    except (RunnerError, ClipError) as error:
        raise click.ClickException(str(error)) from None
    write_result(out, result)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
