"""A request's body into a block of memory, counted as it arrives, refused as early as possible.

Starlette's own form parser spools files of any size before anyone can object, so the multipart
parser underneath is driven here, part by part.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.containers import CONTAINERS, SNIFF_BYTES, Container, identify
from service.decoding.blocks import Block
from service.errors import (
    BodyTooLarge,
    ClientDisconnected,
    EmptyBody,
    MalformedMultipart,
    MissingFile,
    Overloaded,
    SeveralFiles,
    UnsupportedMediaType,
    UploadTimeout,
    UploadTooSlow,
)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

FILE_FIELD = "file"

# Uploads take seconds; how long these will take is not ours to know.
_RETRY_SECONDS = 2


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """See the settings of the same names."""

    max_body_bytes: int
    max_form_fields: int
    max_form_field_bytes: int
    upload_timeout_seconds: float
    min_upload_bytes_per_second: int
    upload_grace_seconds: float
    containers: tuple[Container, ...] = CONTAINERS


class UploadMemory:
    """Counts the bytes of all bodies that are held at the same time.

    Args:
        limit_bytes: beyond which a body is refused.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, count: int) -> None:
        """Count ``count`` more bytes.

        Raises:
            Overloaded: they would be too many.
        """
        if self.held_bytes + count > self._limit_bytes:
            raise Overloaded(_RETRY_SECONDS, "uploads")
        self.held_bytes += count

    def give_back(self, count: int) -> None:
        self.held_bytes -= count


@dataclass(slots=True)
class Received:
    """What a body held besides the clip's bytes."""

    container: Container
    form: list[tuple[str, str]] = field(default_factory=list)


class ClipSink:
    """Takes a clip's bytes; refuses what is not a container we accept as soon as that is clear."""

    def __init__(self, block: Block, accepted: tuple[Container, ...] = CONTAINERS) -> None:
        self._block, self._accepted = block, accepted
        self._container: Container | None = None

    def write(self, data: bytes | memoryview) -> None:
        self._block.append(data)
        if self._container is None and self._block.size >= SNIFF_BYTES:
            self._container = self._identify()

    def finish(self) -> Container:
        """Raises what :func:`service.containers.identify` does."""
        return self._container or self._identify()

    def _identify(self) -> Container:
        return identify(self._block.read(SNIFF_BYTES), self._accepted)


class RequestBody:
    """The body of one HTTP request, read once; its bytes count as held until :meth:`release`."""

    def __init__(
        self,
        headers: Mapping[str, str],
        receive: Receive,
        limits: BodyLimits,
        memory: UploadMemory | None = None,
    ) -> None:
        self._headers, self._receive, self._limits = headers, receive, limits
        self._memory = memory or UploadMemory(limits.max_body_bytes)
        self._count = self._held = 0
        self._began = 0.0
        self._started = self._complete = self._gone = False

    def release(self) -> None:
        """Say that its bytes are held no more."""
        self._memory.give_back(self._held)
        self._held = 0

    async def read_clip(self, block: Block) -> Received:
        """Read everything; the clip's bytes go to ``block``.

        Raises:
            UploadError: too large, too slow, not of a form we know, or empty.
            Overloaded: too many bytes of other uploads are held already.
            ClipError: the first bytes are not those of a container we accept.
            ClientDisconnected: the client went away.
        """
        kind, options = parse_options_header(self._headers.get("content-type", ""))
        length = self._headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._limits.max_body_bytes:
            raise BodyTooLarge(self._limits.max_body_bytes)
        if length == "0":
            raise EmptyBody
        self._began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.upload_timeout_seconds):
                if kind == b"multipart/form-data":
                    return await self._read_multipart(options.get(b"boundary", b""), block)
                if kind.startswith(b"video/") or kind == b"application/octet-stream":
                    return await self._read_raw(block)
        except TimeoutError:
            raise UploadTimeout(self._limits.upload_timeout_seconds) from None
        raise UnsupportedMediaType

    async def _read_raw(self, block: Block) -> Received:
        sink = ClipSink(block, self._limits.containers)
        while not self._complete:
            sink.write(await self._chunk())
        return Received(sink.finish())

    async def _read_multipart(self, boundary: bytes, block: Block) -> Received:
        if not 1 <= len(boundary) <= 70:
            raise MalformedMultipart("its Content-Type names no boundary of 1 to 70 characters")
        form = _Form(boundary, ClipSink(block, self._limits.containers), self._limits)
        while not self._complete:
            form.feed(await self._chunk())
        if self._count == 0:
            raise EmptyBody
        return form.finish()

    async def _chunk(self) -> bytes:
        self._started = True
        message = await self._receive_in_time()
        if message["type"] == "http.disconnect":
            self._gone = True
            raise ClientDisconnected
        data: bytes = message.get("body", b"")
        self._complete = not message.get("more_body", False)
        self._count += len(data)
        if self._count > self._limits.max_body_bytes:
            raise BodyTooLarge(self._limits.max_body_bytes)
        self._memory.take(len(data))
        self._held += len(data)
        return data

    async def _receive_in_time(self) -> MutableMapping[str, Any]:
        """The next piece, unless the body falls behind the minimum rate while it is awaited.

        ``count`` bytes may take the grace and ``count / rate`` seconds; each byte that comes moves
        the deadline by what it is worth, so that one now and then does not keep a slot.
        """
        limits = self._limits
        due = self._began + limits.upload_grace_seconds
        due += self._count / limits.min_upload_bytes_per_second
        message = None
        # A receive that is ready is taken even when the deadline has passed while we did not look.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - time.monotonic())):
                message = await self._receive()
        if message is None:
            raise UploadTooSlow(limits.min_upload_bytes_per_second)
        return message

    async def drain(self, seconds: float = 1.0) -> bool:
        """Take in and forget the rest of a body that was refused, for a moment.

        A connection that is closed while the client still sends is reset, and the client may never
        see why it was refused. A body that nobody has begun to read is left to the server, which
        forgets it as it comes: the answer need not wait, and neither may the client for consent.

        Returns:
            Whether the connection can go on; if not, it must be closed to be rid of the rest.
        """
        if not self._started:
            return True
        try:
            async with asyncio.timeout(seconds):
                while not (self._complete or self._gone):
                    message = await self._receive()
                    self._complete = not message.get("more_body", False)
                    self._gone = message["type"] == "http.disconnect"
                    self._count += len(message.get("body", b""))
                    if self._count > 2 * self._limits.max_body_bytes:
                        return False
        except TimeoutError:
            return False
        return True

    async def gone(self) -> None:
        """Return when the client has gone; to be awaited only after the body was read."""
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"


class _Form:
    """Drives the multipart parser: one file to the sink, small fields kept, all of it bounded."""

    def __init__(self, boundary: bytes, sink: ClipSink, limits: BodyLimits) -> None:
        self._sink, self._limits = sink, limits
        self._fields: list[tuple[str, str]] = []
        self._parts = self._file_parts = self._file_bytes = self._header_bytes = 0
        self._name = ""
        self._value = bytearray()
        self._header_name, self._header_value = bytearray(), bytearray()
        self._disposition = b""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            callbacks={
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_part,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        if not data:
            return
        try:
            self._parser.write(data)
        except MultipartParseError:
            raise MalformedMultipart("a boundary or a part's header is not as it must be") from None

    def finish(self) -> Received:
        if not self._ended:
            raise MalformedMultipart("it ends before its last boundary")
        if not self._file_parts:
            raise MissingFile
        if not self._file_bytes:
            raise EmptyBody("The field `file`")
        return Received(self._sink.finish(), self._fields)

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._limits.max_form_fields:
            raise MalformedMultipart(f"it has more than {self._limits.max_form_fields} parts")
        self._disposition, self._header_bytes = b"", 0
        self._value = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _header_part(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > self._limits.max_form_field_bytes:
            limit = self._limits.max_form_field_bytes
            raise MalformedMultipart(f"a part's headers have more than {limit} bytes")

    def _header_end(self) -> None:
        if bytes(self._header_name).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name, self._header_value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise MalformedMultipart("a part has no Content-Disposition with a name")
        self._name = options[b"name"].decode("utf-8", "replace")
        if self._name == FILE_FIELD:
            self._file_parts += 1
        if self._file_parts > 1 or (b"filename" in options and self._name != FILE_FIELD):
            raise SeveralFiles if self._file_parts else MissingFile

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_FIELD:
            self._file_bytes += end - start
            self._sink.write(memoryview(data)[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > self._limits.max_form_field_bytes:
            limit = self._limits.max_form_field_bytes
            raise MalformedMultipart(f"a form field has more than {limit} bytes")

    def _part_end(self) -> None:
        if self._name != FILE_FIELD:
            self._fields.append((self._name, self._value.decode("utf-8", "replace")))

    def _end(self) -> None:
        self._ended = True
