"""A person's own clips: a folder per class, a list or an index; and which belong together."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.datasets import DataSet, DataSetError, Entry
from training.datasets.annotations import read_text
from training.datasets.lists import read_class_folders, read_index, read_list

# The last number of a name, with what it counts: clip_03, c01, part 2.
_LAST = re.compile(
    r"[\W_]*(?:(?<![a-z])(?:clip|part|segment|seg|scene|shot|take|cut|c|p|s))?[\W_]*\d+$",
    re.I,
)
_NUMBERED = re.compile(r"(g\d+)[\W_]*c\d+$", re.I)

# A set with fewer groups cannot be split by them.
_FEWEST_GROUPS = 4


@dataclass(frozen=True, slots=True)
class OwnClips:
    """Clips to learn from, clips that are left out of everything, and where groups come from."""

    clips: DataSet
    test: DataSet | None
    grouping: str


def read_own(
    path: Path, *, column: str | None = None, test: str | None = None, lost_share: float
) -> OwnClips:
    """Read what a person has: a folder per class, an index (``.csv``) or a list.

    Args:
        path: the folder, the index with the columns path and label (and group, if it has one), or
            the list, whose labels may be names.
        column: of the index, whose value ``test`` names the clips that are left out.
        lost_share: clips that may be missing.

    Raises:
        DataSetError: nothing such is there, fewer than two classes, or a column without an index.
    """
    if (column or test) and path.suffix.lower() != ".csv":
        raise DataSetError("--column and --test are for an index, a .csv with a row per clip")
    if column and not test:
        raise DataSetError(f"--test says which value of the column {column!r} is left out; give it")
    if path.is_dir():
        found = read_class_folders(path)
    elif path.suffix.lower() == ".csv":
        found = read_index(path, split=(column or "split") if test else None,
                           missing_share=lost_share)  # fmt: skip
    else:
        found = read_list(path, labels=_names(path), missing_share=lost_share)
    if len(found.labels) < 2:
        raise DataSetError(f"{path}: there is one class, {found.labels[0]}; it takes two")
    found, grouping = with_groups(replace(found, mirror=None), path if path.is_dir() else None)
    if test is None:
        return OwnClips(found, None, grouping)
    left_out = found.split(test)
    rest = found.where(lambda entry: entry.split != test)
    return OwnClips(rest, left_out, grouping)


def _names(path: Path) -> tuple[str, ...] | None:
    """The labels of a list that are names, None where all are numbers."""
    last = set()
    for line in read_text(path).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            separated = line.rsplit("," if "," in line else None, 1)
            last.add(separated[-1].strip())
    return None if all(label.isdecimal() for label in last) else tuple(sorted(last))


def with_groups(dataset: DataSet, root: Path | None) -> tuple[DataSet, str]:
    """Say which clips are of one source, so that no source is on both sides of a split.

    What the index says goes first, then sub-folders below those of the classes, then names:
    ``v_Jump_g01_c01`` is of group g01 in every class, and ``match2_goal_07`` of match2. Names are
    believed only where they make several groups in every class of which some hold several clips;
    a class whose clips are merely numbered has one, and then each clip stands for itself.

    Returns:
        The clips, and a sentence on what was found.

    Source: our choice. A group too large costs a little training data, one too small flatters the
    figures.
    """
    if any(entry.group for entry in dataset.entries):
        groups = len({entry.group for entry in dataset.entries if entry.group})
        return dataset, f"{groups} groups, as the index says"
    for where, keys in (
        ("sub-folders", _folders(dataset.entries, root)),
        ("names", [_from_name(entry, dataset.labels) for entry in dataset.entries]),
    ):
        if _useful(dataset, keys):
            entries = tuple(
                replace(entry, group=key) for entry, key in zip(dataset.entries, keys, strict=True)
            )
            common, count = Counter(key for key in keys if key).most_common(1)[0]
            said = f"{len(set(keys))} groups found in {where}, such as {common} of {count} clips"
            return replace(dataset, entries=entries), said
    return dataset, "no groups: neither sub-folders nor names tell which clips are of one source"


def _folders(entries: Sequence[Entry], root: Path | None) -> list[str]:
    """The folders between each clip and that of its class."""
    if root is None:
        return [""] * len(entries)
    return ["/".join(entry.path.relative_to(root).parts[1:-1]) for entry in entries]


def _from_name(entry: Entry, labels: Sequence[str]) -> str:
    stem = entry.path.stem
    if numbered := _NUMBERED.search(stem):
        return numbered[1].lower()
    label = labels[entry.labels[0]]
    prefix = _LAST.sub("", stem)
    # The same source may be in several classes, under each one's name.
    without = re.sub(re.escape(label).replace("_", "[_ -]?"), "", prefix, flags=re.I)
    return re.sub(r"[\W_]+", " ", without).strip()


def _useful(dataset: DataSet, keys: Sequence[str]) -> bool:
    """Whether groups can be split, and hold any two clips together."""
    if not all(keys):
        return False
    sizes = Counter(keys)
    if len(sizes) < _FEWEST_GROUPS or max(sizes.values()) < 2:
        return False
    of_class: dict[int, set[str]] = defaultdict(set)
    clips = Counter(entry.labels[0] for entry in dataset.entries)
    for entry, key in zip(dataset.entries, keys, strict=True):
        of_class[entry.labels[0]].add(key)
    return all(len(groups) > 1 or clips[label] == 1 for label, groups in of_class.items())


def class_sizes(dataset: DataSet) -> list[tuple[int, str]]:
    """How many clips each class has, and its label; the rarest first."""
    of_class = Counter(entry.labels[0] for entry in dataset.entries)
    return sorted((of_class[number], label) for number, label in enumerate(dataset.labels))


def counts(dataset: DataSet) -> str:
    """How many clips there are, in a sentence."""
    (few, least), *_, (many, most) = class_sizes(dataset)
    each = f"{few} each" if few == many else f"{few} ({least}) to {many} ({most}) a class"
    return f"{len(dataset)} clips of {len(dataset.labels)} classes: {each}"


def check_classes(dataset: DataSet, fewest: int) -> None:
    """Refuse classes of too few clips.

    Raises:
        DataSetError: names those of fewer than ``fewest``.
    """
    few = [f"{label} ({size})" for size, label in class_sizes(dataset) if size < fewest]
    if few:
        raise DataSetError(
            f"{dataset.name}: it takes {fewest} clips of each class; there are fewer of "
            f"{', '.join(few)}: add some, or take the class away"
        )
