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
from service.http.forwarded import local_path, root_path
from service.http.keys import Keys
from service.http.problems import answer_problem

# Everything else needs a key, so that a new address is protected until somebody lists it here:
# probes, which an orchestrator asks without one, and what is the same for everybody.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/", "/docs", "/openapi.json"})
OPEN_PREFIXES = ("/docs/assets/", "/problems/")

_ASSETS = "/docs/assets/"
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


def is_open(path: str) -> bool:
    """Whether an address is answered without a key."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


class Authentication:
    """Asks for a key, where there are keys, and holds the key to its limits."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(local_path(scope)):
            await self._app(scope, receive, send)
            return
        try:
            ticket = self._keys.admit(Headers(scope=scope))
        except (Unauthorized, RateLimited, TooManyConcurrent) as error:
            # The body has not been looked at, and is forgotten by the server as it comes.
            response = await answer_problem(Request(scope), error)
            await response(scope, receive, send)
            return
        with ticket:
            await self._app(scope, receive, send)


class BrowserRules:
    """Headers that keep a browser from doing more with an answer than showing it.

    Answers are for who asked: nothing is stored on the way. No page of ours may be framed, and on
    those there are nothing runs but their own scripts, by hash.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: Message | None = None
        path, root = local_path(scope), root_path(scope)

        async def guarded(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("x-content-type-options", "nosniff")
                headers.setdefault("referrer-policy", "no-referrer")
                if not path.startswith(_ASSETS):
                    headers.setdefault("cache-control", "no-store")
                if headers.get("content-type", "").startswith("text/html"):
                    held = message  # its policy depends on the page
                    return
                headers.setdefault("content-security-policy", _NOTHING)
            elif held is not None:
                start, held = held, None
                headers = MutableHeaders(scope=start)
                policy = page_policy(message.get("body", b""), root)
                headers.setdefault("content-security-policy", policy)
                await send(start)
            await send(message)

        await self._app(scope, receive, guarded)


@lru_cache(maxsize=8)
def page_policy(page: bytes, root: str = "") -> str:
    """A content security policy under which a page's own inline script and style work.

    The page of the interface's description loads its script from here, and lays itself out with
    styles that it makes as it goes; they can draw, and load nothing. A page below a prefix may say
    what its addresses are relative to.
    """
    loads_assets = f'"{root}{_ASSETS}'.encode() in page
    base = "'self'" if root and page_base(root) in page else "'none'"
    scripts = " ".join([*(["'self'"] if loads_assets else []), *_hashes(page, b"script")])
    styles = "'self' 'unsafe-inline'" if loads_assets else " ".join(_hashes(page, b"style"))
    return (
        f"default-src 'none'; script-src {scripts}; "
        f"style-src {styles}; img-src 'self' data:; connect-src 'self'; base-uri {base}; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def page_base(root: str) -> bytes:
    """What a page begins its head with below a prefix: proxies that take the prefix off let people
    leave out the last slash of the page's address, and its links would then lose the prefix."""
    return f'<base href="{root}/">'.encode()


def _hashes(page: bytes, tag: bytes) -> list[str]:
    found = re.findall(b"<" + tag + b">(.*?)</" + tag + b">", page, re.DOTALL)
    digests = (hashlib.sha256(part).digest() for part in found)
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
