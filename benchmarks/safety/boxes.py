"""MP4 and QuickTime files as boxes, for those who want to change one of them."""

from collections.abc import Iterator
from dataclasses import dataclass

# Boxes that hold boxes; `stsd` and `dref` count their entries first, and are left alone.
_CONTAINERS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"dinf", b"stbl", b"mvex", b"moof",
               b"traf", b"udta")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Box:
    """Where a box lies: ``start`` of its size, ``content`` after its type, ``end`` behind it."""

    kind: bytes
    start: int
    content: int
    end: int


def walk(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Every box, outer ones before those inside; stops where the file makes no sense."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind, content = int.from_bytes(data[start : start + 4]), data[start + 4 :][:4], 8
        if size == 1:
            size, content = int.from_bytes(data[start + 8 : start + 16]), 16
        elif size == 0:
            size = end - start
        if size < content or start + size > end:
            return
        yield Box(kind, start, start + content, start + size)
        if kind in _CONTAINERS:
            yield from walk(data, start + content, start + size)
        start += size


def find(data: bytes, kind: bytes, number: int = 0) -> Box:
    """The box of this kind, counted from 0; LookupError if there is none."""
    for box in walk(data):
        if box.kind == kind:
            if number == 0:
                return box
            number -= 1
    raise LookupError(f"no box {kind!r}")


def box(kind: bytes, content: bytes) -> bytes:
    """A box of its own."""
    return (8 + len(content)).to_bytes(4) + kind + content


def insert(data: bytes, kind: bytes, content: bytes) -> bytes:
    """Add bytes at the end of the first box of this kind.

    The sizes of all around it follow. Samples that lie behind it would move: the file must have its
    ``moov`` last.
    """
    target = find(data, kind)
    out = bytearray(data)
    for outer in walk(data):
        if outer.start <= target.start and target.end <= outer.end:
            size = int.from_bytes(out[outer.start : outer.start + 4]) + len(content)
            out[outer.start : outer.start + 4] = size.to_bytes(4)
    return bytes(out[: target.end] + content + out[target.end :])


def overwrite(data: bytes, position: int, value: bytes) -> bytes:
    """Replace as many bytes as ``value`` has."""
    return data[:position] + value + data[position + len(value) :]
