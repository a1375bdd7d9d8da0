"""What tells a data set from another one, wherever it lies: runs and stores keep it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from training.datasets.entries import DataSet


def data_digest(dataset: DataSet) -> str:
    """SHA-256 over the clips in their order.

    Their names below the folder they share, so that a data set may be moved, and their spans; of
    clips in a store what they follow from (such as a renderer's seed) and their numbers. Labels do
    not matter: no teacher sees them.
    """
    paths = [os.path.abspath(entry.path) for entry in dataset.entries]  # noqa: PTH100
    above = os.path.commonpath({os.path.dirname(path) for path in paths})  # noqa: PTH120
    digest = hashlib.sha256()
    # Opened anew: a store of this process may have been written again since it was read.
    origins: dict[Path, list[Any]] = {}
    for entry, path in zip(dataset.entries, paths, strict=True):
        if entry.store is None:
            identity: list[Any] = [os.path.relpath(path, above), str(entry.span)]
        else:
            if entry.path not in origins:
                origins[entry.path] = list(entry.store(entry.path).origin)
            identity = [*origins[entry.path], entry.stored]
        digest.update(json.dumps(identity).encode())
    return digest.hexdigest()


def labels_digest(dataset: DataSet) -> str:
    """SHA-256 over the labels' names and those of each clip, in their order."""
    labels = [dataset.labels, [entry.labels for entry in dataset.entries]]
    return hashlib.sha256(json.dumps(labels).encode()).hexdigest()


def labelled_identity(dataset: DataSet) -> dict[str, Any]:
    """The clips, their labels, and what becomes of these in a mirror image, as JSON."""
    return {
        "clips": data_digest(dataset),
        "labels": labels_digest(dataset),
        "mirror": "never" if dataset.mirror is None else dataset.mirror_by_label,
    }
