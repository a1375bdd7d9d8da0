"""Around every request: its id, its line in the log, its metrics, and an answer whatever happens.

Pure ASGI. Starlette's BaseHTTPMiddleware would hide a client's disconnect from all inside it.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InternalError, NotFound
from service.http.forwarded import local_path
from service.http.problems import refusal, said
from service.observability import exemplars, logs
from service.observability.metrics import ROUTES, UNMATCHED, Metrics

logger = logging.getLogger("service.access")

_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
# Where a WebSocket may be opened.
SOCKET_PATH = "/stream"
_UNLOGGED = ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")
# Of the Open Inference Protocol: a model's address with its version is one of the same route.
_VERSION = "/versions/{version}"


class RequestContext:
    """Around everything but what gives a request its one form: whom it is from and its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics, draining: Callable[[], bool]) -> None:
        self._app, self._metrics, self._draining = app, metrics, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._converse(scope, receive, send)
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = request_id_of(scope)
        token = logs.request_id.set(request_id)
        sampled = exemplars.current.set(exemplars.exemplar_of(scope, request_id))
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, self._draining)
        began = time.perf_counter()
        self._metrics.http_in_flight.inc()
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            logger.exception("an unexpected error")
            self._metrics.count_error(InternalError.code)
            if answer.status is None:
                await said(scope, InternalError())(scope, receive, answer.send)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.http_in_flight.dec()
            self._observe(scope, answer.status, seconds)
            logs.request_id.reset(token)
            exemplars.current.reset(sampled)

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket has its id and its line, and no status: it has metrics of its own."""
        request_id = request_id_of(scope)
        token = logs.request_id.set(request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        try:
            if local_path(scope) == SOCKET_PATH:
                await self._app(scope, receive, send)
            else:  # what serves files and pages takes requests alone
                error = NotFound()
                scope["state"]["log"] = {"code": error.code}
                await refusal(scope, error)(scope, receive, send)
        finally:
            # Without what was asked for: people put keys there, although they do not belong there.
            logger.info(
                "stream",
                extra={
                    "path": local_path(scope),
                    "seconds": round(time.perf_counter() - began, 6),
                    "client": (scope.get("client") or ("",))[0],
                    "request_id": request_id,
                    **scope["state"].get("log", {}),
                },
            )
            logs.request_id.reset(token)

    def _observe(self, scope: Scope, status: int | None, seconds: float) -> None:
        # The template, never the path: paths are the client's, and there is no end of them.
        path = local_path(scope)
        route = getattr(scope.get("route"), "path", None)
        if route is None:  # Starlette's own routes, such as /docs, leave no trace
            route = path if path in ROUTES else UNMATCHED
        route = route.replace(_VERSION, "")
        # Without an answer the client has gone, which is its own affair.
        family = f"{(status or 499) // 100}xx"
        self._metrics.http_requests.labels(route, family).inc()
        self._metrics.http_duration.labels(route).observe(seconds, exemplars.current.get())
        if path in _UNLOGGED and family == "2xx":
            return
        details: dict[str, Any] = scope["state"].get("log", {})
        logger.info(
            "request",
            extra={
                "method": scope["method"],
                "path": path,
                "status": status,
                "seconds": round(seconds, 6),
                "client": (scope.get("client") or ("",))[0],
                "request_id": scope["state"]["request_id"],
                **details,
            },
        )


class _Answer:
    """Adds the request id to an answer, ends its connection when draining, keeps its status."""

    def __init__(self, send: Send, request_id: str, draining: Callable[[], bool]) -> None:
        self._send, self._request_id, self._draining = send, request_id, draining
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ())]
            headers.append((b"x-request-id", self._request_id.encode()))
            if self._draining():  # the next request belongs elsewhere
                headers = [header for header in headers if header[0].lower() != b"connection"]
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)


def request_id_of(scope: Scope) -> str:
    """The client's, if it is of a length and alphabet that cannot hurt a log; else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _SAFE_ID.fullmatch(text):
                return text
            break
    return uuid.uuid4().hex
