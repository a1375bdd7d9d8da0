"""How a clip's frames are turned and mirrored, and which of its streams are mere pictures.

torchcodec turns frames by the angle of a display matrix and loses the mirror that may be in it: of
a plain left-right mirror it makes half a turn. Cameras write such matrices into MP4 and QuickTime
files, so that the boxes of these are read here once more. Only numbers are taken from them, and
whatever is out of place ends the reading.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

# A file has a handful of boxes at each level; a hostile one must not be read for long.
_MOST_BOXES = 4096

# Where the 3x3 matrix begins in a box's content, by the box's version.
_MOVIE_MATRIX = {0: 36, 1: 48}
_TRACK_MATRIX = {0: 40, 1: 52}

# The numbers of a display matrix that turn and mirror, row by row: a, b, c, d.
Matrix = tuple[float, float, float, float]
_IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Orientation:
    """What makes stored frames upright.

    Attributes:
        degrees: turn counter-clockwise by so much, 0, 90, 180 or 270,
        mirrored: and then mirror left-right.
        flip: the dimension of [1, 3, H, W] that is still to be turned round in a frame that
            torchcodec has turned; None if there is nothing left to do.
    """

    degrees: int = 0
    mirrored: bool = False
    flip: int | None = None

    def upright(self, pixels: Tensor) -> Tensor:
        """uint8 [1, 3, H, W] as torchcodec gives it -> the same, upright."""
        return pixels if self.flip is None else pixels.flip(self.flip)


def orientation(matrix: Matrix | None, turned: float | None) -> Orientation:
    """What a frame still lacks that torchcodec has turned.

    Args:
        matrix: of the stream, None where it has none or the container is another.
        turned: degrees counter-clockwise as torchcodec tells them; not finite for a matrix that
            turns nothing into nothing.

    Source: the order in which FFmpeg's own program inserts its transpose, hflip and vflip filters.
    """
    degrees = _quarters(turned) * 90 % 360 if turned is not None and math.isfinite(turned) else 0
    a, _, c, d = matrix or _IDENTITY
    match degrees:
        case 0 if matrix and d < 0:
            return Orientation(180, mirrored=True, flip=-2)
        case 180 if matrix and a < 0 <= d:
            return Orientation(0, mirrored=True, flip=-2)
        case 270 if matrix and c > 0:
            return Orientation(270, mirrored=True, flip=-1)
        case 90 if matrix and c < 0:
            return Orientation(90, mirrored=True, flip=-1)
    return Orientation(degrees)


def _quarters(turned: float) -> int:
    """Quarter turns as torchcodec makes them: to the nearest, and away from none at the half."""
    return int(math.copysign(math.floor(abs(turned) / 90 + 0.5), turned))


def track_matrices(content: memoryview) -> list[Matrix] | None:
    """The display matrices of an MP4 or QuickTime file's tracks, in their order.

    FFmpeg numbers the streams of such a file by its tracks; what comes after these are pictures
    that belong to the file, such as a song's cover.

    Returns:
        None if the file is of another kind, or holds no list of tracks that can be read.
    """
    if bytes(content[4:8]) not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return None
    try:
        movie = next(_find(content, 0, len(content), b"moov"))
        whole = _matrix(content, next(_find(content, *movie, b"mvhd"), None), _MOVIE_MATRIX)
        tracks = list(_find(content, *movie, b"trak"))
        headers = [next(_find(content, *track, b"tkhd"), None) for track in tracks]
        return [_product(_matrix(content, track, _TRACK_MATRIX), whole) for track in headers]
    except (StopIteration, struct.error, ValueError):
        return None


def _find(content: memoryview, start: int, end: int, kind: bytes) -> Iterator[tuple[int, int]]:
    return ((first, last) for found, first, last in _boxes(content, start, end) if found == kind)


def _boxes(content: memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte, byte after the last) of what the boxes between two places hold."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", content, start)
        header = 8
        if size == 1:  # the size follows in 64 bits
            (size,), header = struct.unpack_from(">Q", content, start + 8), 16
        elif size == 0:  # up to the end
            size = end - start
        if size < header:
            return
        yield kind, start + header, min(start + size, end)
        start += size


def _matrix(content: memoryview, span: tuple[int, int] | None, places: dict[int, int]) -> Matrix:
    if span is None:
        return _IDENTITY
    start, end = span
    place = start + places.get(content[start] if start < end else -1, end)
    if place + 36 > end:
        return _IDENTITY
    a, b, _, c, d = struct.unpack_from(">5i", content, place)
    return a / 65536, b / 65536, c / 65536, d / 65536


def _product(track: Matrix, movie: Matrix) -> Matrix:
    a, b, c, d = track
    e, f, g, h = movie
    return a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h
