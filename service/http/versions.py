"""The version of the interface that stands in its paths: `/v1/classify`.

What programs call has a version; what people and orchestrators look at (the page, probes, metrics)
has none. A path without a version means version 1, as before there was one in paths. Source: our
choice, because a client that was written for `/v1` goes on when there is another. `/v2` is not the
next: it is where the Open Inference Protocol has its addresses.

Pure ASGI, as in :mod:`service.http.middleware` and for the same reason.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.forwarded import local_path, root_path

PREFIX = "/v1"
VERSIONED = frozenset(
    {"/classify", "/sweep", "/explain", "/embed", "/timeline", "/stream", "/model"}
)


class Versioned:
    """Takes the version off a path, so that everything inside knows one name of a route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path = local_path(scope)
            if path.startswith(PREFIX) and path[len(PREFIX) :] in VERSIONED:
                scope = {**scope, "path": root_path(scope) + path[len(PREFIX) :]}
        await self._app(scope, receive, send)


def with_version(path: str) -> str:
    """The path as documents and programs spell it: `/classify` -> `/v1/classify`."""
    return PREFIX + path if path in VERSIONED else path
