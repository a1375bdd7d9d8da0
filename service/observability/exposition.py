"""The metrics as a scraper asks for them, at the service's port and at one of their own.

The Prometheus client chooses between its formats by an `Accept` header without regard to weights,
and repeats whatever version it is asked for. What is asked for is therefore settled here, and the
client is asked for one thing.
"""

import contextlib
import gzip
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

# What is answered, by media type and version; without a version, a format's first is meant.
_OFFERED = {
    ("application/openmetrics-text", ""),
    ("application/openmetrics-text", "1.0.0"),
    ("text/plain", ""),
    ("text/plain", "0.0.4"),
    ("text/plain", "1.0.0"),
}
_ANY_TEXT = ("*/*", "text/*")
_ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")
# Half the time of the highest level, for a hundredth more bytes.
_GZIP_LEVEL = 6
_TIMEOUT_SECONDS = 10.0


def expose(
    registry: CollectorRegistry, accept: str, accept_encoding: str, names: Sequence[str] = ()
) -> tuple[dict[str, str], bytes]:
    """The metrics in the format and encoding that a request asks for.

    Text format 0.0.4 is for clients that ask for nothing that is offered: every scraper reads it.
    Exemplars are in OpenMetrics alone.

    Args:
        registry: whose metrics.
        accept: all `Accept` headers of the request, joined by commas, or nothing.
        accept_encoding: likewise.
        names: of the samples wanted (`?name[]=`); empty for all.

    Returns:
        Headers and body of the answer.
    """
    encode, content_type = choose_encoder(_best_format(accept))
    wanted = registry.restricted_registry(names) if names else registry
    body = encode(wanted)
    headers = {"content-type": content_type, "vary": "Accept, Accept-Encoding"}
    if _prefers_gzip(accept_encoding):
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers["content-encoding"] = "gzip"
    return headers, body


def _best_format(accept: str) -> str:
    """The one of the formats offered that weighs most, or comes first, as an `Accept` header."""
    best, most = "", 0.0
    for kind, parameters, weight in _weighed(accept):
        version, escaping = parameters.get("version", ""), parameters.get("escaping", "")
        if kind in _ANY_TEXT:
            chosen = "text/plain"
        elif (kind, version) in _OFFERED:
            chosen = kind + (f";version={version}" if version else "")
            chosen += f";escaping={escaping}" if escaping in _ESCAPINGS else ""
        else:
            continue
        if weight > most:
            best, most = chosen, weight
    return best


def _prefers_gzip(accept_encoding: str) -> bool:
    weights = {kind: weight for kind, _, weight in _weighed(accept_encoding)}
    gzipped = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzipped > 0 and gzipped >= weights.get("identity", 0.0)


def _weighed(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """(value, parameters, weight) of each part; a weight that is none counts as nothing."""
    for part in header.split(","):
        value, *rest = (piece.strip() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in rest)
        parameters = {
            name.strip().lower(): text.strip().strip('"').lower() for name, _, text in pairs
        }
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            weight = 0.0
        if value:
            yield value.lower(), parameters, weight if 0 <= weight <= 1 else 0.0


class _Server(ThreadingHTTPServer):
    """A thread for each scrape, so that metrics are there whatever the service is busy with."""

    registry: CollectorRegistry

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.address_family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        # The library's own looks the host's name up, which may take as long as it likes.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: object, client_address: object) -> None:
        """The scraper has gone; the library would print a traceback into the log."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_SECONDS

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        url = urlsplit(self.path)
        headers, body = {"content-type": "text/plain"}, b""
        if url.path != "/favicon.ico":  # asked by a browser
            headers, body = expose(
                self.server.registry,
                ",".join(self.headers.get_all("accept", [])),
                ",".join(self.headers.get_all("accept-encoding", [])),
                parse_qs(url.query).get("name[]", []),
            )
        self._send(HTTPStatus.OK, headers, body, with_body)

    def _refuse(self) -> None:
        headers = {"content-type": "text/plain", "allow": "GET, HEAD"}
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, headers, b"This address takes GET.\n", True)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def _send(
        self, status: HTTPStatus, headers: dict[str, str], body: bytes, with_body: bool
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def version_string(self) -> str:
        return "LookWhen"

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not logged, here or at the service's port."""


@contextlib.contextmanager
def serve_apart(host: str, port: int, registry: CollectorRegistry) -> Iterator[None]:
    """Serve the metrics, and nothing else, at a port of their own.

    Raises:
        OSError: nothing can listen there.
    """
    server = _Server(host, port, registry)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
