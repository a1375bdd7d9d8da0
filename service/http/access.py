"""Around every route: who may ask, and what a browser may do with the answer.

Pure ASGI, as in :mod:`service.http.middleware` and for the same reason.
"""

import base64
import hashlib
import re
from functools import lru_cache

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RateLimited, TooManyConcurrent, Unauthorized
from service.http.forwarded import local_path
from service.http.keys import Keys
from service.http.problems import answer_problem, refusal

# Everything else needs a key, so that a new address is protected until somebody lists it here:
# probes, which an orchestrator asks without one, and what is the same for everybody.
OPEN_PATHS = frozenset(
    {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json"}
)
_ASSETS = "/assets/"
_DOCS_ASSETS = "/docs/assets/"
OPEN_PREFIXES = (_ASSETS, _DOCS_ASSETS, "/problems/")

_DOCS = "/docs"

# What a page offers among a WebSocket's protocols in the place of headers, which it cannot set.
KEY_PREFIX = "lookwhen.key."


def _policy(scripts: str, styles: str) -> str:
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
    )


_NOTHING = "default-src 'none'; frame-ancestors 'none'"
# A clip that somebody chose is played from the browser's memory: it is no address of anybody's.
_PAGE = _policy("'self'", "'self'") + "; media-src blob:"


def is_open(path: str) -> bool:
    """Whether an address is answered without a key."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


class Authentication:
    """Asks for a key, where there are keys, and holds the key to its limits."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_open(local_path(scope)):
            await self._app(scope, receive, send)
            return
        is_socket = scope["type"] == "websocket"
        headers = Headers(scope=scope)
        try:
            ticket = self._keys.admit(_with_offered_key(headers, scope) if is_socket else headers)
        except (Unauthorized, RateLimited, TooManyConcurrent) as error:
            if is_socket:
                response = refusal(scope, error)
            else:
                # The body has not been looked at, and is forgotten by the server as it comes.
                response = await answer_problem(Request(scope), error)
            await response(scope, receive, send)
            return
        scope.setdefault("state", {})["ticket"] = ticket
        with ticket:
            await self._app(scope, receive, send)


def _with_offered_key(headers: Headers, scope: Scope) -> Headers:
    """The headers, with a key that stands among a WebSocket's protocols; real ones come first."""
    if "authorization" in headers or "x-api-key" in headers:
        return headers
    for text in scope.get("subprotocols", []):
        if text.startswith(KEY_PREFIX):
            return Headers({**headers, "x-api-key": text[len(KEY_PREFIX) :]})
    return headers


class BrowserRules:
    """Headers that keep a browser from doing more with an answer than showing it.

    Answers are for the one who asked: nothing is stored on the way. No page may be framed, and none
    runs anything but its own scripts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: Message | None = None
        path = local_path(scope)

        async def guarded(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("x-content-type-options", "nosniff")
                headers.setdefault("referrer-policy", "no-referrer")
                if path.startswith(_ASSETS):
                    # They have no version in their names: a browser asks whether they are the same.
                    headers.setdefault("cache-control", "no-cache")
                elif not path.startswith(_DOCS_ASSETS):
                    headers.setdefault("cache-control", "no-store")
                if path == _DOCS and headers.get("content-type", "").startswith("text/html"):
                    held = message  # its policy depends on the page
                    return
                headers.setdefault("content-security-policy", _PAGE if path == "/" else _NOTHING)
            elif held is not None:
                start, held = held, None
                headers = MutableHeaders(scope=start)
                policy = docs_policy(message.get("body", b""))
                headers.setdefault("content-security-policy", policy)
                await send(start)
            await send(message)

        await self._app(scope, receive, guarded)


@lru_cache(maxsize=8)
def docs_policy(page: bytes) -> str:
    """A content security policy under which the page of the interface's description works.

    It loads a script from here and has one of its own, which is allowed by its hash. It lays itself
    out with styles that it makes as it goes; they can draw, and load nothing.
    """
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    digests = (hashlib.sha256(script).digest() for script in scripts)
    hashes = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return _policy(f"'self'{hashes}", "'self' 'unsafe-inline'")


def page_base(root: str) -> bytes:
    """What a page begins its head with below a prefix: proxies that take the prefix off let people
    leave out the last slash of the page's address, and its links would then lose the prefix."""
    return f'<base href="{root}/">'.encode()
