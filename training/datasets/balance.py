"""Rare and difficult classes shown more often."""

from collections.abc import Mapping

import numpy as np
import torch

from training.datasets.entries import DataSet


def balanced(
    dataset: DataSet, strength: float, seed: int, emphasis: Mapping[str, float] | None = None
) -> DataSet:
    """Repeat entries of rare or difficult classes; each repetition is augmented for itself.

    A class of n clips, where the largest has m, is repeated (m / n) ** strength times, and an entry
    of several classes as its rarest one. Parts of a repetition are given to some of the entries, by
    chance.

    Args:
        strength: 0 leaves the set as it is, 1 shows every class as often as the largest, 1/2 is in
            between.
        seed: of that chance.
        emphasis: how many times as often as that a label is shown, 1 or more.

    Raises:
        ValueError: a strength outside [0, 1], an emphasis below 1 or of no label of the set.

    Source: repeat-factor sampling, as for LVIS, there with a strength of 1/2 and for classes below
    a threshold only.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of balancing must lie in [0, 1], got {strength}")
    emphasis = emphasis or {}
    for label, times in emphasis.items():
        if label not in dataset.labels:
            raise ValueError(f"{label!r} is to be emphasised, but {dataset.name} has no such label")
        if times < 1:
            raise ValueError(f"the emphasis of {label!r} must be at least 1, got {times}")
    if strength == 0 and not emphasis:
        return dataset
    task = dataset.task
    targets = torch.stack([task.target(entry.labels) for entry in dataset.entries])
    shown = task.dense(targets).numpy() > 0.5  # bool [entries, C]
    counts = shown.sum(axis=0)
    factors = (counts.max(initial=1) / np.maximum(counts, 1)) ** strength
    factors *= [emphasis.get(label, 1.0) for label in dataset.labels]
    wanted = np.where(shown, factors, 1.0).max(axis=1)
    chance = np.random.default_rng((seed, 3)).random(len(wanted))
    times = np.floor(wanted).astype(np.int64) + (chance < wanted % 1)
    return dataset.subset(np.repeat(np.arange(len(dataset)), times).tolist())
