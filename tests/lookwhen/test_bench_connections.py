"""What asks a service whose operator has put TLS and keys in front."""

import asyncio
import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lookwhen.bench.connections import Answer, AnswerError, Client, request_bytes

pytestmark = pytest.mark.slow


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that it was sent, and how many bytes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        size = len(self.rfile.read(int(self.headers["content-length"])))
        said = f"{self.path} {self.headers['authorization']} {self.headers['host']} {size}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that does not trust the certificate hangs up."""


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate,
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_port}", certificate
        server.shutdown()


def ask(url: str) -> Answer:
    async def asked() -> Answer:
        client = Client(url)
        request = request_bytes(
            f"{url}/classify?sparsity=0.9", "application/octet-stream", b"clip",
            {b"authorization": b"Bearer secret"},
        )  # fmt: skip
        try:
            return await client.ask(request, 60)
        finally:
            client.close()

    return asyncio.run(asked())


def test_a_certificate_is_held_against_the_name(
    secured: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, certificate = secured
    with pytest.raises(AnswerError, match=r"no connection: .*certificate"):
        ask(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    host = url.removeprefix("https://")
    said = f"/classify?sparsity=0.9 Bearer secret {host} 4".encode()
    assert ask(url) == Answer(200, said)
