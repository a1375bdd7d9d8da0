"""Connections that only wait lock nobody out."""

import contextlib
import functools
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_server import Server, wait_for

pytestmark = pytest.mark.slow

HEADER_SECONDS = 3


@pytest.fixture(scope="module")
def guarded(brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        brightness_bundle, tmp_path_factory.mktemp("guarded") / "log",
        max_connections=50, header_timeout_seconds=HEADER_SECONDS, upload_grace_seconds=2,
        min_upload_bytes_per_second=100_000, max_requests_in_flight=4,
    )  # fmt: skip
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


def connect(server: Server, content: bytes = b"") -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 30)
    connection.sendall(content)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended it; answers are read and forgotten."""
    connection.settimeout(0.01)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\n",  # a second one, cut
        # answered at once, and the client goes on with the body
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
    ],
)
def test_a_head_that_does_not_come_ends_the_connection(guarded: Server, content: bytes) -> None:
    began = time.monotonic()
    with connect(guarded, content) as connection:
        while not is_closed(connection):
            assert time.monotonic() - began < 60
            with contextlib.suppress(OSError):
                connection.send(b"a")  # a byte now and then does not keep it
            time.sleep(0.2)


@pytest.mark.long
def test_a_request_that_takes_longer_than_heads_may_is_not_cut(
    start_server: Callable[..., Server], slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle, header_timeout_seconds=0.2).wait_until_ready()
    assert server.classify(white, sparsity=0).status_code == 200


def test_the_oldest_that_waits_makes_room(guarded: Server, white: Path) -> None:
    with contextlib.ExitStack() as held:
        idle = [held.enter_context(connect(guarded, b"GET /")) for _ in range(200)]
        # A caller that really asks is answered, among two hundred that do not, and so is a probe.
        assert guarded.client.get("/readyz").status_code == 200
        assert guarded.classify(white).status_code == 200
        wait_for(lambda: all(map(is_closed, idle[:140])), "the oldest to be closed")
        open_descriptors = len(list(Path(f"/proc/{guarded.process.pid}/fd").iterdir()))
        assert open_descriptors < 150
    assert guarded.client.get("/readyz").status_code == 200


def test_uploads_that_dribble_hold_no_slot_for_long(guarded: Server, white: Path) -> None:
    data = white.read_bytes()
    head = (
        "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode()
    with contextlib.ExitStack() as held:
        slow = [held.enter_context(connect(guarded, head + data[:100])) for _ in range(4)]
        wait_for(lambda: guarded.metric("lookwhen_requests_in_flight") == 4, "all to be in")
        assert guarded.classify(white).status_code == 503
        wait_for(lambda: guarded.metric("lookwhen_requests_in_flight") == 0, "the slots")
        for connection in slow:
            connection.settimeout(30)
            answer = b"".join(iter(functools.partial(connection.recv, 65536), b""))
            assert b'"code":"upload_too_slow"' in answer
    assert guarded.metric("lookwhen_errors_total", code="upload_too_slow") == 4
    assert guarded.classify(white).status_code == 200
