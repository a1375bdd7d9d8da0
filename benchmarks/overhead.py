"""``python -m benchmarks.overhead``: what the service adds to decoding, selecting, extracting.

At one caller: a request over HTTP against the same three stages called one after the other in this
process, in turns. At saturation: several callers against a bare loop of the same stages with as
many at work, decoding and inferring as the service allows itself.
"""

import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.command_line import bundle_option, clips_option, out_option
from benchmarks.record import describe_run, write_result
from benchmarks.serving.arrivals import MIX, draw
from benchmarks.serving.hosted import Classifier
from benchmarks.serving.load import Outcome, Target, closed_loop, run
from benchmarks.serving.servers import (
    LOOKWHEN,
    Server,
    ServerError,
    SetUp,
    reader_of,
    running,
    wait_until_ready,
)
from lookwhen.bench.connections import Client, request_bytes
from lookwhen.bench.samples import ratios, spread
from training.moving_things.clip import render_clip

console = Console(stderr=True)

SPARSITIES = (0.0, 0.7, 0.9, 0.95)
_PATIENCE_SECONDS = 120.0

# Seconds of each step of a bare clip.
Steps = dict[str, float]


def bare(classifier: Classifier, video: bytes, sparsity: float) -> Steps:
    """The three stages, called one after the other."""
    began = time.perf_counter()
    frames = classifier.decode(video)
    decoded = time.perf_counter()
    classifier.classify([frames], [sparsity])
    done = time.perf_counter()
    return {"decode": decoded - began, "infer": done - decoded, "total": done - began}


async def one_caller(
    server: Server, classifier: Classifier, videos: Sequence[bytes], rounds: int,
    sparsities: Sequence[float],
) -> dict[float, dict[str, list[float]]]:  # fmt: skip
    """Samples by sparsity: the request as its caller sees it, its stages, and the bare steps.

    Raises:
        ServerError: an answer other than 200.
    """
    client = Client(server.url)
    samples: dict[float, dict[str, list[float]]] = {sparsity: {} for sparsity in sparsities}
    for turn in track(range(rounds + 3), "one caller", console=console):
        video = videos[turn % len(videos)]
        for sparsity in sparsities:
            url = f"{server.url}/classify?sparsity={sparsity:g}"
            request = request_bytes(url, "video/mp4", video)
            taken: dict[str, float] = {}
            for side in ("served", "bare") if turn % 2 else ("bare", "served"):
                if side == "bare":
                    steps = bare(classifier, video, sparsity)
                    taken |= {f"bare {name}": seconds for name, seconds in steps.items()}
                    continue
                began = time.perf_counter()
                answer = await client.ask(request, _PATIENCE_SECONDS)
                taken["served"] = time.perf_counter() - began
                if answer.status != 200:
                    raise ServerError(f"the service answers {answer.status}: {answer.body!r}")
                timing = json.loads(answer.body)["timing"]
                taken |= {f"stage {name}": seconds for name, seconds in timing.items()}
            if turn >= 3:  # the first rounds warm up
                for name, seconds in taken.items():
                    samples[sparsity].setdefault(name, []).append(seconds)
    client.close()
    return samples


def summarise(taken: dict[str, list[float]]) -> dict[str, Any]:
    """What one sparsity's samples say."""
    p50 = {name: spread(values)["median"] for name, values in taken.items()}
    return {
        "seconds": {name: spread(values) for name, values in taken.items()},
        "p50_served_over_bare": p50["served"] / p50["bare total"],
        "served_over_bare": ratios(taken["served"], taken["bare total"]),
        # Where the difference is: outside the service's own clock, between its stages, in them.
        "seconds_outside": p50["served"] - p50["stage total"],
        "seconds_between_stages": p50["stage total"]
        - sum(
            value for name, value in p50.items() if name.startswith("stage ") and
            name != "stage total"
        ),
        "seconds_decode_more_than_bare": p50["stage decode"] - p50["bare decode"],
        "seconds_infer_more_than_bare": p50["stage select"]
        + p50["stage extract"]
        - p50["bare infer"],
    }  # fmt: skip


def bare_loop(
    classifier: Classifier, videos: Sequence[bytes], callers: int, decoders: int, seconds: float,
    seed: int,
) -> float:  # fmt: skip
    """Clips a second of ``callers`` threads that decode, then infer.

    Args:
        decoders: how many may decode at once, as the service has workers; one infers at a time.
    """
    decoding, inferring = threading.Semaphore(decoders), threading.Lock()
    done = [0] * callers
    began = time.perf_counter()

    def caller(number: int) -> None:
        asks = draw(1000, len(videos), np.random.default_rng([seed, number]))
        while time.perf_counter() - began < seconds:
            clip, sparsity = asks[done[number] % len(asks)]
            with decoding:
                frames = classifier.decode(videos[clip])
            with inferring:
                classifier.classify([frames], [sparsity])
            done[number] += 1

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def served_loop(
    server: Server, requests: dict[tuple[int, float], bytes], clips: int, callers: int,
    seconds: float, seed: int,
) -> float:  # fmt: skip
    """Answers a second to ``callers`` who ask again at once.

    Raises:
        ServerError: some requests were not answered.
    """

    def read(body: bytes) -> tuple[str, float | None]:
        return reader_of(LOOKWHEN)(body)[0], None

    target = Target(server.url, requests, read, lambda *_: "", _PATIENCE_SECONDS)
    began = time.perf_counter()
    samples = run(closed_loop(target, callers, seconds, clips, seed))
    taken = time.perf_counter() - began
    answered = sum(s.outcome in (Outcome.RIGHT, Outcome.WRONG) for s in samples)
    if answered < len(samples):
        raise ServerError(f"{len(samples) - answered} of {len(samples)} requests got no answer")
    return answered / taken


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--rounds",
    type=click.IntRange(2),
    default=100,
    show_default=True,
    help="Requests of one caller at each sparsity.",
)
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=SPARSITIES,
    show_default=True,
)
@click.option(
    "--callers", type=click.IntRange(1), default=8, show_default=True, help="At saturation."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=10,
    show_default=True,
    help="Of one turn at saturation.",
)
@click.option(
    "--turns",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="At saturation, of each side.",
)
@clips_option()
@bundle_option()
@out_option("overhead")
def main(
    rounds: int, sparsities: tuple[float, ...], callers: int, seconds: float, turns: int,
    clips: int, bundle: Path | None, out: Path,
) -> None:  # fmt: skip
    """Measure a service that this command starts. About 3 minutes at the defaults."""
    cpus = len(os.sched_getaffinity(0))
    videos = [render_clip(seed=1, index=index).video for index in range(clips)]
    classifier = Classifier(bundle, threads=cpus)
    with tempfile.TemporaryDirectory() as logs:
        setup = SetUp(bundle, cpus, _PATIENCE_SECONDS, callers, Path(), Path(logs))
        try:
            with running(LOOKWHEN, setup) as server:
                wait_until_ready(server)
                caller = asyncio.run(one_caller(server, classifier, videos, rounds, sparsities))
                rates: dict[str, list[float]] = {"served": [], "bare": []}
                requests = server.requests(videos, list(MIX))
                for turn in track(range(turns + 1), "saturation", console=console):
                    served = served_loop(server, requests, clips, callers, seconds, turn)
                    alone = bare_loop(classifier, videos, callers, cpus, seconds, turn)
                    if turn:  # the first warms up
                        rates["served"].append(served)
                        rates["bare"].append(alone)
        except ServerError as error:
            raise click.ClickException(str(error)) from None
    result = describe_run(torch.device("cpu")) | {
        "rounds": rounds,
        "one_caller": {f"{s:g}": summarise(taken) for s, taken in caller.items()},
        "saturation": {
            "callers": callers,
            "decoders": cpus,
            "seconds": seconds,
            "clips_per_second": {name: spread(values) for name, values in rates.items()},
            "served_over_bare": ratios(rates["served"], rates["bare"]),
        },
        "samples": {
            "one_caller_seconds": {f"{s:g}": taken for s, taken in caller.items()},
            "saturation_clips_per_second": rates,
        },
    }
    write_result(out, result)
    for name, point in result["one_caller"].items():
        seconds_of = point["seconds"]
        click.echo(
            f"sparsity {name}: p50 {1e3 * seconds_of['served']['median']:.1f} ms served, "
            f"{1e3 * seconds_of['bare total']['median']:.1f} ms bare, "
            f"{point['p50_served_over_bare']:.3f} times"
        )
    full = result["saturation"]
    click.echo(
        f"saturation: {full['clips_per_second']['served']['median']:.1f} clips/s served, "
        f"{full['clips_per_second']['bare']['median']:.1f} bare, "
        f"{full['served_over_bare']['median']:.1%}"
    )
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
