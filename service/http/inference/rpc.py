"""The Open Inference Protocol over gRPC: a server of its own port in the same process and loop.

A call takes the way of a request over HTTP: the same keys, admission, limits, words and metrics.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from service.errors import (
    ClientDisconnected,
    InternalError,
    MalformedInference,
    ServiceError,
    UploadTimeout,
)
from service.http.body import HeldMemory
from service.http.clip_requests import may_store
from service.http.inference.asked import Asked, Reading
from service.http.inference.batch import ClipBatch
from service.http.inference.clips import ClipsRoom
from service.http.inference.messages import MESSAGES, SERVICE
from service.http.inference.rpc_messages import RpcClips, inference_message
from service.http.inference.served import (
    SERVER,
    max_clips,
    model_metadata_of,
    reading_of,
    require_model,
)
from service.http.keys import Keys, Ticket
from service.http.middleware import request_id_of
from service.observability import exemplars, logs
from service.observability.metrics import RPC
from service.pipeline.pipeline import Pipeline

logger = logging.getLogger("service.access")

# Around a clip there are names and parameters.
_MESSAGE_BYTES = 64 * 1024
# Calls that only ask how the service is, beside those that bring clips.
_OTHER_CALLS = 32
_END_SECONDS = 1.0

_STATUS = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Answer = Callable[["InferenceRpc", Any, "RpcCall"], Awaitable[Any]]


class RpcCall:
    """One call: its context, its headers, and what the log says of it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        pairs = [(key, value) for key, value in context.invocation_metadata() or ()
                 if isinstance(value, str)]  # fmt: skip
        self.headers = dict(pairs)
        self.scope = {"headers": [(k.encode(), v.encode("utf-8", "replace")) for k, v in pairs]}
        self.request_id = request_id_of(self.scope)
        self.ticket = Ticket(None)
        self.log: dict[str, Any] = {}


class InferenceRpc:
    """The server; made once, started once, stopped once.

    Args:
        memory: of all uploads, over HTTP as well.

    Attributes:
        arriving: held while a message arrives.
    """

    def __init__(self, pipeline: Pipeline, keys: Keys, memory: HeldMemory) -> None:
        self.pipeline, self._keys, self.memory = pipeline, keys, memory
        settings = pipeline.settings
        # Half of the memory is for messages that arrive, each of which may be the largest.
        at_once = settings.max_upload_memory_bytes // (2 * settings.max_body_bytes)
        self.arriving = asyncio.Semaphore(max(1, at_once))
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.max_requests_in_flight + _OTHER_CALLS,
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes + _MESSAGE_BYTES),
                # A clip is compressed; what is compressed once more may be a bomb.
                ("grpc.compression_enabled_algorithms_bitset", 1),
                ("grpc.so_reuseport", 0),
            ],
        )
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name, answer, is_open=is_open))
            for name, answer, is_open in _UNARY
        }
        # As a stream of one message, so that a slot is reserved before it is read.
        handlers["ModelInfer"] = grpc.stream_unary_rpc_method_handler(self._infer)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: the port is taken, or the address is none of this machine's.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise OSError(f"cannot listen on {host} port {port} for gRPC")
        await self._server.start()

    async def stop(self) -> None:
        """Let answers go out that are on their way, and end."""
        await self._server.stop(_END_SECONDS)

    def _unary(
        self, name: str, answer: Answer, *, is_open: bool
    ) -> Callable[..., Awaitable[bytes]]:
        async def handle(message: bytes, context: Any) -> bytes:
            async with self._around(name, context, is_open=is_open) as call:
                request = _parsed(f"{name}Request", message)
                made: bytes = (await answer(self, request, call)).SerializeToString()
                return made
            raise AssertionError("an error ends the call")

        return handle

    async def _infer(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        async with self._around("ModelInfer", context) as call:
            settings = self.pipeline.settings
            most = max_clips(settings, keys=self._keys.required)
            room = ClipsRoom(settings.containers, most)
            clips = _ReadClips(self, messages, reading_of(self.pipeline.manifest, most), room)
            batch = ClipBatch(
                self.pipeline, clips, [], call.request_id, call.ticket,
                store=may_store(call.headers),
            )  # fmt: skip
            try:
                asked, answers = await batch.answer()
            finally:
                clips.release()
                room.close()
                call.log["stages"] = {k: round(v, 6) for k, v in batch.trace.seconds.items()}
            call.log |= {
                "clips": len(answers),
                "sparsity": answers[0].sparsity.used,
                "tokens": sum(answer.tokens.kept for answer in answers),
                "label": answers[0].labels[0].label,
            }
            made: bytes = inference_message(
                self.pipeline.manifest, asked, answers
            ).SerializeToString()
            return made
        raise AssertionError("an error ends the call")

    @contextlib.asynccontextmanager
    async def _around(
        self, name: str, context: Any, *, is_open: bool = False
    ) -> AsyncIterator[RpcCall]:
        """What is around every call: its id, its key, its line in the log, its metrics, and a
        status whatever happens."""
        call, metrics = RpcCall(context), self.pipeline.metrics
        began, status = time.perf_counter(), 200
        with _told(call):
            metrics.http_in_flight.inc()
            try:
                if not is_open:
                    call.ticket = self._keys.admit(call.headers)
                with call.ticket:
                    yield call
                context.set_trailing_metadata((("x-request-id", call.request_id),))
            except ServiceError as error:
                status = error.status
                await self._refuse(call, error)
            except asyncio.CancelledError:
                status = ClientDisconnected.status
                raise
            except Exception:
                status = InternalError.status
                logger.exception("an unexpected error")
                await self._refuse(call, InternalError())
            finally:
                seconds = time.perf_counter() - began
                metrics.http_in_flight.dec()
                metrics.http_requests.labels(RPC, f"{status // 100}xx").inc()
                metrics.http_duration.labels(RPC).observe(seconds, exemplars.current.get())
                if name not in ("ServerLive", "ServerReady") or status != 200:
                    logger.info(
                        "request",
                        extra={
                            "method": "gRPC",
                            "path": f"/{SERVICE}/{name}",
                            "status": status,
                            "seconds": round(seconds, 6),
                            "client": context.peer(),
                            "request_id": call.request_id,
                            **call.log,
                        },
                    )

    async def _refuse(self, call: RpcCall, error: ServiceError) -> None:
        """End the call with the error's words; its code and when to try again are metadata."""
        self.pipeline.metrics.count_error(error.code)
        call.log["code"] = error.code
        metadata = [("x-request-id", call.request_id), ("lookwhen-code", error.code)]
        if "retry-after" in error.headers:
            metadata.append(("retry-after", error.headers["retry-after"]))
        usual = grpc.StatusCode.INVALID_ARGUMENT if error.status < 500 else grpc.StatusCode.INTERNAL
        await call.context.abort(_STATUS.get(error.status, usual), error.detail, tuple(metadata))


class _ReadClips:
    """The one message of a call, as the source of its clips."""

    def __init__(
        self,
        server: InferenceRpc,
        messages: AsyncIterator[bytes],
        reading: Reading,
        room: ClipsRoom,
    ) -> None:
        self._server, self._messages = server, messages
        self._reading, self._room = reading, room
        self._held = 0

    async def read(self) -> tuple[Asked, list[Any]]:
        settings = self._server.pipeline.settings
        clips = RpcClips(self._reading, self._room, settings.max_body_bytes)
        try:
            async with asyncio.timeout(settings.upload_timeout_seconds), self._server.arriving:
                # A message is seen when all of it is here: until then it counts as the largest.
                self._hold(min(settings.max_body_bytes, settings.max_upload_memory_bytes))
                message = await clips.message(self._messages)
                self.release()
                self._hold(len(message))
        except TimeoutError:
            raise UploadTimeout(settings.upload_timeout_seconds) from None
        request = _parsed("ModelInferRequest", message)
        require_model(self._server.pipeline, request.model_name, request.model_version)
        return clips.take(request)

    async def gone(self) -> None:
        """A client that goes cancels the call."""
        await asyncio.Event().wait()

    def _hold(self, count: int) -> None:
        self._server.memory.take(count)
        self._held = count

    def release(self) -> None:
        """Say that its bytes are held no more."""
        self._server.memory.give_back(self._held)
        self._held = 0


def _parsed(name: str, message: bytes) -> Any:
    try:
        return MESSAGES[name].FromString(message)
    except DecodeError:
        raise MalformedInference(f"its message is no {name}") from None


@contextlib.contextmanager
def _told(call: RpcCall) -> Iterator[None]:
    """What is logged and sampled meanwhile has the call's id."""
    token = logs.request_id.set(call.request_id)
    sampled = exemplars.current.set(exemplars.exemplar_of(call.scope, call.request_id))
    try:
        yield
    finally:
        logs.request_id.reset(token)
        exemplars.current.reset(sampled)


async def _live(server: InferenceRpc, request: Any, call: RpcCall) -> Any:
    return MESSAGES["ServerLiveResponse"](live=True)


async def _ready(server: InferenceRpc, request: Any, call: RpcCall) -> Any:
    ready = server.pipeline.not_ready_because() is None
    return MESSAGES["ServerReadyResponse"](ready=ready)


async def _model_ready(server: InferenceRpc, request: Any, call: RpcCall) -> Any:
    require_model(server.pipeline, request.name, request.version)
    ready = server.pipeline.not_ready_because() is None
    return MESSAGES["ModelReadyResponse"](ready=ready)


async def _metadata(server: InferenceRpc, request: Any, call: RpcCall) -> Any:
    return MESSAGES["ServerMetadataResponse"](**SERVER.model_dump())


async def _model_metadata(server: InferenceRpc, request: Any, call: RpcCall) -> Any:
    found = model_metadata_of(server.pipeline, request.name, request.version)
    return MESSAGES["ModelMetadataResponse"](**found.model_dump())


# Each call that is answered at once, and whether it needs no key: as over HTTP.
_UNARY: tuple[tuple[str, Answer, bool], ...] = (
    ("ServerLive", _live, True),
    ("ServerReady", _ready, True),
    ("ModelReady", _model_ready, False),
    ("ServerMetadata", _metadata, False),
    ("ModelMetadata", _model_metadata, False),
)
