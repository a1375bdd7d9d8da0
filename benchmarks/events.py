"""Rendered clips of a few events, for networks that are trained from scratch in minutes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets import DataSet
from training.evaluation import Method, measure
from training.processes import Processes

# Events that so small a network can learn in minutes; all others take it hours.
EVENTS = ("nothing moves", "only the camera moves", "appearing", "disappearing")


def labelled(dataset: DataSet, labels: Sequence[str]) -> DataSet:
    """The clips of some labels; the head keeps a row for every label.

    Raises:
        ValueError: a label that the data set has not.
        DataSetError: no clip is left.
    """
    for label in labels:
        if label not in dataset.labels:
            raise ValueError(f"no label {label!r}; known: {', '.join(dataset.labels)}")
    wanted = {dataset.labels.index(label) for label in labels}
    return dataset.subset(
        number for number, entry in enumerate(dataset.entries) if entry.labels[0] in wanted
    )


def right_answers(
    method: Method, held: DataSet, *, workers: int, processes: Processes
) -> list[NDArray[np.bool_]]:
    """Which clips a method answers rightly, bool [n] for each of its settings in their order."""
    measured = measure(method, held, workers=workers, processes=processes)
    targets = torch.tensor([held.entries[entry].labels[0] for entry in measured.entries])
    return [
        held.task.hits(torch.from_numpy(outcome.probabilities), targets)["top1"]
        for outcome in measured.outcomes
    ]
