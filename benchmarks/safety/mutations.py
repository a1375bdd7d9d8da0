"""Damaged clips, the same for the same seed and number.

Random bytes are refused by the first check that meets them. What goes deep is a clip that is right
almost everywhere: one field of one box, one chunk too many, half of another file.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from benchmarks.safety.boxes import walk

Generator: TypeAlias = np.random.Generator

# Sizes, counts and offsets at which arithmetic goes wrong.
_NUMBERS = (0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000,
            0xFFFFFFF8, 0xFFFFFFFF)  # fmt: skip
# Tables and headers of MP4 whose fields are sizes, counts, times and offsets.
_FIELDS = (b"mvhd", b"tkhd", b"mdhd", b"hdlr", b"elst", b"stsd", b"stts", b"ctts", b"stss",
           b"stsc", b"stsz", b"stco", b"co64", b"trun", b"tfhd", b"trex", b"sidx")  # fmt: skip
_MOST_OPERATIONS = 4


def mutant(clips: Mapping[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Make one damaged clip.

    Args:
        clips: well-formed clips by name.
        seed: of the whole run.
        number: which mutant of the run; each can be made on its own.

    Returns:
        What was done (``h264.mp4: flip_bits, truncate``), and the bytes; a mutant differs from
        its clip but for rare operations that undo each other.
    """
    generator = np.random.default_rng([seed, number])
    names = sorted(clips)
    name = names[generator.integers(len(names))]
    other = clips[names[generator.integers(len(names))]]
    data, done = clips[name], []
    for _ in range(generator.integers(1, _MOST_OPERATIONS + 1)):
        if len(data) < 16:
            break
        operation = _OPERATIONS[generator.integers(len(_OPERATIONS))]
        data = operation(data, other, generator)
        done.append(operation.__name__.strip("_"))
    return f"{name}: {', '.join(done)}", data


def _flip_bits(data: bytes, other: bytes, generator: Generator) -> bytes:
    out = np.frombuffer(data, np.uint8).copy()
    places = generator.integers(0, len(out), generator.integers(1, 32))
    out[places] ^= (1 << generator.integers(0, 8, len(places))).astype(np.uint8)
    return out.tobytes()


def _flip_header_bits(data: bytes, other: bytes, generator: Generator) -> bytes:
    head = min(len(data), int(generator.choice((64, 256, 1024))))
    return _flip_bits(data[:head], other, generator) + data[head:]


def _overwrite_number(data: bytes, other: bytes, generator: Generator) -> bytes:
    width = int(generator.choice((1, 2, 4, 8)))
    place = int(generator.integers(0, len(data) - width))
    return _with_number(data, place, width, generator)


def _remove_chunk(data: bytes, other: bytes, generator: Generator) -> bytes:
    start, end = _span(data, generator)
    return data[:start] + data[end:]


def _duplicate_chunk(data: bytes, other: bytes, generator: Generator) -> bytes:
    start, end = _span(data, generator)
    return data[:end] + data[start:]


def _swap_chunks(data: bytes, other: bytes, generator: Generator) -> bytes:
    a, b, c, d = np.sort(generator.integers(0, len(data), 4)).tolist()
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _insert_noise(data: bytes, other: bytes, generator: Generator) -> bytes:
    place, _ = _span(data, generator)
    return data[:place] + generator.bytes(int(generator.integers(1, 256))) + data[place:]


def _splice(data: bytes, other: bytes, generator: Generator) -> bytes:
    """This file's beginning, and the rest of the other."""
    return data[: generator.integers(16, len(data))] + other[generator.integers(0, len(other)) :]


def _borrow_chunk(data: bytes, other: bytes, generator: Generator) -> bytes:
    """A chunk of another file in the middle of this one."""
    place, _ = _span(data, generator)
    start, end = _span(other, generator)
    return data[:place] + other[start:end] + data[place:]


def _truncate(data: bytes, other: bytes, generator: Generator) -> bytes:
    return data[: generator.integers(8, len(data))]


def _resize_box(data: bytes, other: bytes, generator: Generator) -> bytes:
    """Let a box claim another size than it has."""
    boxes = list(walk(data))
    if not boxes:
        return _overwrite_element_size(data, other, generator)
    box = boxes[generator.integers(len(boxes))]
    return _with_number(data, box.start, 4, generator)


def _remove_box(data: bytes, other: bytes, generator: Generator) -> bytes:
    boxes = [box for box in walk(data) if box.kind != b"ftyp"]
    if not boxes:
        return _remove_chunk(data, other, generator)
    box = boxes[generator.integers(len(boxes))]
    return data[: box.start] + data[box.end :]


def _change_field(data: bytes, other: bytes, generator: Generator) -> bytes:
    """Change one number in a table or header of an MP4."""
    boxes = [box for box in walk(data) if box.kind in _FIELDS and box.end - box.content >= 4]
    if not boxes:
        return _overwrite_element_size(data, other, generator)
    box = boxes[generator.integers(len(boxes))]
    place = box.content + 4 * int(generator.integers((box.end - box.content) // 4))
    return _with_number(data, place, 4, generator)


def _overwrite_element_size(data: bytes, other: bytes, generator: Generator) -> bytes:
    """In Matroska and AVI headers come first: change a number among them."""
    place = int(generator.integers(8, max(9, min(len(data) - 8, 1024))))
    return _with_number(data, place, int(generator.choice((1, 4))), generator)


_Operation: TypeAlias = Callable[[bytes, bytes, Generator], bytes]
_OPERATIONS: tuple[_Operation, ...] = (
    _flip_bits, _flip_header_bits, _overwrite_number, _remove_chunk, _duplicate_chunk, _swap_chunks,
    _insert_noise, _splice, _borrow_chunk, _truncate, _resize_box, _remove_box, _change_field,
    _change_field,
)  # fmt: skip


def _span(data: bytes, generator: Generator) -> tuple[int, int]:
    """A stretch of the file, more often short than long."""
    length = int(min(len(data), 2 ** generator.uniform(0, np.log2(len(data)))))
    start = int(generator.integers(0, len(data) - length + 1))
    return start, start + length


def _with_number(data: bytes, place: int, width: int, generator: Generator) -> bytes:
    value = int(_NUMBERS[generator.integers(len(_NUMBERS))])
    if generator.random() < 0.3:  # a little off, rather than absurd
        value = int.from_bytes(data[place : place + width]) + int(generator.integers(-16, 17))
    number = (value % (1 << (8 * width))).to_bytes(width)
    if generator.random() < 0.2:
        number = number[::-1]  # AVI is little-endian
    return data[:place] + number + data[place + width :]
