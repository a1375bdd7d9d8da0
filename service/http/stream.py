"""``WS /stream``: a video in binary messages as it is made, events as JSON as they happen."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

from fastapi import APIRouter, WebSocket
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect, WebSocketState

from service.decoding.containers import SNIFF_BYTES, identify
from service.decoding.fetching import Fetcher, SourceError, StreamLost, plan_of_pipe
from service.errors import (
    ClientDisconnected,
    EmptyBody,
    InternalError,
    NotReady,
    OriginNotAllowed,
    ServiceError,
    StreamIdle,
    StreamTooFast,
    UnexpectedMessage,
    UpgradeRequired,
)
from service.http.forwarded import root_path
from service.http.live_lines import StreamLines
from service.http.middleware import SOCKET_PATH
from service.http.openapi import problem_response
from service.http.problems import refusal
from service.pipeline.findings import LiveEvent
from service.pipeline.live import LiveCall
from service.pipeline.pipeline import Pipeline
from service.settings import Settings
from service.sparsity.timeline_parameters import LiveParameters

logger = logging.getLogger("service.access")
router = APIRouter()

# Offered beside a key (`service.http.access.KEY_PREFIX`), because one has to be chosen.
PROTOCOL = "lookwhen"
_END = "end"
# Three packets of a transport stream, the least by which one is known.
_LEAST_BYTES = 3 * 188
# Over so long bytes a second are counted: a key frame may be large.
_RATE_SECONDS = 10.0
# RFC 6455, 7.4.1, and the registry: as pages understand them.
_OK, _GOING, _POLICY, _INTERNAL, _AGAIN = 1000, 1001, 1008, 1011, 1013


@router.get(
    "/stream",
    status_code=426,
    response_class=Response,
    responses={426: problem_response(UpgradeRequired)},
    summary="Watch a stream, over a WebSocket",
    tags=["classification"],
)
async def how_to_stream() -> Response:
    """Open a WebSocket here and send a video in binary messages as it is made, as a browser's
    `MediaRecorder` gives it (WebM, fragmented MP4) or as a transport stream; the text `end` ends
    it. Each message that comes back is a JSON document with one member: `connected`, `event` as
    something begins or ends, `segment`, `cut`, `left_out`, `window` where `detail=windows`, and
    `done` at the end, or a problem document in its place.
    """
    raise UpgradeRequired


@router.websocket(SOCKET_PATH)
async def stream(socket: WebSocket) -> None:
    """Watch what is sent."""
    try:
        await _Conversation(socket).go()
    except ServiceError as error:
        socket.state.log = {"code": error.code}
    except Exception:
        logger.exception("an unexpected error")
        socket.state.log = {"code": InternalError.code}
        socket.app.state.metrics.count_error(InternalError.code)
        with contextlib.suppress(Exception):
            await socket.close(_INTERNAL)


class _Conversation:
    """One socket, from its first byte to its last."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._request_id = socket, socket.state.request_id
        self._pipeline: Pipeline = socket.app.state.pipeline
        self._lines = StreamLines(self._pipeline.manifest, self._request_id)

    async def go(self) -> None:
        """Let in, watch and end; what is wrong is told, and raised for the record."""
        socket, pipeline = self._socket, self._pipeline
        try:
            if not origin_may_ask(socket.headers, pipeline.settings.cors_origins):
                raise OriginNotAllowed
            query = socket.query_params.multi_items()
            if reason := pipeline.not_ready_because():
                raise NotReady(reason)
            pipeline.streams.plan(query)
            offered = socket.scope.get("subprotocols", [])
            with _while_there():
                await socket.accept(
                    PROTOCOL if PROTOCOL in offered else None,
                    [(b"x-request-id", self._request_id.encode())],
                )
            source = SentStream(socket, pipeline.settings)
            try:
                await pipeline.watch(LiveCall(source, query, self._say))
            except SourceError as error:  # of the installation, and not of what was sent
                logger.error("a stream cannot be taken", extra={"reason": str(error)})
                raise InternalError from None
            await self._close(_OK)
        except ServiceError as error:
            await self._refuse(error)
            raise

    async def _refuse(self, error: ServiceError) -> None:
        if isinstance(error, ClientDisconnected):
            self._pipeline.metrics.count_error(error.code)
            return
        if self._socket.application_state == WebSocketState.CONNECTING:
            response = refusal(self._socket.scope, error)
            with _while_there():
                await self._socket.send_denial_response(response)
            return
        self._pipeline.metrics.count_error(error.code)
        problem = error.problem(self._request_id, root_path(self._socket.scope))
        with contextlib.suppress(ServiceError):
            await self._send(json.dumps(problem))
        await self._close(_code_of(error))

    async def _close(self, code: int) -> None:
        if self._pipeline.draining and code == _OK:
            code = _GOING
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._socket.close(code)

    async def _say(self, asked: LiveParameters, event: LiveEvent) -> None:
        if (part := self._lines.line(asked, event)) is not None:
            await self._send(part.model_dump_json())

    async def _send(self, text: str) -> None:
        """Raises ClientDisconnected where the reader has left, or takes too long."""
        try:
            async with asyncio.timeout(self._pipeline.settings.download_timeout_seconds):
                await self._socket.send_text(text)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            raise ClientDisconnected from None


@contextlib.contextmanager
def _while_there() -> Iterator[None]:
    """Before a socket is open the server tells by an OSError that the client has left."""
    try:
        yield
    except OSError:
        raise ClientDisconnected from None


def _code_of(error: ServiceError) -> int:
    if error.status in (429, 503):
        return _AGAIN
    return _INTERNAL if error.status >= 500 else _POLICY


def origin_may_ask(headers: Headers, allowed: tuple[str, ...]) -> bool:
    """Whether a page of this origin may open a stream: those of the service's own, and those that
    the settings name. A program that is no browser says no origin."""
    origin = headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and parts.netloc.lower() == headers.get("host", "").lower()
    )


class SentStream:
    """What a client sends, as the source of a stream."""

    shown, returns, ends = "what was sent", False, True

    def __init__(self, socket: WebSocket, settings: Settings) -> None:
        self._socket, self._settings = socket, settings
        self._gone = asyncio.Event()
        self._began: float | None = None
        self._bytes = 0
        self._over = False

    async def gone(self) -> None:
        await self._gone.wait()

    async def stopped(self) -> None:
        await asyncio.Event().wait()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator["_Sent"]:
        head = await self._head()
        container = identify(head[:SNIFF_BYTES], self._settings.containers)
        plan = plan_of_pipe(container, self._settings.decode_sandbox)
        async with Fetcher(plan, piped=True) as fetcher:
            pumping = asyncio.create_task(self._pump(fetcher, head))
            try:
                yield _Sent(fetcher, pumping)
            finally:
                pumping.cancel()
                await asyncio.gather(pumping, return_exceptions=True)

    async def _head(self) -> bytes:
        """The first bytes, as many as say which container it is."""
        head = b""
        idle = self._settings.stream_idle_timeout_seconds
        try:
            async with asyncio.timeout(idle):
                while len(head) < _LEAST_BYTES:
                    if (data := await self._message()) is None:
                        break
                    head += data
        except TimeoutError:
            raise StreamIdle(idle) from None
        if not head:
            raise EmptyBody
        return head

    async def _pump(self, fetcher: Fetcher, head: bytes) -> None:
        """Give on what comes until it ends.

        Raises:
            ServiceError: it is not what a stream is.
        """
        with contextlib.suppress(StreamLost):  # what FFmpeg did not want; its end says so
            await fetcher.send(head)
            while not self._over and (data := await self._message()) is not None:
                await fetcher.send(data)
            fetcher.end()

    async def _message(self) -> bytes | None:
        """The next part of the stream; None at its end."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            self._gone.set()
            raise ClientDisconnected
        if (data := message.get("bytes")) is None:
            if message.get("text") == _END:
                self._over = True
                return None
            raise UnexpectedMessage
        self._count(len(data))
        return bytes(data)

    def _count(self, count: int) -> None:
        """Hold the stream to its bytes a second."""
        now, most = time.monotonic(), self._settings.stream_max_bytes_per_second
        if self._began is None:
            self._began = now
        # A bucket that fills as time passes, and may be empty by ten seconds' bytes.
        self._bytes = max(0, self._bytes - int(most * (now - self._began))) + count
        self._began = now
        if self._bytes > most * _RATE_SECONDS:
            raise StreamTooFast(most)


class _Sent:
    """What FFmpeg's program makes of what was sent."""

    def __init__(self, fetcher: Fetcher, pumping: "asyncio.Task[None]") -> None:
        self._fetcher, self._pumping = fetcher, pumping

    async def chunks(self) -> AsyncIterator[bytes]:
        """Until it ends; what is wrong with what was sent is raised as soon as it is known."""
        chunks = self._fetcher.chunks()
        reading: asyncio.Task[bytes] | None = None
        try:
            while True:
                self._raise()
                reading = asyncio.ensure_future(anext(chunks))
                waiting = {reading} if self._pumping.done() else {reading, self._pumping}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                self._raise()
                try:
                    yield await reading
                except StopAsyncIteration:
                    return
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    def _raise(self) -> None:
        if self._pumping.done() and not self._pumping.cancelled():
            self._pumping.result()

    async def why(self) -> str:
        """Nobody connects to what was sent again."""
        return ""
