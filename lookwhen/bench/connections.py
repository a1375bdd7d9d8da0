"""HTTP/1.1 requests that cost the load generator next to nothing.

httpx takes about a millisecond of CPU for a request, and on a machine that the server shares it
would be measured along. Requests here are bytes made beforehand, and of an answer only the status
and the body are read.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


class AnswerError(Exception):
    """The connection ended without a whole answer, or none could be made."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


def request_bytes(
    url: str, content_type: str, body: bytes, headers: Mapping[bytes, bytes] | None = None
) -> bytes:
    """A POST as it goes over the wire; ``headers`` are further ones."""
    parts = urlsplit(url)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nAccept: application/json\r\n"
    ).encode("ascii")
    more = b"".join(name + b": " + value + b"\r\n" for name, value in (headers or {}).items())
    return head + more + b"\r\n" + body


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Answer] | None = None
        self.reusable = True
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        assert self.transport is not None
        self._received.clear()
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            answer = parse(self._received)
        except ValueError as error:
            self._fail(str(error))
            return
        if answer is not None and self.answer is not None and not self.answer.done():
            head = bytes(self._received[: self._received.find(b"\r\n\r\n")]).lower()
            self.reusable = b"\r\nconnection: close" not in head
            self.answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._fail("the connection was closed")

    def _fail(self, reason: str) -> None:
        self.reusable = False
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(AnswerError(reason))


def parse(received: bytes | bytearray) -> Answer | None:
    """An answer, or None while it is not whole.

    Raises:
        ValueError: not HTTP/1.1, or a body whose length is not told.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = bytes(received[:end]).split(b"\r\n")
    if not lines[0].startswith(b"HTTP/1."):
        raise ValueError("the answer is not HTTP")
    status = int(lines[0].split(b" ", 2)[1])
    headers = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(b":") for line in lines[1:])
    }
    body = memoryview(received)[end + 4 :]
    if b"content-length" in headers:
        length = int(headers[b"content-length"])
        return Answer(status, bytes(body[:length])) if len(body) >= length else None
    if headers.get(b"transfer-encoding") == b"chunked":
        return _chunked(status, bytes(body))
    raise ValueError("the answer does not tell its length")


def _chunked(status: int, rest: bytes) -> Answer | None:
    whole = b""
    while True:
        size, line, after = rest.partition(b"\r\n")
        if not line:
            return None
        length = int(size.split(b";")[0], 16)
        if len(after) < length + 2:
            return None
        if length == 0:
            return Answer(status, whole)
        whole, rest = whole + after[:length], after[length + 2 :]


class Client:
    """Connections to one server: as many as requests are in flight.

    Args:
        keep: connections for later requests. Without it each request has one of its own, as callers
            have that know nothing of each other.
    """

    def __init__(self, url: str, *, keep: bool = True) -> None:
        self._keep = keep
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self._tls = ssl.create_default_context() if secure else None
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if secure else 80)
        self._idle: deque[_Connection] = deque()

    async def ask(self, request: bytes, timeout: float) -> Answer:
        """Send and wait.

        Raises:
            TimeoutError: no answer within ``timeout`` seconds; the connection is closed, as a
                caller who gives up would.
            AnswerError: no connection, or one that ended early.
        """
        async with asyncio.timeout(timeout):
            connection = await self._connection()
            try:
                answer = await connection.ask(request)
            except BaseException:
                if connection.transport is not None:
                    connection.transport.abort()
                raise
        if self._keep and connection.reusable:
            self._idle.append(connection)
        elif connection.transport is not None:
            connection.transport.close()
        return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            # The newest, which the server is least likely to have closed meanwhile.
            connection = self._idle.pop()
            if connection.reusable and connection.transport is not None:
                return connection
        loop = asyncio.get_running_loop()
        try:
            _, fresh = await loop.create_connection(
                _Connection, self._host, self._port, ssl=self._tls
            )
        except OSError as error:
            raise AnswerError(f"no connection: {error.strerror or error}") from None
        return fresh

    def close(self) -> None:
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        self._idle.clear()
