"""A Matroska stream as it comes from FFmpeg's muxer, cut into its header and its clusters.

The muxer is told to write a cluster for each packet, so that a cluster is a frame: its time, and
whether decoding can begin with it, are known without decoding, and any number of whole clusters can
be left out. Of the format (RFC 9559) no more is read than that; what a video holds is for the
decode worker.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TIMESTAMP, _SIMPLE_BLOCK, _GROUP, _BLOCK, _REFERENCE = 0xE7, 0xA3, 0xA0, 0xA1, 0xFB
# FFmpeg's muxer counts milliseconds.
_TICK = 1e-3
_KEY = 0x80
# The largest picture that is let through is some 30 MB where a camera does not compress.
_MOST_BYTES = 64 << 20
# Of a header: tables of a codec, tags.
_MOST_HEADER_BYTES = 1 << 20
# Of a cluster, of a group of blocks, and between two clusters: FFmpeg writes three or four, for one
# packet. Each costs the event loop a step.
_MOST_ELEMENTS = 64


class StreamBroken(Exception):
    """What came is not what FFmpeg's muxer writes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The header of a stream, or a cluster of it.

    Attributes:
        data: its bytes.
        time: seconds of the first frame on the stream's own clock; None of a header.
        key: whether decoding can begin with it.
    """

    data: bytes
    time: float | None = None
    key: bool = False


class ClusterCutter:
    """Takes bytes as they come, and gives pieces as they are whole."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._header = bytearray()
        self._headed = False
        self._others = 0

    def push(self, data: bytes) -> Iterator[Piece]:
        """Take bytes; the pieces that are whole now.

        Raises:
            StreamBroken: they are no such stream.
        """
        self._waiting += data
        while (element := _element(self._waiting)) is not None:
            name, content, end = element
            if name == _SEGMENT and end is None and not self._headed:
                self._take_header(content)
                continue
            if end is None or end > _MOST_BYTES:
                raise StreamBroken("an element is too large")
            if end > len(self._waiting):
                return
            if name != _CLUSTER:
                self._others = _counted(self._others)
                self._take_header(end)
                continue
            self._others = 0
            whole = bytes(self._waiting[:end])
            del self._waiting[:end]
            if not self._headed:
                self._headed = True
                yield Piece(bytes(self._header))
            yield _cluster(whole, content)

    def _take_header(self, count: int) -> None:
        """What comes before the first cluster is the header; what else comes later is nothing."""
        if not self._headed:
            self._header += self._waiting[:count]
            if len(self._header) > _MOST_HEADER_BYTES:
                raise StreamBroken("the header is too large")
        del self._waiting[:count]


def _counted(elements: int) -> int:
    if elements == _MOST_ELEMENTS:
        raise StreamBroken("there are too many elements")
    return elements + 1


def _cluster(data: bytes, place: int) -> Piece:
    time, key, first, elements = 0, False, None, 0
    while place < len(data):
        elements = _counted(elements)
        name, content, end = _element(data, place) or (0, 0, None)
        if end is None or end > len(data):
            raise StreamBroken("a cluster is cut off")
        if name == _TIMESTAMP:
            time = int.from_bytes(data[content:end], "big")
        elif name in (_SIMPLE_BLOCK, _GROUP) and first is None:
            first, key = _block(data[content:end], is_group=name == _GROUP)
        place = end
    return Piece(data, (time + (first or 0)) * _TICK, key)


def _block(data: bytes, *, is_group: bool) -> tuple[int, bool]:
    """A block's ticks after its cluster's, and whether decoding can begin with it."""
    if not is_group:
        return _head(data)
    found, refers, place, elements = 0, False, 0, 0
    while place < len(data):
        elements = _counted(elements)
        name, content, end = _element(data, place) or (0, 0, None)
        if end is None or end > len(data):
            raise StreamBroken("a group of blocks is cut off")
        if name == _BLOCK:
            found, _ = _head(data[content:end])
        refers = refers or name == _REFERENCE
        place = end
    return found, not refers


def _head(data: bytes) -> tuple[int, bool]:
    _, place, _ = _number(data, 0, keeps_marker=False) or (0, 1, False)
    if len(data) < place + 3:
        raise StreamBroken("a block is cut off")
    return int.from_bytes(data[place : place + 2], "big", signed=True), bool(data[place + 2] & _KEY)


def _element(data: bytes | bytearray, place: int = 0) -> tuple[int, int, int | None] | None:
    """An element's name, where its content begins, and where it ends: None where it does not say.

    None where its head has not come.

    Raises:
        StreamBroken: no element has such a head.
    """
    name = _number(data, place, keeps_marker=True)
    if name is None:
        return None
    size = _number(data, name[1], keeps_marker=False)
    if size is None:
        return None
    value, content, unknown = size
    return name[0], content, None if unknown else content + value


def _number(
    data: bytes | bytearray, place: int, *, keeps_marker: bool
) -> tuple[int, int, bool] | None:
    """A number of variable length, the place behind it, and whether it says "unknown"."""
    if place >= len(data):
        return None
    width = 9 - data[place].bit_length()
    if width > 8 or (keeps_marker and width > 4):
        raise StreamBroken("what came is no Matroska")
    if place + width > len(data):
        return None
    value = int.from_bytes(data[place : place + width], "big")
    bits = (1 << 7 * width) - 1
    return value if keeps_marker else value & bits, place + width, value & bits == bits
