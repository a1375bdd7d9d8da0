"""``WS /stream``: events while a stream is sent, who may ask, limits, and an end in good order."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import live_processes
import pytest
import service_clips as clips
from pydantic import TypeAdapter
from service_server import Server
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from service.http.keys import make_key
from service.http.live_schemas import StreamLine

pytestmark = pytest.mark.slow

StartServer = Callable[..., Server]
Lines = list[dict[str, Any]]

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "10", "-bf", "0")
# As browsers record, and as transport streams are.
FORMATS = {
    "film.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-live", "1"),
    "film.mp4": (*H264, "-movflags", "frag_keyframe+empty_moov+default_base_moof"),
    "film.ts": H264,
}
SECONDS, PIECES = 5, 50
LINE: TypeAdapter[Any] = TypeAdapter(StreamLine)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Five seconds, black but for the third and the fourth, which are white."""
    folder, found = tmp_path_factory.mktemp("videos"), dict[str, bytes]()
    box = "drawbox=color=white:t=fill:enable='between(t,2,3.99)'"
    for name, encode in FORMATS.items():
        clips.ffmpeg("-f", "lavfi", "-i", f"color=black:size=64x64:rate=10:duration={SECONDS}",
                     "-vf", box, *encode, folder / name)  # fmt: skip
        found[name] = (folder / name).read_bytes()
    return found


def address(server: Server, query: str = "window=1&stride=0.5&cuts=false") -> str:
    return server.url.replace("http://", "ws://") + f"/stream?{query}"


def play(socket: ClientConnection, film: bytes, *, last: bool = True) -> None:
    """Send a film as fast as it is shown, as long as somebody listens."""
    step = -(-len(film) // PIECES)
    with contextlib.suppress(ConnectionClosed):
        for place in range(0, len(film), step):
            socket.send(film[place : place + step])
            time.sleep(SECONDS / PIECES)
        if last:
            socket.send("end")


def all_of(socket: ClientConnection) -> Lines:
    """Every line, until the other side closes."""
    found: Lines = []
    try:
        while True:
            found.append(json.loads(socket.recv(timeout=60)))
    except ConnectionClosed:
        return found


def played(url: str, film: bytes, **options: Any) -> tuple[Lines, int | None]:
    """All lines about a film, and with which code the socket was closed."""
    with connect(url, **options) as socket:
        sending = threading.Thread(target=play, args=(socket, film))
        sending.start()
        lines = all_of(socket)
        sending.join()
        return lines, socket.close_code


def several(lines: Lines, name: str) -> Lines:
    return [line[name] for line in lines if name in line]


def is_free(server: Server) -> bool:
    return server.metric("lookwhen_streams") + server.metric("lookwhen_requests_in_flight") == 0


def wait_until_free(server: Server) -> None:
    deadline = time.monotonic() + 20
    while not is_free(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_it_says_what_begins_and_ends(server: Server, films: dict[str, bytes], name: str) -> None:
    lines, code = played(address(server), films[name])
    assert code == 1000
    connected, done = lines[0]["connected"], lines[-1]["done"]
    assert (connected["window_seconds"], connected["stride_seconds"]) == (1.0, 0.5)
    assert (connected["stream"]["width"], connected["stream"]["height"]) == (64, 64)
    assert done["frames"] == 10 * SECONDS
    assert done["why"] == "the stream ended"
    bright = [event for event in several(lines, "event") if event["label"] == "bright"]
    assert [event["kind"] for event in bright] == ["begin", "end"]
    assert [event["seconds"] for event in bright] == pytest.approx([2, 4], abs=0.6)
    (segment,) = [found for found in several(lines, "segment") if found["label"] == "bright"]
    assert segment["start_seconds"] == pytest.approx(2, abs=0.51)
    assert segment["end_seconds"] == pytest.approx(4, abs=0.51)
    # Each is what the interface's description says it is.
    assert [type(LINE.validate_python(line)).model_fields.keys() for line in lines] == [
        line.keys() for line in lines
    ]
    # It began to be said while it was shown.
    places = [number for number, line in enumerate(lines) if "event" in line]
    assert places[0] < len(lines) - 3
    assert not several(lines, "window")
    wait_until_free(server)


def looked_at(server: Server) -> float:
    return server.metric("lookwhen_stream_windows_total", fate="extracted")


def test_windows_are_said_where_they_are_asked_for(server: Server, films: dict[str, bytes]) -> None:
    before = looked_at(server)
    lines, _ = played(
        address(server, "detail=windows&window=1&cuts=false&sparsity=0.5"), films["film.ts"]
    )
    windows = several(lines, "window")
    assert len(windows) >= 8
    assert {window["sparsity"] for window in windows} == {0.5}
    assert looked_at(server) - before == lines[-1]["done"]["windows"]
    assert server.metric("lookwhen_stream_event_latency_seconds_count") > 0


def refused(url: str, **options: Any) -> dict[str, Any]:
    """The problem with which a socket is not opened."""
    with pytest.raises(InvalidStatus) as error, connect(url, **options):
        pass
    response = error.value.response
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(response.body)
    assert problem["status"] == response.status_code
    return problem


def ended(url: str, *messages: bytes | str, **options: Any) -> dict[str, Any]:
    """The problem with which a socket that was opened is closed."""
    with connect(url, **options) as socket:
        for message in messages:
            socket.send(message)
        problem: dict[str, Any] = all_of(socket)[-1]
        assert socket.close_code in (1008, 1011, 1013)
        return problem


def test_parameters_are_judged_before_anything_is_sent(server: Server) -> None:
    problem = refused(address(server, "window=0"))
    assert (problem["code"], problem["field"]) == ("invalid_parameter", "window")
    assert refused(address(server, "windows=auto"))["code"] == "unknown_parameter"


def test_what_is_no_stream_is_a_problem(server: Server, films: dict[str, bytes]) -> None:
    url = address(server)
    assert ended(url, b"#EXTM3U\n" * 100)["code"] == "not_a_video"
    assert ended(url, "end")["code"] == "empty_body"
    assert ended(url, films["film.ts"][:2000], "more")["code"] == "unexpected_message"
    damaged = films["film.mp4"][:700] + os.urandom(3000)
    assert ended(url, damaged, "end")["code"] == "undecodable"
    wait_until_free(server)


def test_a_page_of_another_origin_may_not_ask(server: Server) -> None:
    for origin in ("https://elsewhere.example", "null", f"http://x{server.url[7:]}"):
        problem = refused(address(server), origin=origin)
        assert (problem["status"], problem["code"]) == (403, "origin_not_allowed")
    with connect(address(server), origin=server.url):
        pass


def test_no_other_address_is_a_sockets(server: Server) -> None:
    """Nor one that is open to strangers, where files lie."""
    for path in ("/assets/page.js", "/classify", "/nothing"):
        assert refused(server.url.replace("http://", "ws://") + path)["code"] == "not_found"
    assert not [line for line in server.logs() if line["level"] == "ERROR"]


def test_it_is_a_websocket_and_says_so(server: Server) -> None:
    described = server.client.get("/openapi.json").json()
    asked = {
        parameter["name"] for parameter in described["paths"]["/v1/stream"]["get"]["parameters"]
    }
    assert {"window", "threshold", "sparsity"} <= asked
    assert not asked & {"start", "end", "windows", "views"}
    assert "StreamLine" in described["components"]["schemas"]
    answer = server.client.get("/stream")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"


def test_who_leaves_takes_everything_along(server: Server, films: dict[str, bytes]) -> None:
    children = live_processes.children(server.process.pid)
    with connect(address(server)) as socket:
        play(socket, films["film.ts"], last=False)
        socket.recv(timeout=30)
        assert len(live_processes.children(server.process.pid)) > len(children)
    wait_until_free(server)
    assert live_processes.children(server.process.pid) == children


@pytest.fixture(scope="module")
def strict(
    brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    """A service with a key and low limits, and its key."""
    key, line = make_key("page")
    server = Server(
        brightness_bundle,
        tmp_path_factory.mktemp("logs") / "log",
        api_keys=line,
        cors_origins="https://page.example",
        max_streams=1,
        stream_idle_timeout_seconds=1.5,
        stream_max_bytes_per_second=5_000,
        stream_max_message_bytes=100_000,
        stream_max_seconds=7,
    )
    server.wait_until_ready()
    yield server, key
    server.stop(signal.SIGKILL)


def test_a_key_may_be_among_the_protocols(
    strict: tuple[Server, str], films: dict[str, bytes]
) -> None:
    """Because a page cannot set headers; it is never in the address, and in no log."""
    server, key = strict
    url = address(server)
    assert refused(url)["code"] == "unauthorized"
    assert refused(f"{url}&key={key}")["code"] == "unauthorized"
    wrong: list[Any] = ["lookwhen", "lookwhen.key.lw_wrong"]
    assert refused(url, subprotocols=wrong)["code"] == "unauthorized"
    protocols: list[Any] = ["lookwhen", f"lookwhen.key.{key}"]
    with connect(url, subprotocols=protocols, origin="https://page.example") as socket:  # type: ignore[arg-type]
        assert socket.subprotocol == "lookwhen"
        # As many streams as there may be.
        bearer = {"authorization": f"Bearer {key}"}
        with connect(url, additional_headers=bearer) as other:
            problem = all_of(other)[-1]
            assert (problem["code"], problem["reason"]) == ("overloaded", "streams")
            assert other.close_code == 1013
        assert all_of(socket)[-1]["code"] == "stream_idle"
    assert all(key not in json.dumps(line) for line in server.logs())


def test_limits_of_a_stream(strict: tuple[Server, str], films: dict[str, bytes]) -> None:
    server, key = strict
    headers = {"x-api-key": key}
    url = address(server)
    film = films["film.ts"]
    with connect(url, additional_headers=headers) as socket:
        socket.send(film[: len(film) // 3])
        lines = all_of(socket)
        assert (lines[-1]["code"], lines[-1]["limit"]) == ("stream_idle", 1.5)
        assert socket.close_code == 1008
        # What has begun ends all the same.
        kinds = [event["kind"] for event in several(lines, "event")]
        assert kinds
        assert kinds.count("begin") == kinds.count("end")
        assert several(lines, "segment")
    problem = ended(url, film[:18800] * 3, additional_headers=headers)
    assert (problem["code"], problem["limit"]) == ("stream_too_fast", 5000)
    with connect(url, additional_headers=headers) as socket:
        socket.send(b"x" * 200_000)
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_a_stream_is_ended_when_the_service_is(
    start_server: StartServer, films: dict[str, bytes]
) -> None:
    server = start_server()
    server.wait_until_ready()
    with connect(address(server)) as socket:
        sending = threading.Thread(target=play, args=(socket, films["film.ts"]))
        sending.start()
        while "connected" not in json.loads(socket.recv(timeout=60)):
            pass
        server.process.send_signal(signal.SIGTERM)
        lines = all_of(socket)
        assert lines[-1]["done"]["why"] == "the service is shutting down"
        assert socket.close_code == 1001
        sending.join()
    assert server.process.wait(timeout=30) == 0
