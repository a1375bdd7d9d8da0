"""The parts of a multipart body (RFC 2046, section 5.1), however its bytes are cut into pieces.

What belongs to none of the parts is skipped, as the RFC says: a preamble before the first boundary,
blanks at the end of a boundary's line, and all that follows the last boundary.
"""

import re
from collections.abc import Mapping
from typing import Protocol

from service.errors import MalformedMultipart

# A part's headers are as long as the file's name makes them. File systems keep names of up to 255
# UTF-16 code units, which are at most three bytes of UTF-8 each; percent-encoding turns each byte
# into three; and clients say the name twice, as `filename` and as `filename*`.
_LONGEST_NAME_BYTES = 255 * 3
_SAID_TWICE_AND_ENCODED = 2 * 3
_OTHER_HEADER_BYTES = 1024
MAX_HEADER_BYTES = _LONGEST_NAME_BYTES * _SAID_TWICE_AND_ENCODED + _OTHER_HEADER_BYTES
# What stands in preambles is a sentence for people whose program knows no parts.
MAX_PREAMBLE_BYTES = 4096
_MAX_PADDING_BYTES = 256

_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:(.*)", re.DOTALL)
_PADDING = rb"[ \t]{0,%d}+" % _MAX_PADDING_BYTES


class Parts(Protocol):
    """What is told of a body's parts, in order."""

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        """A part begins; the names of its headers are in lower case."""

    def data(self, data: memoryview) -> None:
        """A piece of the part's content."""

    def end(self) -> None:
        """The part is complete."""


class MultipartReader:
    """Tells ``parts`` of the parts of a body that arrives piece by piece.

    It holds back no more than a boundary's line, a part's headers, or the preamble.
    """

    def __init__(self, boundary: bytes, parts: Parts) -> None:
        self._parts = parts
        delimiter = b"\r\n--" + boundary
        # A line that only begins like a boundary is none, and may be repeated without an end:
        # whole lines are looked for, so that those are passed over by the search itself.
        self._boundary = re.compile(re.escape(delimiter) + rb"(?:(--)|" + _PADDING + rb"(?=\r\n))")
        self._longest_line = len(delimiter) + _MAX_PADDING_BYTES + 2
        self._without_cr = delimiter + b"\n"
        # The break of the line before belongs to a boundary. The first may open the body.
        self._held = b"\r\n"
        self._blank = 0
        self._read = self._read_preamble

    def feed(self, data: bytes) -> None:
        """Take the next piece.

        Raises:
            MalformedMultipart: the body is not as it must be.
        """
        if self._read == self._skip:
            return
        self._held += data
        while self._read():
            pass

    def finish(self) -> None:
        """The body is complete.

        Raises:
            MalformedMultipart: a boundary is missing.
        """
        if self._read == self._read_preamble:
            raise MalformedMultipart("it has none of the boundaries that its Content-Type names")
        if self._read != self._skip:
            raise MalformedMultipart("it ends before its last boundary")

    def _read_preamble(self) -> bool:
        found = self._boundary.search(self._held)
        preamble = self._held[: found.start()] if found else self._held
        if len(preamble) > MAX_PREAMBLE_BYTES + (0 if found else self._longest_line):
            raise MalformedMultipart(
                f"its first {MAX_PREAMBLE_BYTES} bytes have none of the boundaries that its "
                "Content-Type names",
                limit=MAX_PREAMBLE_BYTES,
            )
        if self._without_cr in preamble:
            raise MalformedMultipart("its lines end with LF alone, and must end with CR LF")
        if found is None:
            return False
        self._go_behind(found)
        return True

    def _read_headers(self) -> bool:
        # The break of the boundary's line is still held, so that headers may be none.
        end = self._held.find(b"\r\n\r\n")
        if (end if end >= 0 else len(self._held) - 3) > MAX_HEADER_BYTES + 2:
            raise MalformedMultipart(
                f"a part's headers have more than {MAX_HEADER_BYTES} bytes; shorten the file's "
                "name",
                limit=MAX_HEADER_BYTES,
            )
        if end < 0:
            return False
        self._parts.begin(_parse_headers(self._held[2:end]))
        # The empty line is no content, but may be the line break that belongs to a boundary.
        self._held, self._blank = self._held[end + 2 :], 2
        self._read = self._read_data
        return True

    def _read_data(self) -> bool:
        found = self._boundary.search(self._held)
        if found is None:
            complete = max(0, len(self._held) - self._longest_line)
            self._tell(complete)
            self._held = self._held[complete:]
            return False
        self._tell(found.start())
        self._parts.end()
        self._go_behind(found)
        return True

    def _go_behind(self, found: re.Match[bytes]) -> None:
        """A boundary was found: the last, or one with a part behind it."""
        self._held = self._held[found.end() :]
        self._read = self._skip if found[1] else self._read_headers

    def _tell(self, count: int) -> None:
        """Hand on this number of the bytes held, but for the empty line before the content."""
        blank = min(self._blank, count)
        self._blank -= blank
        if count > blank:
            self._parts.data(memoryview(self._held)[blank:count])

    def _skip(self) -> bool:
        self._held = b""
        return False


def _parse_headers(block: bytes) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    name = b""
    for line in block.split(b"\r\n") if block else ():
        if line[:1] in (b" ", b"\t") and name:  # a long header may go on in the next line
            headers[name] += b" " + line.strip(b" \t")
        elif found := _HEADER.fullmatch(line):
            name = found[1].lower()
            headers[name] = found[2].strip(b" \t")
        else:
            raise MalformedMultipart("a part has a header that is not `Name: value`")
    return headers
