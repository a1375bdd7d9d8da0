"""A request's body into a block of memory, counted as it arrives, refused as early as possible.

Starlette's own form parser spools files of any size before anyone can object, and knows neither
preambles nor all else that the standard allows; so forms are read here, part by part.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from python_multipart.multipart import parse_options_header

from service.decoding.containers import CONTAINERS, SNIFF_BYTES, Container, identify
from service.decoding.descriptors import Room
from service.errors import (
    BodyTooLarge,
    ClientDisconnected,
    EmptyBody,
    MalformedMultipart,
    MissingFile,
    Overloaded,
    SeveralFiles,
    Shortage,
    UnsupportedMediaType,
    UploadTimeout,
    UploadTooSlow,
)
from service.http.multipart import MultipartReader
from service.pipeline.way import Received

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

FILE_FIELD = "file"

# What a part's Content-Transfer-Encoding may say: it goes over the wire as it is.
_IDENTITY = (b"", b"binary", b"8bit", b"7bit")

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


class HeldMemory:
    """Counts the bytes of all bodies that are held at the same time.

    Args:
        limit_bytes: beyond which a body is refused.
        shortage: what there is too little of then.
    """

    def __init__(self, limit_bytes: int, shortage: Shortage = "uploads") -> None:
        self._limit_bytes, self._shortage = limit_bytes, shortage
        self.held_bytes = 0

    def take(self, count: int) -> None:
        """Count ``count`` more bytes.

        Raises:
            Overloaded: they would be too many.
        """
        if self.held_bytes + count > self._limit_bytes:
            raise Overloaded(_RETRY_SECONDS, self._shortage)
        self.held_bytes += count

    def give_back(self, count: int) -> None:
        self.held_bytes -= count


class ClipSink:
    """Takes a clip's bytes; refuses what is not a container we accept as soon as that is clear."""

    def __init__(self, block: Room, accepted: tuple[Container, ...] = CONTAINERS) -> None:
        self._block, self._accepted = block, accepted
        self._container: Container | None = None

    def write(self, data: bytes | memoryview) -> None:
        self._block.append(data)
        if self._container is None and self._block.size >= SNIFF_BYTES:
            self._container = self._identify()

    def finish(self) -> Container:
        """Raises what :func:`service.decoding.containers.identify` does."""
        return self._container or self._identify()

    def _identify(self) -> Container:
        return identify(self._block.read(SNIFF_BYTES), self._accepted)


class RequestBody:
    """The body of one HTTP request, read once; its bytes count as held until :meth:`release`.

    Attributes:
        headers: the request's.
        limits: of the body.
        complete: whether its last byte is here.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        receive: Receive,
        limits: BodyLimits,
        memory: HeldMemory | None = None,
    ) -> None:
        self.headers, self.limits, self._receive = headers, limits, receive
        self._memory = memory or HeldMemory(limits.max_body_bytes)
        self._count = self._held = 0
        self._began = 0.0
        self.complete = False
        self._started = self._gone = False

    def release(self) -> None:
        """Say that its bytes are held no more."""
        self._memory.give_back(self._held)
        self._held = 0

    async def read_clip(self, block: Room) -> Received:
        """Read everything; the clip's bytes go to ``block``.

        Raises:
            UploadError: too large, too slow, not of a form we know, or empty.
            Overloaded: too many bytes of other uploads are held already.
            ClipError: the first bytes are not those of a container we accept.
            ClientDisconnected: the client went away.
        """
        content_type = self.headers.get("content-type", "").strip()
        kind, options = parse_options_header(content_type)
        async with self.reading():
            if kind == b"multipart/form-data":
                return await self._read_multipart(options.get(b"boundary", b""), block)
            # Without a type a body is bytes (RFC 9110, section 8.3), and libraries send bytes so;
            # the first of them decide in any case.
            if (
                not content_type
                or kind.startswith(b"video/")
                or kind == b"application/octet-stream"
            ):
                return await self._read_raw(block)
        raise UnsupportedMediaType(content_type)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Around reading it piece by piece with :meth:`chunk`: what its length says, and its time.

        Raises:
            BodyTooLarge, EmptyBody: by its length.
            UploadTimeout: it took too long.
        """
        length = self.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self.limits.max_body_bytes:
            raise BodyTooLarge(self.limits.max_body_bytes)
        if length == "0":
            raise EmptyBody
        self._began = time.monotonic()
        try:
            async with asyncio.timeout(self.limits.upload_timeout_seconds):
                yield
        except TimeoutError:
            raise UploadTimeout(self.limits.upload_timeout_seconds) from None

    async def _read_raw(self, block: Room) -> Received:
        sink = ClipSink(block, self.limits.containers)
        while not self.complete:
            sink.write(await self.chunk())
            await block.settle()
        return Received(sink.finish())

    async def _read_multipart(self, boundary: bytes, block: Room) -> Received:
        if not 1 <= len(boundary) <= 70:
            raise MalformedMultipart(
                "its Content-Type names no boundary of 1 to 70 characters; leave that header to "
                "what builds the form"
            )
        form = _Form(ClipSink(block, self.limits.containers), self.limits)
        reader = MultipartReader(boundary, form)
        while not self.complete:
            reader.feed(await self.chunk())
            await block.settle()
        if self._count == 0:
            raise EmptyBody
        reader.finish()
        return form.finish()

    async def chunk(self) -> bytes:
        """The next piece, counted; within :meth:`reading`, until :attr:`complete`.

        Raises:
            BodyTooLarge, UploadTooSlow, Overloaded, ClientDisconnected.
        """
        self._started = True
        message = await self._receive_in_time()
        if message["type"] == "http.disconnect":
            self._gone = True
            raise ClientDisconnected
        data: bytes = message.get("body", b"")
        self.complete = not message.get("more_body", False)
        self._count += len(data)
        if self._count > self.limits.max_body_bytes:
            raise BodyTooLarge(self.limits.max_body_bytes)
        self._memory.take(len(data))
        self._held += len(data)
        return data

    async def _receive_in_time(self) -> MutableMapping[str, Any]:
        """The next piece, unless the body falls behind the minimum rate while it is awaited.

        ``count`` bytes may take the grace and ``count / rate`` seconds; each byte that comes moves
        the deadline by what it is worth, so that one now and then does not keep a slot.
        """
        limits = self.limits
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
                while not (self.complete or self._gone):
                    message = await self._receive()
                    self.complete = not message.get("more_body", False)
                    self._gone = message["type"] == "http.disconnect"
                    self._count += len(message.get("body", b""))
                    if self._count > 2 * self.limits.max_body_bytes:
                        return False
        except TimeoutError:
            return False
        return True

    async def gone(self) -> None:
        """Return when the client has gone; to be awaited only after the body was read."""
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"


class _Form:
    """The parts of a form: one file to the sink, small fields kept, all of it bounded."""

    def __init__(self, sink: ClipSink, limits: BodyLimits) -> None:
        self._sink, self._limits = sink, limits
        self._fields: list[tuple[str, str]] = []
        self._parts = self._file_parts = self._file_bytes = 0
        self._name = ""
        self._value = bytearray()

    def finish(self) -> Received:
        if not self._file_parts:
            raise MissingFile
        if not self._file_bytes:
            raise EmptyBody("The field `file`")
        return Received(self._sink.finish(), self._fields)

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        self._parts += 1
        most = self._limits.max_form_fields
        if self._parts > most:
            raise MalformedMultipart(f"it has more than {most} parts", limit=most)
        disposition = headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(disposition)
        if kind != b"form-data" or b"name" not in options:
            raise MalformedMultipart("a part has no Content-Disposition with a name")
        most = self._limits.max_form_field_bytes
        if len(options[b"name"]) > most:
            raise MalformedMultipart(f"a form field's name has more than {most} bytes", limit=most)
        self._name = options[b"name"].decode("utf-8", "replace")
        self._value = bytearray()
        encoding = headers.get(b"content-transfer-encoding", b"").lower()
        if encoding not in _IDENTITY:
            shown = encoding[:40].decode("ascii", "replace")
            raise MalformedMultipart(f"a part is encoded as {shown!r}; send it as it is")
        if headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            raise SeveralFiles
        is_file = self._name == FILE_FIELD
        self._file_parts += is_file
        names_a_file = b"filename" in options or b"filename*" in disposition.lower()
        if self._file_parts > 1 or (names_a_file and not is_file):
            raise SeveralFiles if self._file_parts else MissingFile(self._name)

    def data(self, data: memoryview) -> None:
        if self._name == FILE_FIELD:
            self._file_bytes += len(data)
            self._sink.write(data)
            return
        self._value += data
        most = self._limits.max_form_field_bytes
        if len(self._value) > most:
            raise MalformedMultipart(f"a form field has more than {most} bytes", limit=most)

    def end(self) -> None:
        # Forms have all of their fields, and those that nobody touched are empty: so browsers send
        # them, and the page of the interface's description.
        if self._name != FILE_FIELD and self._value:
            self._fields.append((self._name, self._value.decode("utf-8", "replace")))
