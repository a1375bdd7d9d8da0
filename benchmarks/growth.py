"""``python -m benchmarks.growth``: how cost grows, and that memory does not.

One axis at a time: length of the clip, resolution, sparsity, views, callers. Then many requests of
all kinds, while the memory of the service and its workers is watched.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.command_line import bundle_option, out_option
from benchmarks.record import describe_run, write_result
from benchmarks.serving.servers import (
    LOOKWHEN,
    Server,
    ServerError,
    SetUp,
    running,
    wait_until_ready,
)
from lookwhen.bench.connections import Client, request_bytes
from lookwhen.bench.samples import percentile, spread
from training.moving_things.encode import encode

console = Console(stderr=True)

FPS = 16
SECONDS = (2, 8, 30, 90)
HEIGHTS = (240, 480, 720, 1080, 2160)
SPARSITIES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
VIEWS = ("1x1", "2x1", "4x1", "1x3", "4x3")
CALLERS = (1, 2, 4, 8, 16)
STAGES = ("upload", "decode", "select", "queue", "extract", "total")

_SPARSITY = 0.9
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Point:
    """One clip asked for in one way; ``at`` is its place on the axis."""

    at: str
    video: bytes
    query: str


def pattern(seconds: float, height: int) -> bytes:
    """An H.264 clip of 4:3 (16:9 from 720 lines on): a bright square wanders over a gradient."""
    width = height * (16 if height >= 720 else 4) // (9 if height >= 720 else 3) // 2 * 2
    frames = max(2, round(seconds * FPS))
    ramp = np.linspace(0, 160, width, dtype=np.uint8)
    still = np.broadcast_to(ramp[None, :, None], (height, width, 3))
    video: NDArray[np.uint8] = np.repeat(still[None], frames, axis=0)
    side = height // 6
    for index in range(frames):
        top = round((height - side) * (0.5 + 0.5 * np.sin(index / 9)))
        left = round((width - side) * (0.5 + 0.5 * np.cos(index / 13)))
        video[index, top : top + side, left : left + side] = (250, 240, 90)
    return encode(video, FPS, preset="ultrafast")


def axes(longest: float, highest: int) -> dict[str, list[Point]]:
    """Every axis that one caller can walk; clips beyond the bounds are left out."""
    plain = pattern(2, 240)
    usual = f"sparsity={_SPARSITY:g}"
    return {
        "seconds": [
            Point(f"{seconds}", pattern(seconds, 240), usual)
            for seconds in SECONDS
            if seconds <= longest
        ],
        "height": [
            Point(f"{height}", pattern(1, height), usual) for height in HEIGHTS if height <= highest
        ],
        "sparsity": [Point(f"{s:g}", plain, f"sparsity={s:g}") for s in SPARSITIES],
        "views": [Point(views, plain, f"{usual}&views={views}") for views in VIEWS],
    }


async def walk(server: Server, points: Sequence[Point], rounds: int, what: str) -> list[Any]:
    """Ask for all points in turns: the stages' seconds, and those the caller saw."""
    client = Client(server.url)
    samples: list[dict[str, list[float]]] = [{} for _ in points]
    requests = [_request(server, point) for point in points]
    for turn in track(range(rounds + 1), what, console=console):
        order = list(range(len(points)))
        for index in order if turn % 2 else reversed(order):
            taken = await _ask(client, requests[index])
            if turn:  # the first warms up
                for name, seconds in taken.items():
                    samples[index].setdefault(name, []).append(seconds)
    client.close()
    return [
        {
            "at": point.at,
            "bytes": len(point.video),
            "seconds": {name: spread(values) for name, values in taken.items()},
            "samples_seconds": taken,
        }
        for point, taken in zip(points, samples, strict=True)
    ]


def _request(server: Server, point: Point) -> bytes:
    return request_bytes(f"{server.url}/classify?{point.query}", "video/mp4", point.video)


async def _ask(client: Client, request: bytes) -> dict[str, float]:
    began = time.perf_counter()
    answer = await client.ask(request, _PATIENCE_SECONDS)
    taken = time.perf_counter() - began
    if answer.status != 200:
        raise ServerError(f"the service answers {answer.status}: {answer.body.decode()}")
    timing = json.loads(answer.body)["timing"]
    return {"caller": taken, **{stage: timing[stage] for stage in STAGES}}


async def crowd(server: Server, callers: int, seconds: float, video: bytes) -> dict[str, Any]:
    """Some callers of one clip who ask again at once."""
    client, request = (
        Client(server.url),
        _request(server, Point("", video, f"sparsity={_SPARSITY}")),
    )
    began = time.perf_counter()

    async def caller() -> list[float]:
        latencies = []
        while time.perf_counter() - began < seconds:
            latencies.append((await _ask(client, request))["caller"])
        return latencies

    groups = await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed = time.perf_counter() - began
    client.close()
    latencies = [latency for group in groups for latency in group]
    return {
        "at": str(callers),
        "clips_per_second": len(latencies) / elapsed,
        "latency_seconds": {
            "p50": percentile(latencies, 0.5),
            "p99": percentile(latencies, 0.99),
        },
        "memory_bytes": server.memory_bytes(),
        "samples_seconds": [round(latency, 4) for latency in latencies],
    }


async def soak(server: Server, points: Sequence[Point], requests: int, callers: int) -> Any:
    """Many requests of all kinds; memory is looked at forty times on the way."""
    client = Client(server.url)
    bodies = [_request(server, point) for point in points]
    every = max(1, requests // 40)
    memory: list[tuple[int, int]] = []
    done = 0
    numbers = iter(track(range(requests), "memory", console=console))

    async def caller() -> None:
        nonlocal done
        for number in numbers:
            await _ask(client, bodies[number % len(bodies)])
            done += 1
            if done % every == 0:
                memory.append((done, server.memory_bytes()))

    await asyncio.gather(*(caller() for _ in range(callers)))
    client.close()
    return {"requests": requests, "callers": callers, **flatness(memory), "samples": memory}


def flatness(memory: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Median bytes of the second and of the last quarter of the samples, and their quotient.

    The first quarter is left out: allocators grow to the largest clip that they have seen.
    """
    used = [count for _, count in memory]
    quarter = max(1, len(used) // 4)
    early, late = used[quarter : 2 * quarter] or used, used[-quarter:]
    first, last = statistics.median(early), statistics.median(late)
    return {"early_bytes": first, "late_bytes": last, "late_over_early": last / first}


def show(result: dict[str, Any]) -> None:
    for axis, rows in result["axes"].items():
        table = Table(title=f"{axis}: milliseconds, medians")
        for column in (axis, "caller", "upload", "decode", "select", "extract"):
            table.add_column(column, justify="right")
        for row in rows:
            cells = [f"{1e3 * row['seconds'][name]['median']:.1f}"
                     for name in ("caller", "upload", "decode", "select", "extract")]  # fmt: skip
            table.add_row(row["at"], *cells)
        Console().print(table)
    for row in result["callers"]:
        click.echo(
            f"{row['at']} callers: {row['clips_per_second']:.1f} clips/s, "
            f"p99 {1e3 * row['latency_seconds']['p99']:.0f} ms, {row['memory_bytes'] / 1e6:.0f} MB"
        )
    memory = result["memory"]
    click.echo(
        f"memory: {memory['early_bytes'] / 1e6:.0f} MB early, {memory['late_bytes'] / 1e6:.0f} MB "
        f"late in {memory['requests']} requests ({memory['late_over_early']:.3f} times)"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=8,
    show_default=True,
    help="For each number of callers.",
)
@click.option(
    "--callers", type=click.IntRange(1), multiple=True, default=CALLERS, show_default=True
)
@click.option(
    "--requests",
    type=click.IntRange(8),
    default=2000,
    show_default=True,
    help="While memory is watched.",
)
@click.option(
    "--longest",
    type=float,
    default=SECONDS[-1],
    show_default=True,
    help="Seconds of the longest clip.",
)
@click.option(
    "--highest", type=int, default=HEIGHTS[-1], show_default=True, help="Lines of the largest clip."
)
@bundle_option()
@out_option("growth")
def main(
    rounds: int, seconds: float, callers: tuple[int, ...], requests: int, longest: float,
    highest: int, bundle: Path | None, out: Path,
) -> None:  # fmt: skip
    """Measure a service that this command starts. About 4 minutes at the defaults."""
    cpus = len(os.sched_getaffinity(0))
    found = axes(longest, highest)
    with tempfile.TemporaryDirectory() as logs:
        setup = SetUp(bundle, cpus, _PATIENCE_SECONDS, max(callers), Path(), Path(logs))
        try:
            with running(LOOKWHEN, setup) as server:
                wait_until_ready(server)
                result = describe_run(torch.device("cpu")) | {
                    "rounds": rounds,
                    "sparsity": _SPARSITY,
                    "axes": {
                        axis: asyncio.run(walk(server, points, rounds, axis))
                        for axis, points in found.items()
                    },
                    "callers": [
                        asyncio.run(crowd(server, number, seconds, found["sparsity"][0].video))
                        for number in callers
                    ],
                    "memory": asyncio.run(
                        soak(server, [p for axis in found.values() for p in axis], requests, 4)
                    ),
                }
        except ServerError as error:
            raise click.ClickException(str(error)) from None
    write_result(out, result)
    show(result)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
