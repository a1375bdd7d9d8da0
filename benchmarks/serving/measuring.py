"""Every server's capacity, then its points in turns."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console

from benchmarks.record import describe_run
from benchmarks.serving.arrivals import MIX, Arrival, poisson
from benchmarks.serving.bare import measure_bare
from benchmarks.serving.hosted import Classifier
from benchmarks.serving.load import Outcome, Sample, Target, closed_loop, open_loop, run
from benchmarks.serving.nothing import measure_generator
from benchmarks.serving.points import as_text, summarise, throughput_at
from benchmarks.serving.servers import (
    KINDS,
    LOOKWHEN,
    Kind,
    Server,
    ServerError,
    SetUp,
    reader_of,
    request_to,
    running,
    wait_until_ready,
)
from service.settings import load_settings
from training.moving_things.clip import render_clip

console = Console(stderr=True)

_READY_SECONDS = 300.0
_TRIES = 3
_WARM_SECONDS = 2.0
_CALLERS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        seconds: of a point, over all rounds.
        rates: of the curve, as shares of a server's own capacity.
        overloads: the same, above 1.
    """

    seconds: float
    rounds: int
    rates: tuple[float, ...]
    overloads: tuple[float, ...]
    capacity_seconds: float
    seed: int


class Material:
    """The clips, and the label of each at every sparsity, by the code that the rivals host."""

    def __init__(self, clips: int, bundle: Path | None) -> None:
        self.videos = [render_clip(seed=1, index=index).video for index in range(clips)]
        classifier = Classifier(bundle, threads=len(os.sched_getaffinity(0)))
        levels = sorted({*MIX, *load_settings().sparsity_levels})
        self._labels: dict[tuple[int, float], str] = {}
        for index, video in enumerate(self.videos):
            frames = classifier.decode(video)
            for level in levels:
                (label,) = classifier.classify([frames], [level])
                self._labels[index, level] = label

    def truth(self, clip: int, sparsity: float) -> str:
        return self._labels.get((clip, sparsity), "a sparsity that nobody asked for")

    def target(self, server: Server, deadline: float) -> Target:
        return Target(
            url=server.url,
            requests=server.requests(self.videos, list(MIX)),
            read=reader_of(server.kind),
            truth=self.truth,
            deadline=deadline,
        )


def verify(server: Server, target: Target, clips: int) -> None:
    """Wait until it answers, then have it answer every sparsity, and every clip, rightly.

    One that has just started may give a request up that it would answer later: it is asked again.

    Raises:
        ServerError: it does not, or answers another label than the others.
    """
    patient = Target(target.url, target.requests, target.read, target.truth, _READY_SECONDS)
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        (first,) = run(_ask_once(patient, [(0, 0.9)]))
        if first.outcome is Outcome.RIGHT:
            break
        ended = server.process.poll() is not None or time.monotonic() > deadline
        if first.outcome is Outcome.WRONG or ended:
            raise ServerError(f"{server.kind.name} answers {first.outcome} to the first clip")
        time.sleep(0.5)
    everything = [(index % clips, list(MIX)[index % len(MIX)]) for index in range(clips * 2)]
    for ask in everything:
        outcome = None
        for _ in range(_TRIES):
            (sample,) = run(_ask_once(patient, [ask]))
            outcome = sample.outcome
            if outcome not in (Outcome.EXPIRED, Outcome.REFUSED):
                break
        if outcome is not Outcome.RIGHT:
            raise ServerError(f"{server.kind.name} answers {outcome} at sparsity {ask[1]:g}")


async def _ask_once(target: Target, asks: Sequence[tuple[int, float]]) -> list[Sample]:
    samples = []
    for clip, sparsity in asks:  # one after the other
        samples += await open_loop(target, [Arrival(0.0, clip, sparsity)])
    return samples


def capacity(
    server: Server, target: Target, clips: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Right answers a second with eight callers who ask again at once, and the CPUs' time."""
    run(closed_loop(target, _CALLERS, min(_WARM_SECONDS, seconds), clips, seed + 1))
    before = server.cpu_seconds()
    samples = run(closed_loop(target, _CALLERS, seconds, clips, seed))
    spent = server.cpu_seconds() - before
    return summarise(samples, seconds) | {"cpu_seconds": spent, "samples": as_text(samples)}


def choose(
    kinds: Iterable[Kind], material: Material, setup: SetUp, plan: Plan
) -> tuple[dict[str, Kind], dict[str, Any]]:
    """Measure every way to set a server up, and take the better one of each rival."""
    measured: dict[str, Any] = {}
    best: dict[str, Kind] = {}
    for kind in kinds:
        with running(kind, setup) as server:
            target = material.target(server, setup.deadline)
            verify(server, target, len(material.videos))
            found = capacity(server, target, len(material.videos), plan.capacity_seconds, plan.seed)
        measured[kind.name] = found
        goodput = found["goodput_per_second"]
        console.print(f"{kind.name}: {goodput:.1f} clips a second with {_CALLERS} callers")
        known = best.get(kind.rival)
        if known is None or goodput > measured[known.name]["goodput_per_second"]:
            best[kind.rival] = kind
    return best, measured


def measure_round(
    kind: Kind, rates: dict[float, float], number: int, material: Material, setup: SetUp, plan: Plan
) -> list[dict[str, Any]]:
    """One turn of a server: a part of each of its points, ascending.

    Its capacity is measured again before and after them, because a machine that others share is not
    as fast in each turn: what the points are a share of is the mean of both.

    Args:
        rates: requests a second by load (share of its capacity).
    """
    points: list[dict[str, Any]] = []
    seconds = plan.seconds / plan.rounds
    clips = len(material.videos)
    with running(kind, setup) as server:
        target = material.target(server, setup.deadline)
        verify(server, target, clips)
        capacities = [capacity(server, target, clips, plan.capacity_seconds, plan.seed)]
        for load, rate in sorted(rates.items()):
            seed = plan.seed + 1000 * number + round(100 * load)
            cpu = time.process_time()
            samples = run(open_loop(target, poisson(rate, seconds, clips, seed)))
            points.append(
                {
                    "load": load,
                    "round": number,
                    "seed": seed,
                    **summarise(samples, seconds),
                    "generator_cpus": (time.process_time() - cpu) / seconds,
                    "memory_bytes": server.memory_bytes(),
                    "samples": as_text(samples),
                }
            )
            console.print(f"{kind.name}, load {load:g}: {_line(points[-1])}")
        capacities.append(capacity(server, target, clips, plan.capacity_seconds, plan.seed))
    found = fmean(capacity["goodput_per_second"] for capacity in capacities)
    return [{**point, "capacity_per_second": found} for point in points]


def _line(point: dict[str, Any]) -> str:
    latency = point["latency_seconds"]["p99"]
    p99 = "none" if latency is None else f"{1000 * latency:.0f} ms"
    counts = {name: count for name, count in point["outcomes"].items() if count}
    return (
        f"{point['goodput_per_second']:.1f} of {point['offered_per_second']:.1f} a second, "
        f"p99 {p99}, {counts}"
    )


def measure(
    rivals: tuple[str, ...], setup: SetUp, plan: Plan, material: Material, p99: float
) -> dict[str, Any]:
    """The service and these rivals: capacities first, then every point in turns; as JSON.

    Args:
        p99: seconds, the 99th percentile of latency at which throughput is compared.

    Raises:
        ServerError: a server does not start, or does not answer rightly.
    """
    wanted = (LOOKWHEN.rival, *rivals)
    kinds = [kind for kind in KINDS.values() if kind.rival in wanted and not kind.query]

    def alone() -> float:
        seconds, seed = plan.capacity_seconds, plan.seed
        return measure_bare(setup.bundle, material.videos, setup.workers, seconds, seed)

    bare = [alone()]
    chosen, measured = choose(kinds, material, setup, plan)
    bare.append(alone())
    console.print(f"decoding and inference alone: {bare[0]:.1f} and {bare[1]:.1f} clips a second")
    loads = {
        kind: {load: load * measured[kind.name]["goodput_per_second"]
               for load in (*plan.rates, *plan.overloads)}
        for kind in chosen.values()
    }  # fmt: skip
    degrading = KINDS["lookwhen, degrading"]
    if _understands(degrading, setup, material):
        most = measured[LOOKWHEN.name]["goodput_per_second"]
        loads[degrading] = {load: load * most for load in plan.overloads}
    else:
        console.print("the service has no max_sparsity: not measured while degrading")
    highest = max(rate for of_kind in loads.values() for rate in of_kind.values())
    requests = {
        (index, sparsity): request_to(LOOKWHEN, "http://127.0.0.1", video, sparsity)
        for index, video in enumerate(material.videos)
        for sparsity in MIX
    }
    generator = measure_generator(requests, len(material.videos), highest, plan.capacity_seconds)
    points: dict[str, list[dict[str, Any]]] = {kind.name: [] for kind in loads}
    for number in range(plan.rounds):
        # Every other round backwards, so that no server always follows the same one.
        for kind in list(loads) if number % 2 == 0 else reversed(loads):
            points[kind.name] += measure_round(kind, loads[kind], number, material, setup, plan)
    return describe_run(torch.device("cpu")) | {
        "deadline_seconds": setup.deadline,
        "p99_bound_seconds": p99,
        "mix": {f"{sparsity:g}": share for sparsity, share in MIX.items()},
        "clips": len(material.videos),
        "workers": setup.workers,
        "queue": setup.queue,
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "generator": generator,
        "bare_per_second": bare,
        "capacities": measured,
        "servers": {
            kind.name: {
                "rival": kind.rival,
                "batch": kind.batch,
                "capacity_per_second": measured.get(kind.name, measured[LOOKWHEN.name])[
                    "goodput_per_second"
                ],
                "cpu_seconds_per_clip": _cpu_seconds_per_clip(
                    measured.get(kind.name), plan.capacity_seconds
                ),
                "throughput_at_p99": throughput_at(points[kind.name], p99),
                "points": points[kind.name],
            }
            for kind in loads
        },
    }


def _cpu_seconds_per_clip(found: dict[str, Any] | None, seconds: float) -> float | None:
    """CPU time a clip of a server at its capacity; None where that was not measured."""
    if found is None or not found["goodput_per_second"]:
        return None
    return float(found["cpu_seconds"] / (found["goodput_per_second"] * seconds))


def _understands(kind: Kind, setup: SetUp, material: Material) -> bool:
    """Whether the service takes the parameters of ``kind``."""
    with running(kind, setup) as server:
        wait_until_ready(server)
        (sample,) = run(_ask_once(material.target(server, _READY_SECONDS), [(0, 0.9)]))
        return sample.outcome is Outcome.RIGHT
