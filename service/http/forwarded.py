"""What proxies in front say of a request: who sent it, how it came, and below which prefix.

Anybody can send such headers, so they are believed only where they come from an address that the
settings name. Pure ASGI, and the outermost layer: everything inside sees one form of a request,
whatever is in front.
"""

import ipaddress
import logging
from collections.abc import Iterable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings.proxies import LONGEST_PREFIX, Address, clean_prefix, trusted_network

logger = logging.getLogger(__name__)

_MOST_HOPS = 32
# What a WebSocket's scheme is called where a proxy says the one by which it was asked for.
_SCHEMES = {"http": "ws", "https": "wss"}


def root_path(scope: Scope) -> str:
    """The prefix below which the service is reached, also inside of a mounted application."""
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return root


def local_path(scope: Scope) -> str:
    """The path of a request without the prefix."""
    path: str = scope["path"]
    return path[len(root_path(scope)) :]


class Forwarded:
    """Puts into a request's scope what trusted proxies say, and the prefix into its path.

    ``path`` comes out with the prefix, as ASGI has it, whether or not the proxy has taken it off;
    ``client`` is the last address that is no trusted proxy's, ``scheme`` what the nearest proxy
    said.
    """

    def __init__(self, app: ASGIApp, root_path: str, trusted_proxies: Sequence[str]) -> None:
        self._app, self._root_path = app, root_path
        self._trusted = [trusted_network(text) for text in trusted_proxies]
        self._said: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = self._read(scope)
        await self._app(scope, receive, send)

    def _read(self, scope: Scope) -> Scope:
        said: Scope = {}
        root = self._root_path or scope.get("root_path", "")
        peer = _address((scope.get("client") or ("",))[0])
        if peer is not None and self._trusts(peer):
            client = self._client(peer, _values(scope, b"x-forwarded-for"))
            if client != peer:
                said["client"] = (str(client), 0)
            for scheme in _values(scope, b"x-forwarded-proto")[-1:]:
                if scheme.lower() in ("http", "https"):
                    schemes = _SCHEMES if scope["type"] == "websocket" else {}
                    said["scheme"] = schemes.get(scheme.lower(), scheme.lower())
            root = self._prefix(_values(scope, b"x-forwarded-prefix", separator=None), root)
        elif _values(scope, b"x-forwarded-for"):
            self._warn_once(
                "X-Forwarded-For is not believed",
                client=str(peer or ""),
                setting="LOOKWHEN_TRUSTED_PROXIES names whom to believe",
            )
        path: str = scope["path"]
        if path == root or path.startswith(root + "/"):
            path = path[len(root) :] or "/"
        return {**scope, **said, "root_path": root, "path": root + path}

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _client(self, peer: Address, hops: list[str]) -> Address:
        """The last address that no trusted proxy has: each proxy adds whom it heard from."""
        client = peer
        for hop in reversed(hops[-_MOST_HOPS:]):
            address = _address(_without_port(hop))
            if address is None:  # who stands before it is anybody's guess
                break
            client = address
            if not self._trusts(address):
                break
        return client

    def _prefix(self, values: list[str], root: str) -> str:
        if not values:
            return root
        try:
            return clean_prefix(values[-1])
        except ValueError as error:
            value = values[-1][:LONGEST_PREFIX]
            self._warn_once("X-Forwarded-Prefix is ignored", value=value, reason=str(error))
            return root

    def _warn_once(self, message: str, **details: str) -> None:
        """Such headers come with every request, and their reader needs one line."""
        if message not in self._said:
            self._said.add(message)
            logger.warning(message, extra=details)


def _values(scope: Scope, wanted: bytes, separator: str | None = ",") -> list[str]:
    """What all headers of a name hold, in order."""
    texts = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
    parts: Iterable[str] = texts
    if separator is not None:
        parts = (part for text in texts for part in text.split(separator))
    return [part.strip() for part in parts if part.strip()]


def _address(text: str) -> Address | None:
    if "%" in text:  # a zone, which may be any text
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _without_port(hop: str) -> str:
    """The address in `1.2.3.4:567` or `[::1]:567`, as some proxies write it."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
