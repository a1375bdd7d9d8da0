"""Does a faster way still give the right labels? On held-out clips, beside the base's labels."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.cpu.engines import Engine
from benchmarks.decoding import decode, plan_for
from benchmarks.feeds import extractor_feeds, selector_feeds
from bundle.schema import Manifest
from bundle.tokens import select_top_k, tokens_to_keep
from training.moving_things.labels import LABELS
from training.moving_things.store import ClipStore


def measure(
    engines: Mapping[str, Engine],
    base: str,
    manifest: Manifest,
    store: Path,
    clips: int,
    sparsities: Sequence[float],
) -> dict[str, Any]:
    """Accuracy, and agreement with ``base``, of each engine on clips decoded from their files.

    Raises:
        training.moving_things.store.StoreError: no store of clips.
    """
    held = ClipStore(store)
    plan = plan_for(manifest, "1x1")
    # Spread over the store, so that all classes are among them.
    indices = np.linspace(0, len(held) - 1, min(clips, len(held))).round().astype(int).tolist()
    truth: list[str] = []
    labels: dict[str, dict[float, list[str]]] = {
        name: {sparsity: [] for sparsity in sparsities} for name in engines
    }
    for index in track(indices, "accuracy", console=Console(stderr=True)):
        clip = held[index]
        truth.append(LABELS[clip.label])
        frames = decode(clip.video, plan)
        small = selector_feeds(manifest, frames)
        for name, engine in engines.items():
            scores, *context = engine.selector(small)
            for sparsity in sparsities:
                kept = tokens_to_keep(sparsity, manifest.geometry.tokens)
                positions = select_top_k(scores, kept)
                lengths = np.array([kept], np.int64)
                feeds = extractor_feeds(manifest, frames, positions, lengths, *context)
                logits = engine.extractor(feeds)[0]
                labels[name][sparsity].append(manifest.labels[int(logits[0].argmax())])
    return {
        name: {
            f"{sparsity:g}": {
                "clips": len(truth),
                "top1": share(answers, truth),
                "agreement": share(answers, labels[base][sparsity]),
            }
            for sparsity, answers in of_engine.items()
        }
        for name, of_engine in labels.items()
    }


def share(answers: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """The share that is as wanted, and its 95 % interval (Wilson's)."""
    n = len(wanted)
    found = sum(a == b for a, b in zip(answers, wanted, strict=True)) / n
    z = 1.96
    centre = (found + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(found * (1 - found) / n + z * z / (4 * n * n))
    return {"share": found, "low": max(0.0, centre - half), "high": min(1.0, centre + half)}
