"""Data sets of one's own: lists of paths and labels, folders, an index."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from training.datasets.annotations import Record, csv_records, read_text
from training.datasets.entries import DataSet, Frames, mirror_by_name
from training.datasets.errors import AnnotationError, DataSetError
from training.datasets.files import Gathered, check_folder
from training.datasets.ledger import LOST_SHARE
from training.datasets.tasks import MultiLabel, TopOne
from video.files import VIDEO_SUFFIXES, videos_below

# What stands in a row of a list. VideoMAE and mmaction2 write "path label" for videos and
# "path frames label" for folders of pictures; mmaction2 writes "path labels" for several classes.
Layout = Literal["path label", "path frames label", "path labels"]


def read_list(
    file: Path,
    *,
    root: Path | None = None,
    layout: Layout = "path label",
    labels: Sequence[str] | None = None,
    mirror: Mapping[str, str] | None = None,
    missing_share: float = LOST_SHARE,
) -> DataSet:
    """Read a list such as VideoMAE's and mmaction2's: per row a path, then numbers.

    Commas or white space separate. Paths may hold spaces, for the numbers are counted from the
    end; with several labels, whose number is not known, only where commas separate. The name of a
    single label may hold spaces and commas: it is the longest that the row ends with. Lines that
    begin with ``#`` are passed over.

    Args:
        root: what paths are relative to; by default the list's folder.
        layout: the fields of a row. Frames are how many of the clip's are meant.
        labels: class names in their order; labels in the list may then be names too. Without them
            classes are called by their numbers, up to the largest in the list.
        mirror: labels that a left-right flip exchanges; {} where every label stays what it is.
            By default training flips no clip: nobody knows what a mirror image of it is.
        missing_share: clips that may be missing.

    Raises:
        AnnotationError: no such file, or a row that is not in the layout.
        TooManyLost: more clips than that are missing.
    """
    root = file.parent if root is None else root
    index = {label: number for number, label in enumerate(labels or ())}
    gathered = Gathered(file.name, root, missing_share)
    largest = -1
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        record = Record(file, f"line {number}", {"line": line.strip()})
        path, numbers = _fields(record, layout, index)
        span = None
        if layout == "path frames label":
            if numbers[0] < 1:
                raise record.wrong(f"expected at least one frame, got {line!r}")
            span = Frames(0, numbers.pop(0))
        if labels is not None and max(numbers) >= len(labels):
            raise record.wrong(f"expected labels from 0 to {len(labels) - 1}, got {line!r}")
        if len(set(numbers)) != len(numbers):
            raise record.wrong(f"expected different labels, got {line!r}")
        largest = max(largest, *numbers)
        clip = root / path
        gathered.add(path, clip if clip.exists() else None, tuple(numbers), span=span)
    entries, missing = gathered.finish()
    names = tuple(labels) if labels is not None else tuple(str(c) for c in range(largest + 1))
    task = MultiLabel(len(names)) if layout == "path labels" else TopOne(len(names))
    flips = None if mirror is None else mirror_by_name(names, mirror)
    return DataSet(file.name, entries, names, task, mirror=flips, missing=missing)


def read_names(file: Path) -> tuple[str, ...]:
    """Read the names of a list's classes: one a row, in the order of their numbers.

    Raises:
        AnnotationError: no such file, no name in it, or a name that comes twice.
    """
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        if name in names:
            raise AnnotationError(
                file,
                f"line {number}",
                f"expected different names, {name!r} is line {names[name]} too",
            )
        names[name] = number
    if not names:
        raise AnnotationError(file, "", "expected the name of a class per row, there is none")
    return tuple(names)


def _fields(record: Record, layout: Layout, index: Mapping[str, int]) -> tuple[str, list[int]]:
    """A row's path and its numbers, separated by commas if that makes sense of it, or by spaces."""
    line: str = record.values["line"]
    if layout == "path label":
        for place in re.finditer(r"[,\s]", line):
            path, name = line[: place.start()].strip(), line[place.end() :].strip()
            if path and name in index and not name.isdecimal():
                return path, [index[name]]
    count = len(layout.split()) - 1
    for separator in (",", None):
        # From the right: what is left of the numbers is the path, with whatever is in it.
        fields = line.split(separator) if layout == "path labels" else line.rsplit(separator, count)
        path, *rest = (field.strip() for field in fields)
        numbers = [int(field) if field.isdecimal() else index.get(field, -1) for field in rest]
        if path and len(numbers) >= count and min(numbers) >= 0:
            return path, numbers
    known = " (or names of labels)" if index else ""
    raise record.wrong(f"expected {layout!r} with numbers from 0{known}, got {line!r}")


def read_class_folders(
    root: Path,
    *,
    labels: Sequence[str] | None = None,
    mirror: Mapping[str, str] | None = None,
) -> DataSet:
    """Read a folder with one sub-folder of videos per class, however deep they lie in it.

    Args:
        labels: class names in their order, where another folder (the training split's) gave them;
            by default the sub-folders' names in alphabetical order.
        mirror: labels that a left-right flip exchanges; {} where every label stays what it is.
            By default training flips no clip: nobody knows what a mirror image of it is.

    Raises:
        DataSetError: no folder, a class without a video, a sub-folder that is no known class.
    """
    folders = sorted(
        path
        for path in check_folder(root).iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )
    if not folders:
        raise DataSetError(f"{root}: expected one sub-folder per class, there is none")
    names = tuple(labels) if labels is not None else tuple(path.name for path in folders)
    gathered = Gathered(root.name, root, 0.0)
    for folder in folders:
        if folder.name not in names:
            raise DataSetError(f"{folder}: {folder.name!r} is not among the labels given")
        before = len(gathered.entries)
        for path in videos_below(folder):
            gathered.add(str(path), path, (names.index(folder.name),))
        if len(gathered.entries) == before:
            raise DataSetError(_no_video(folder))
    entries, _ = gathered.finish()
    flips = None if mirror is None else mirror_by_name(names, mirror)
    return DataSet(root.name, entries, names, TopOne(len(names)), mirror=flips)


def _no_video(folder: Path) -> str:
    """What a class without a video has instead."""
    others = sorted(path.name for path in folder.rglob("*") if path.is_file())
    held = "the folder is empty"
    if others:
        held = f"{len(others)} other file{'s' * (len(others) > 1)}, such as {others[0]}"
    return (
        f"{folder}: there is no video of the class {folder.name!r} ({held}); put some in, or take "
        f"the folder away. Videos end in {', '.join(VIDEO_SUFFIXES)}"
    )


def read_index(
    file: Path,
    *,
    root: Path | None = None,
    split: str | None = "split",
    mirror: Mapping[str, str] | None = None,
    missing_share: float = LOST_SHARE,
) -> DataSet:
    """Read a CSV file with the columns path and label, and more.

    A column ``group`` gives the groups. Classes are in alphabetical order.

    Args:
        root: what paths are relative to; by default the file's folder.
        split: the column with each clip's split or fold, which `DataSet.split` and `DataSet.folds`
            then know; None if there is none.
        mirror: labels that a left-right flip exchanges; {} where every label stays what it is.
            By default training flips no clip: nobody knows what a mirror image of it is.
        missing_share: clips that may be missing.

    Raises:
        AnnotationError: no such file or column, or a row without path or label.
        TooManyLost: more clips than that are missing.
    """
    root = file.parent if root is None else root
    columns = ("path", "label") if split is None else ("path", "label", split)
    records = list(csv_records(file, columns))
    if not records:
        raise AnnotationError(file, "line 2", "expected a clip per row, there is none")
    names = tuple(sorted({record.text("label") for record in records}))
    index = {label: number for number, label in enumerate(names)}
    name = file.parent.name or file.name
    gathered = Gathered(name, root, missing_share)
    for record in records:
        path = record.text("path")
        clip = root / path
        gathered.add(
            path, clip if clip.exists() else None, (index[record.text("label")],),
            group=record.values.get("group", ""),
            split="" if split is None else record.text(split),
        )  # fmt: skip
    entries, missing = gathered.finish()
    flips = None if mirror is None else mirror_by_name(names, mirror)
    return DataSet(name, entries, names, TopOne(len(names)), mirror=flips, missing=missing)


def read_unlabelled(root: Path, *, flip: bool = True) -> DataSet:
    """Read every video below a folder, for pre-training: clips of no class, among none.

    Args:
        flip: False where clips must never be flipped.

    Raises:
        DataSetError: no folder, or no video in it.
    """
    gathered = Gathered(root.name, root, 0.0)
    for path in videos_below(check_folder(root)):
        gathered.add(str(path), path, ())
    entries, _ = gathered.finish()
    return DataSet(root.name, entries, (), MultiLabel(0), mirror={} if flip else None)
