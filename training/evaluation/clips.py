"""Which clips of a data set a network is asked about, and how their classes are numbered."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.datasets import DataSet, DataSetError, TopOne


def fit_labels(dataset: DataSet, labels: Sequence[str]) -> DataSet:
    """Number the classes of a data set as a network does, which was trained on other clips.

    A folder or list may lack some of the classes that were trained.

    Raises:
        DataSetError: a class that the network does not know, or several labels per clip, which
            must be numbered alike.
    """
    if tuple(dataset.labels) == tuple(labels):
        return dataset
    unknown = [label for label in dataset.labels if label not in labels]
    if unknown:
        raise DataSetError(f"{dataset.name}: the network does not know the class {unknown[0]!r}")
    if not isinstance(dataset.task, TopOne):
        raise DataSetError(f"{dataset.name}: its classes are not numbered as the network's")
    number = [labels.index(label) for label in dataset.labels]
    entries = tuple(
        replace(entry, labels=tuple(number[label] for label in entry.labels))
        for entry in dataset.entries
    )
    return replace(
        dataset, entries=entries, labels=tuple(labels), task=TopOne(len(labels)), mirror=None
    )


def some_clips(dataset: DataSet, clips: int) -> DataSet:
    """Take a number of clips: the first of a store, whose clips are in random order; otherwise a
    sample, the same whenever it is taken, because folders and lists are sorted by class."""
    if clips >= len(dataset):
        return dataset
    if all(entry.stored is not None for entry in dataset.entries):
        return dataset.subset(range(clips))
    drawn = np.random.default_rng(0).permutation(len(dataset))[:clips]
    return dataset.subset(np.sort(drawn).tolist())
