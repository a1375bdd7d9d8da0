"""Every kind of data set by its name, for command lines and recipes."""

import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from training.datasets.charades import read_charades
from training.datasets.diving48 import read_diving48
from training.datasets.entries import DataSet
from training.datasets.epic_kitchens import read_epic_kitchens
from training.datasets.errors import DataSetError
from training.datasets.jester import read_jester
from training.datasets.kinetics import read_kinetics
from training.datasets.ledger import LOST_SHARE
from training.datasets.lists import (
    Layout,
    read_class_folders,
    read_index,
    read_list,
)
from training.datasets.something_something import read_something_something


class _OfficialReader(Protocol):
    def __call__(
        self, annotations: Path, clips: Path, split: str, *, missing_share: float
    ) -> DataSet: ...


_OFFICIAL: dict[str, _OfficialReader] = {
    "kinetics": read_kinetics,
    "ssv2": read_something_something,
    "diving48": read_diving48,
    "epic-kitchens": read_epic_kitchens,
    "jester": read_jester,
    "charades": read_charades,
}
# Kinds that are read from a folder alone. Readers by their names are imported when they are asked
# for: what they stand beside may be built on this package.
_FOLDERS = {
    "unlabelled": "training.datasets.lists:read_unlabelled",
    "moving-things": "training.moving_things.dataset:read_store",
}
# Files by which a folder says itself of what kind it is.
_MARKS = {"meta.json": "moving-things"}

KINDS = (*_OFFICIAL, "list", "folders", "index", *_FOLDERS)

# People's own labelled clips: what a mirror image of one is, they alone know.
OWN_KINDS = ("list", "folders", "index")


def read_dataset(
    kind: str,
    path: Path,
    *,
    clips: Path | None = None,
    split: str | None = None,
    column: str | None = None,
    missing_share: float = LOST_SHARE,
    layout: Layout | None = None,
    labels: Sequence[str] | None = None,
    segments: bool = False,
) -> DataSet:
    """Read a data set of any kind; the readers themselves have more to choose.

    Args:
        kind: one of `KINDS`.
        path: the folder of the official annotations; the list or index; the folder with one
            sub-folder per class, or of videos without labels; the store.
        clips: the folder of the clips; for a list or index by default the folder it lies in.
        split: the official split; for an index the value in ``column``; for folders by class the
            folder ``path/split``, whose classes are then numbered as in ``path/train``.
        column: of an index, by default ``split`` where a split is asked for.
        missing_share: clips that may be missing.
        layout, labels: of a list, see :func:`~training.datasets.lists.read_list`.
        segments: of Charades, see :func:`~training.datasets.charades.read_charades`.

    Raises:
        ValueError: an unknown kind.
        DataSetError: what the reader says, or an argument that the kind needs or cannot have.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of data set {kind!r}; known: {', '.join(KINDS)}")
    if segments and kind != "charades":
        raise DataSetError(f"--segments is for charades; {kind} has none")
    if kind != "list" and (layout is not None or labels is not None):
        raise DataSetError(f"--layout and --labels are for a list; {kind} has neither")
    if kind in _OFFICIAL:
        if clips is None or split is None:
            raise DataSetError(f"{kind} needs the folder of its clips and a split")
        if segments:
            return read_charades(path, clips, split, segments=True, missing_share=missing_share)
        return _OFFICIAL[kind](path, clips, split, missing_share=missing_share)
    if kind == "index":
        column = column or (None if split is None else "split")
        index = read_index(path, root=clips, split=column, missing_share=missing_share)
        return index if split is None else index.split(split)
    if kind == "folders" and split is not None:
        labels = read_class_folders(path / "train").labels
        return read_class_folders(path / split, labels=labels)
    if split is not None:
        raise DataSetError(f"{kind} has no splits of its own; split it with split_off or k_fold")
    if kind == "folders":
        return read_class_folders(path)
    if kind == "list":
        return read_list(
            path,
            root=clips,
            layout=layout or "path label",
            labels=labels,
            missing_share=missing_share,
        )
    dataset: DataSet = pkgutil.resolve_name(_FOLDERS[kind])(path)
    return dataset


def kind_of(folder: Path) -> str | None:
    """The kind of a folder that says so itself, None of any other."""
    return next((kind for mark, kind in _MARKS.items() if (folder / mark).is_file()), None)
