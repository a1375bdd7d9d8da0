"""Bad days: what fails is what was hit; everything else is answered, and all is well again."""

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from brightness_bundle import write_brightness_bundle
from faulty_server import MARK
from service_server import ROOT, SERVE, Server, wait_for

from benchmarks.safety.answers import Verdict, judge
from benchmarks.safety.load import Reply, Shot, arrive

pytestmark = pytest.mark.long

StartServer = Callable[..., Server]
FAULTY = Path(__file__).with_name("faulty_server.py")
HERE = {"PYTHONPATH": str(ROOT)}


def load(server: Server, shot: Shot, until: Callable[[], bool], rate: float = 4) -> list[Reply]:
    replies: list[Reply] = []
    asyncio.run(
        arrive(server.url, lambda number: shot, rate=rate, until=until, timeout_seconds=120,
               answered=replies.append)
    )  # fmt: skip
    return replies


def test_workers_that_are_killed_and_stopped_under_load(
    start_server: StartServer, white: Path
) -> None:
    deadline = 10
    server = start_server(decode_workers=2, decode_timeout_seconds=deadline).wait_until_ready()
    signals = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
    done = threading.Event()

    def hurt() -> None:
        for number, sig in enumerate(signals, 1):
            victim = server.worker_pids()[0]
            os.kill(victim, sig)
            wait_for(lambda n=number: restarts(server) == n, f"the end of {victim}", 120)
            # By the metric: a process that is still starting is no worker yet.
            wait_for(lambda: server.metric("lookwhen_decode_workers") == 2, "its successor", 300)
        done.set()

    thread = threading.Thread(target=hurt, daemon=True)
    thread.start()
    ends = time.monotonic() + 900
    replies = load(
        server, Shot(white.read_bytes()), lambda: done.is_set() or time.monotonic() > ends
    )
    thread.join(1)
    assert done.is_set(), "not all workers came back"
    assert [reply.fault for reply in replies if reply.fault] == []
    codes = Counter(reply.code for reply in replies)
    # At most the clip that a worker held when it was hit; a busy machine may refuse some.
    hit = codes["decoder_crashed"] + codes["decode_timeout"]
    assert hit <= len(signals), codes
    assert set(codes) <= {"ok", "decoder_crashed", "decode_timeout", "overloaded", "not_ready"}
    assert codes["ok"] > len(replies) / 2, codes
    server.wait_until_ready()
    assert server.classify(white).json()["labels"][0]["label"] == "bright"


def restarts(server: Server) -> float:
    reasons = ("crashed", "timeout", "abandoned", "protocol")
    return sum(
        server.metric("lookwhen_decode_worker_restarts_total", reason=reason) for reason in reasons
    )


def test_logits_that_are_no_numbers_are_told_as_such(
    start_server: StartServer, white: Path, square: Path, tmp_path: Path
) -> None:
    """As sums overflow in 16 bits, of some clips alone."""
    picky = write_brightness_bundle(tmp_path / "picky", overflows_at=250)
    server = start_server(picky).wait_until_ready()
    response = server.classify(white)
    assert (response.status_code, judge(response).code) == (500, "model_failed")
    assert "LOOKWHEN_PRECISION=fp32" in response.json()["detail"]
    assert server.client.post("/sweep", content=white.read_bytes()).status_code == 500
    assert server.classify(square, sparsity=0).json()["labels"][0]["label"] == "dark"
    server.wait_for_log("a graph gave numbers that are not finite", graph="extractor")
    assert server.metric("lookwhen_queued_tokens") == 0
    assert server.stop() == 0


def test_an_exception_of_the_engine_fails_its_own_request(
    start_server: StartServer, white: Path, square: Path, tmp_path: Path
) -> None:
    picky = write_brightness_bundle(tmp_path / "picky", fails_at=250)
    server = start_server(picky).wait_until_ready()
    for _ in range(3):
        response = server.classify(white)
        assert judge(response).code == "internal_error"
        assert "Gather" not in response.text
        assert server.classify(square, sparsity=0).json()["labels"][0]["label"] == "dark"
    assert server.client.get("/readyz").status_code == 200
    assert server.metric("lookwhen_requests_in_flight") == 0
    assert server.metric("lookwhen_queued_tokens") == 0
    assert server.metric("lookwhen_errors_total", code="internal_error") == 3
    assert server.stop() == 0


def test_a_disk_that_is_full_is_not_missed(
    brightness_bundle: Path, white: Path, tmp_path: Path
) -> None:
    """Nothing of a clip is ever on a disk, and a log that cannot be written stops nobody.

    ``/dev/full`` is the kernel's disk without room: every write fails with ENOSPC.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
    environment |= {
        "LOOKWHEN_BUNDLE": str(brightness_bundle),
        "LOOKWHEN_PORT": str(port),
        "LOOKWHEN_DECODE_WORKERS": "1",
        "LOOKWHEN_DECODE_START_TIMEOUT_SECONDS": "300",
        "TMPDIR": "/dev/full/nowhere",
    }
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(SERVE, cwd=ROOT, env=environment, stderr=full)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            def ready() -> bool:
                assert process.poll() is None
                try:
                    return client.get("/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            wait_for(ready, "readiness", 300)
            for _ in range(5):
                headers = {"content-type": "video/mp4"}
                response = client.post("/classify", content=white.read_bytes(), headers=headers)
                assert judge(response).code == "ok"
        process.terminate()
        assert process.wait(60) in (0, 120), "120 is Python's for a log that could not be flushed"
    finally:
        process.kill()
        process.wait()


def faulty(bundle: Path, log: Path, fault: str) -> Server:
    command = (sys.executable, str(FAULTY), fault)
    return Server(bundle, log, command=command, environment=HERE)


def test_no_room_for_an_upload_fails_that_upload(
    brightness_bundle: Path, white: Path, tmp_path: Path
) -> None:
    server = faulty(brightness_bundle, tmp_path / "log", "no_space")
    try:
        server.wait_until_ready()
        unlucky = tmp_path / "unlucky.mp4"
        unlucky.write_bytes(white.read_bytes() + MARK)
        for _ in range(3):
            response = server.classify(unlucky)
            assert response.status_code == 503
            assert judge(response) == Verdict("out_of_room")
            assert int(response.headers["retry-after"]) > 0
            assert "Errno" not in response.text
            assert server.classify(white).status_code == 200
        assert server.metric("lookwhen_requests_in_flight") == 0
    finally:
        assert server.stop() == 0


def test_the_time_of_day_does_not_matter(
    brightness_bundle: Path, white: Path, tmp_path: Path
) -> None:
    """Deadlines, rates and waits are measured with a clock that nobody sets."""
    server = faulty(brightness_bundle, tmp_path / "log", "clock")
    try:
        server.wait_until_ready()
        answers = [server.classify(white, sparsity=0.9) for _ in range(10)]
        assert [judge(answer).code for answer in answers] == ["ok"] * 10
        for answer in answers:
            assert 0 < answer.json()["timing"]["total"] < 60
        assert restarts(server) == 0
        assert server.metric("lookwhen_tokens_per_second") > 0
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("name", ["selector.onnx", "extractor.onnx", "bundle.json"])
def test_a_corrupt_bundle_ends_the_start(
    brightness_bundle: Path, tmp_path: Path, name: str
) -> None:
    spoilt = tmp_path / "bundle"
    shutil.copytree(brightness_bundle, spoilt)
    content = bytearray((spoilt / name).read_bytes())
    content[len(content) // 2] ^= 0x80
    (spoilt / name).write_bytes(content)
    environment = {**os.environ, "LOOKWHEN_BUNDLE": str(spoilt), "LOOKWHEN_PORT": "0"}
    done = subprocess.run(
        SERVE, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "the bundle cannot be served" in done.stderr
    assert name in done.stderr
    assert "listening" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_that_changes_later_changes_nothing(
    start_server: StartServer, brightness_bundle: Path, white: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "bundle"
    shutil.copytree(brightness_bundle, mine)
    server = start_server(mine).wait_until_ready()
    for path in mine.iterdir():
        path.write_bytes(b"changed")
    assert server.classify(white).json()["labels"][0]["label"] == "bright"


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """Raise the soft limit; how many connections there may be on either side."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(hard, 8192) if hard != resource.RLIM_INFINITY else 8192
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    yield min(2000, allowed - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_connections_that_say_little(
    start_server: StartServer, white: Path, many_descriptors: int
) -> None:
    """Half says nothing, half a part of a header, and 16 hold all slots with a part of a body."""
    slots, grace_seconds = 16, 10
    server = start_server(
        max_requests_in_flight=slots, upload_grace_seconds=grace_seconds
    ).wait_until_ready()
    host, port = server.url.removeprefix("http://").split(":")
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\n"

    def open_one(stack: ExitStack, start: bytes) -> socket.socket:
        connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
        connection.sendall(start)
        return connection

    with ExitStack() as stack:
        for number in range(many_descriptors):
            open_one(stack, b"" if number % 2 else head[: number % len(head)])
        for _ in range(5):
            answer = ask_anew(server, white)
            assert answer.json()["labels"][0]["label"] == "bright"
            assert httpx.get(f"{server.url}/readyz", timeout=60).status_code == 200

        length = f"Content-Length: {white.stat().st_size}\r\n\r\n".encode()
        dribbling = [
            open_one(stack, head + length + white.read_bytes()[:100]) for _ in range(3 * slots)
        ]
        refused = wait_for(lambda: _refusal(server, white), "all slots to be held", 60)
        assert judge(refused).code == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        for connection in dribbling:  # a byte now and then does not buy more time
            with suppress(OSError):  # of those that were refused
                connection.sendall(b"x")
        wait_for(
            lambda: server.metric("lookwhen_requests_in_flight") == 0,
            "the slots to be free",
            grace_seconds + 60,
        )
        assert ask_anew(server, white).json()["labels"][0]["label"] == "bright"
    # More when this machine was so slow that slots were given out twice.
    assert server.metric("lookwhen_errors_total", code="upload_too_slow") >= slots
    assert server.metric("lookwhen_errors_total", code="internal_error") == 0


def ask_anew(server: Server, clip: Path) -> httpx.Response:
    """Over a connection of its own: one that is kept alive waits, and may have to make room."""
    headers = {"content-type": "video/mp4"}
    return httpx.post(
        f"{server.url}/classify", content=clip.read_bytes(), headers=headers, timeout=60
    )


def _refusal(server: Server, clip: Path) -> httpx.Response | None:
    response = ask_anew(server, clip)
    return response if response.status_code == 503 else None
