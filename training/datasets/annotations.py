"""Reading annotation files so that whatever is wrong with one is said with file and line."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from training.datasets.errors import AnnotationError


@dataclass(frozen=True, slots=True)
class Record:
    """One row or item of an annotation file; the getters check what they hand out."""

    file: Path
    place: str
    values: Mapping[str, Any]

    def wrong(self, reason: str) -> AnnotationError:
        return AnnotationError(self.file, self.place, reason)

    def text(self, key: str) -> str:
        """A text that is not empty; numbers count as text, as ids are now and then written."""
        value = self.values[key]
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"expected {key!r} to be a text, got {value!r}")
        return value.strip()

    def integer(self, key: str, below: int | None = None) -> int:
        """An integer from 0, and below ``below``."""
        expected = "from 0" if below is None else f"from 0 to {below - 1}"
        value = self.number(key, f"expected {key!r} to be an integer {expected}")
        if value != int(value) or value < 0 or (below is not None and value >= below):
            raise self.wrong(
                f"expected {key!r} to be an integer {expected}, got {self.values[key]!r}"
            )
        return int(value)

    def number(self, key: str, expected: str = "") -> float:
        value = self.values[key]
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self.wrong(f"{expected or f'expected {key!r} to be a number'}, got {value!r}")
        return number

    def one_of(self, key: str, index: Mapping[str, int], what: str) -> int:
        """The index of a name, which must be known; ``what`` says where names are known from."""
        name = self.text(key)
        if name not in index:
            raise self.wrong(f"expected {key!r} to be one of the {len(index)} {what}, got {name!r}")
        return index[name]


def read_text(file: Path) -> str:
    """All of the file, with its line ends as they are.

    Raises:
        AnnotationError: no such file, or it is no text.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise AnnotationError(
            file, "", f"expected an annotation file here ({error.strerror})"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise AnnotationError(file, f"line {line}", "expected text in UTF-8") from None


def csv_records(
    file: Path,
    columns: Sequence[str],
    *,
    delimiter: str = ",",
    header: bool = True,
) -> Iterator[Record]:
    """The rows of a CSV file that has at least ``columns``; empty rows are passed over.

    Without ``header``, the rows must have exactly ``columns``.

    Raises:
        AnnotationError: no such file, a missing column, a row of another length.
    """
    # Not by lines: a quoted field may hold line ends, and csv counts the lines.
    rows = csv.reader(StringIO(read_text(file), newline=""), delimiter=delimiter, strict=True)
    names = None if header else list(columns)
    try:
        for row in rows:
            place = f"line {rows.line_num}"
            if not any(cell.strip() for cell in row):
                continue
            if names is None:
                names = [name.strip() for name in row]
                if missing := [column for column in columns if column not in names]:
                    raise AnnotationError(
                        file, place, f"expected the columns {', '.join(columns)}; "
                        f"{', '.join(missing)} is not among {', '.join(names)}"
                    )  # fmt: skip
                continue
            if len(row) != len(names):
                raise AnnotationError(
                    file, place, f"expected {len(names)} fields separated by {delimiter!r} "
                    f"({', '.join(names)}), got {len(row)}"
                )  # fmt: skip
            yield Record(file, place, dict(zip(names, row, strict=True)))
    except csv.Error as error:
        raise AnnotationError(
            file, f"line {rows.line_num}", f"expected a row of CSV ({error})"
        ) from None
    if names is None:
        raise AnnotationError(file, "line 1", f"expected the columns {', '.join(columns)}")


def read_json(file: Path) -> Any:
    """The document in ``file``.

    Raises:
        AnnotationError: no such file, or it is no JSON.
    """
    text = read_text(file)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AnnotationError(file, f"line {error.lineno}", f"expected JSON: {error.msg}") from None


def json_records(file: Path, keys: Sequence[str]) -> Iterator[Record]:
    """The objects of a JSON file that is a list of objects, each with at least ``keys``.

    Raises:
        AnnotationError: no such file, no list, an item without one of the keys. Items are counted
            from 1: such files are mostly a single line.
    """
    document = read_json(file)
    if not isinstance(document, list):
        raise AnnotationError(
            file, "line 1", f"expected a list of objects with {', '.join(keys)}, "
            f"got {type(document).__name__}"
        )  # fmt: skip
    for number, item in enumerate(document, start=1):
        place = f"item {number}"
        if not isinstance(item, dict) or any(key not in item for key in keys):
            got = ", ".join(item) if isinstance(item, dict) else type(item).__name__
            raise AnnotationError(
                file, place, f"expected an object with {', '.join(keys)}, got {got}"
            )
        yield Record(file, place, item)


def first_there(folder: Path, *names: str) -> Path:
    """The first of these files that exists: publishers have renamed theirs.

    Raises:
        AnnotationError: none of them does.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    others = f" (or {', '.join(names[1:])})" if names[1:] else ""
    raise AnnotationError(
        folder / names[0], "", f"expected an annotation file here{others}, found none"
    )
