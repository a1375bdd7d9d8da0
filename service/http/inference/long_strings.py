"""JSON that arrives piece by piece, whose long strings are clips.

A parser would want the whole body at once, and make of 64 MiB of brackets a gigabyte of lists. Here
a string that turns out to be long leaves the document while it arrives; what is left is small, and
is parsed at the end.
"""

import binascii
import json
import re
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from service.errors import MalformedInference

# Beyond it a string is taken for a clip: no name, label or parameter is so long. What is shorter is
# held with the document.
LONG_STRING_BYTES = 4096
# Of the document without its long strings.
MAX_DOCUMENT_BYTES = 64 * 1024

_CONTENT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
# What an encoder may write in the place of base64's own characters: `\/` for `/`, `\u002B` for `+`.
_ESCAPED = re.compile(rb"\\u([0-9a-fA-F]{4})")
_ESCAPE_BYTES = len(rb"\u0000")


class Sink(Protocol):
    """Takes the bytes of one clip."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...


class Base64:
    """Decodes base64 (RFC 4648, section 4) that arrives piece by piece, as it stands in JSON.

    Raises, wherever it is not base64, MalformedInference.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._escape = self._quad = b""
        self._padded = False

    def write(self, text: bytes) -> None:
        """Take a piece of the string's content, with its escapes."""
        if self._escape or b"\\" in text:
            text = self._without_escapes(text)
        text = self._quad + text
        whole = len(text) - len(text) % 4
        self._quad = text[whole:]
        self._decode(text[:whole])

    def finish(self) -> None:
        if self._escape or self._quad:
            raise _no_base64()
        self.sink.finish()

    def _without_escapes(self, text: bytes) -> bytes:
        text = self._escape + text
        last = text.rfind(b"\\")
        if last >= 0 and len(text) - last < _ESCAPE_BYTES and text[last + 1 : last + 2] != b"/":
            text, self._escape = text[:last], text[last:]
        else:
            self._escape = b""
        text = text.replace(b"\\/", b"/")
        return _ESCAPED.sub(lambda found: bytes([min(int(found[1], 16), 255)]), text)

    def _decode(self, quads: bytes) -> None:
        if not quads:
            return
        if self._padded:
            raise _no_base64()
        self._padded = quads.endswith(b"=")
        try:
            self.sink.write(binascii.a2b_base64(quads, strict_mode=True))
        except binascii.Error:
            raise _no_base64() from None


def _no_base64() -> MalformedInference:
    return MalformedInference(
        "a clip in JSON has to be base64: A to Z, a to z, 0 to 9, + and /, with = at its end to "
        "make its length a multiple of four, and nothing else"
    )


class JsonDocument:
    """A JSON document that arrives piece by piece; each long string goes to a sink as base64.

    Args:
        begin: makes the sink of the next long string.
    """

    def __init__(self, begin: Callable[[], Sink]) -> None:
        self._begin = begin
        self._kept = bytearray()
        self._escape = b""
        self._inside = False  # of a string
        self._string = 0  # where in `kept` its content begins
        self._long: Base64 | None = None
        # Nobody can write such a name into a document beforehand.
        self._secret = secrets.token_hex(16)
        self._sinks: dict[str, Sink] = {}

    @property
    def long_strings(self) -> int:
        """How many there were."""
        return len(self._sinks)

    def sink_of(self, value: object) -> Sink | None:
        """The sink of a long string, by what stands in its place in the document."""
        return self._sinks.get(value) if isinstance(value, str) else None

    def feed(self, data: bytes) -> None:
        """Take the next piece.

        Raises:
            MalformedInference: it is no JSON, or a long string is not base64.
        """
        if self._escape:
            data, self._escape = self._escape + data, b""
        place = 0
        while place < len(data):
            place = self._content(data, place) if self._inside else self._outside(data, place)

    def finish(self) -> Any:
        """The document.

        Raises:
            MalformedInference: it is no JSON.
        """
        try:
            return json.loads(
                self._kept.decode("utf-8"),
                parse_constant=_no_constant,
                object_pairs_hook=_without_repetitions,
            )
        except RecursionError:
            raise MalformedInference("its JSON has too many levels") from None
        except ValueError:  # also of what is not UTF-8, and of numbers without an end
            raise MalformedInference(
                "it has to be a JSON document, or to begin with one of so many bytes as "
                "Inference-Header-Content-Length says, and this is none"
            ) from None

    def _outside(self, data: bytes, place: int) -> int:
        quote = data.find(b'"', place)
        end = len(data) if quote < 0 else quote + 1
        self._keep(data[place:end])
        self._inside, self._string = quote >= 0, len(self._kept)
        return end

    def _content(self, data: bytes, place: int) -> int:
        found = _CONTENT.match(data, place)
        assert found is not None  # it also matches nothing
        end = found.end()
        if self._long is not None:
            self._long.write(data[place:end])
        else:
            self._keep(data[place:end])
            if len(self._kept) - self._string > LONG_STRING_BYTES:
                self._take_out()
        if data[end : end + 1] == b"\\":  # what it escapes has not arrived
            self._escape = data[end:]
            return len(data)
        if end < len(data):
            self._close()
        return end + 1

    def _take_out(self) -> None:
        sink = self._begin()
        content = bytes(self._kept[self._string :])
        name = f"{self._secret}{len(self._sinks)}"
        self._kept[self._string :] = name.encode()
        self._sinks[name] = sink
        self._long = Base64(sink)
        self._long.write(content)

    def _close(self) -> None:
        self._kept += b'"'
        self._inside = False
        if self._long is not None:
            self._long.finish()
            self._long = None

    def _keep(self, data: bytes) -> None:
        """Pieces are as long as the network makes them: a long string's first is let through."""
        self._kept += data
        kept = self._string if self._inside else len(self._kept)
        if kept > MAX_DOCUMENT_BYTES:
            raise MalformedInference(
                f"its JSON has more than {MAX_DOCUMENT_BYTES} bytes besides its clips"
            )


def _no_constant(name: str) -> None:
    raise MalformedInference(f"{name} is no value of JSON")


def _without_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedInference("an object of its JSON has a member twice")
    return found
