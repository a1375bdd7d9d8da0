"""Decoding and inference with nothing around them: what no server of them can go beyond."""

import itertools
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.serving.arrivals import draw
from benchmarks.serving.hosted import Classifier
from startup.path import spawn_context

_ASKS = 4096
_WARM = 8


def measure_bare(
    bundle: Path | None, videos: Sequence[bytes], workers: int, seconds: float, seed: int
) -> float:
    """Clips a second of the mix, by a process on each CPU that does the next clip at once.

    Args:
        workers: processes, each with one thread, as the rivals' workers have.

    Raises:
        EOFError: one of them ended early.
    """
    context = spawn_context()
    pipes, processes = [], []
    for number in range(workers):
        ours, theirs = context.Pipe()
        arguments = (theirs, bundle, videos, seconds, seed + number)
        processes.append(context.Process(target=_work, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    try:
        for pipe in pipes:
            pipe.recv()  # it is warm
        for pipe in pipes:
            pipe.send(None)
        return float(sum(pipe.recv() for pipe in pipes))
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(
    pipe: Connection, bundle: Path | None, videos: Sequence[bytes], seconds: float, seed: int
) -> None:
    classifier = Classifier(bundle, threads=1)
    asks = itertools.cycle(draw(_ASKS, len(videos), np.random.default_rng(seed)))

    def classify_next() -> None:
        clip, sparsity = next(asks)
        classifier.classify([classifier.decode(videos[clip])], [sparsity])

    for _ in range(_WARM):
        classify_next()
    pipe.send(None)
    pipe.recv()
    began, count = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        classify_next()
        count += 1
    pipe.send(count / (time.monotonic() - began))
