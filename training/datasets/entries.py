"""What every reader returns: entries, the names of the classes, and a task."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from training.datasets.errors import DataSetError
from training.datasets.stores import StoreOpener
from training.datasets.tasks import MultiLabel, Task

# Labels that a sentence names of many.
_NAMED = 8


@dataclass(frozen=True, slots=True)
class Seconds:
    """The part of a video from ``start`` up to ``end``, in seconds from its first frame."""

    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"expected 0 <= start <= end, got {self.start} s to {self.end} s")

    def __str__(self) -> str:
        return f"{self.start:g}-{self.end:g} s"


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames from ``start`` up to and without ``end``, counted from 0."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"expected 0 <= start < end, got frames {self.start} to {self.end}")

    def __str__(self) -> str:
        return f"frames {self.start}-{self.end - 1}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One labelled clip.

    path: a video file, a folder of pictures in the order of their names, or, with ``store``, the
    folder of a store.
    labels: class indices as the task wants them: one, (verb, noun), or any number.
    span: the part that is meant, None for all of it.
    group: clips of one group (source video, person) must not be on both sides of a split; "" where
    nothing is known, then the clip stands for itself.
    split: the side of the official split, as its file calls it.
    stored: number of the clip within the store; store: what opens it.
    """

    path: Path
    labels: tuple[int, ...]
    span: Seconds | Frames | None = None
    group: str = ""
    split: str = ""
    stored: int | None = None
    store: StoreOpener | None = None

    @property
    def name(self) -> str:
        """How the log calls it."""
        if self.stored is not None:
            return f"{self.path} clip {self.stored}"
        return str(self.path) if self.span is None else f"{self.path} ({self.span})"


@dataclass(frozen=True)
class DataSet:
    """Entries with what is needed to learn from them and to measure.

    mirror: what a left-right flip makes of a class, for the classes that it alters; {} if it alters
    none; None if clips must never be flipped: hands and directions are what the labels are about,
    or nobody has said that they are not.
    missing: clips that the annotations name and the disk does not hold; they are not in `entries`.

    Raises:
        DataSetError: no entries, or labels that the task cannot have.
    """

    name: str
    entries: tuple[Entry, ...]
    labels: tuple[str, ...]
    task: Task
    mirror: Mapping[int, int] | None = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.entries:
            raise DataSetError(f"{self.name}: there are no clips")
        if len(self.labels) != self.task.outputs:
            raise DataSetError(
                f"{self.name}: {len(self.labels)} label names for {self.task.outputs} outputs"
            )
        for entry in self.entries:
            if wrong := self.task.wrong(entry.labels):
                raise DataSetError(f"{self.name}: {entry.name}: {wrong}")

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def mirror_by_label(self) -> dict[str, str] | None:
        """What a flip makes of a label, for the labels that it alters; None: no clip is flipped."""
        if self.mirror is None:
            return None
        return {self.labels[one]: self.labels[other] for one, other in self.mirror.items()}

    def subset(self, indices: Iterable[int]) -> "DataSet":
        """The entries at ``indices``, in that order."""
        return replace(self, entries=tuple(self.entries[index] for index in indices), missing=())

    def where(self, keep: Callable[[Entry], bool]) -> "DataSet":
        """The entries that ``keep`` says yes to."""
        return self.subset(i for i, entry in enumerate(self.entries) if keep(entry))

    def splits(self) -> dict[str, int]:
        """How many entries each official split has, in the order of the splits' names."""
        return dict(sorted(Counter(entry.split for entry in self.entries).items()))

    def split(self, *names: str) -> "DataSet":
        """The entries of these official splits.

        Raises:
            DataSetError: a split that no entry belongs to.
        """
        for name in names:
            if name not in self.splits():
                known = ", ".join(repr(split) for split in self.splits())
                raise DataSetError(f"{self.name}: no clip of split {name!r}; there are {known}")
        return self.where(lambda entry: entry.split in names)

    def folds(self) -> Iterator[tuple["DataSet", "DataSet"]]:
        """(the rest, the fold) for each official split in turn: cross-validation as published.

        Raises:
            DataSetError: fewer than two splits.
        """
        names = list(self.splits())
        if len(names) < 2:
            raise DataSetError(f"{self.name}: cross-validation needs two splits, got {names}")
        for held in names:
            yield self.split(*(name for name in names if name != held)), self.split(held)


def mirror_by_name(
    labels: Sequence[str], pairs: Mapping[str, str] | Iterable[tuple[str, str]]
) -> dict[int, int]:
    """Turn {"moving left": "moving right"} into class indices, in both directions.

    Raises:
        DataSetError: a name that is no label, a label that is to become itself, or one that is to
            become two others.
    """
    index = {label: number for number, label in enumerate(labels)}
    mirror: dict[int, int] = {}
    for one, other in pairs.items() if isinstance(pairs, Mapping) else pairs:
        for name in (one, other):
            if name not in index:
                raise DataSetError(
                    f"{name!r} is to be mirrored, but there is no such label; "
                    f"{nearest(name, labels)}"
                )
        if one == other:
            raise DataSetError(
                f"{one!r} is to become itself in a mirror image; name only labels that change"
            )
        for label, become in ((one, other), (other, one)):
            before = mirror.setdefault(index[label], index[become])
            if before != index[become]:
                raise DataSetError(
                    f"a mirror image of {label!r} is to be both {labels[before]!r} and {become!r}"
                )
    return mirror


def nearest(name: str, names: Sequence[str]) -> str:
    """What to say to someone who wrote ``name``, which is not among ``names``."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "nearest to it: " + ", ".join(map(repr, close))
    more = ", ..." if len(names) > _NAMED else ""
    return f"there are {', '.join(map(repr, names[:_NAMED]))}{more}"


def without_labels(datasets: Sequence[DataSet]) -> DataSet:
    """Several data sets as one, for pre-training: clips of no class, among none.

    A clip is flipped only if every one of the data sets allows it.
    """
    entries = tuple(replace(entry, labels=()) for one in datasets for entry in one.entries)
    return DataSet(
        " + ".join(one.name for one in datasets),
        entries,
        (),
        MultiLabel(0),
        mirror=None if any(one.mirror is None for one in datasets) else {},
        missing=tuple(name for one in datasets for name in one.missing),
    )
