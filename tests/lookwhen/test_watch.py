"""``lookwhen watch`` as people type it: a file as it plays, and a stream that breaks."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import live_processes
import pytest
from click.testing import CliRunner
from service_server import ROOT
from typed_command import AT_ONCE, lookwhen

from lookwhen.watch import _Fetched, watch
from service.decoding.fetching import plan_of

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of four patterns, one after the other."""
    out = tmp_path_factory.mktemp("videos") / "film.mp4"
    patterns = ("testsrc2", "mandelbrot", "smptebars", "testsrc")
    given = [part for name in patterns for part in
             ("-f", "lavfi", "-t", "2", "-i", f"{name}=size=320x240:rate=16")]  # fmt: skip
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", *given, "-filter_complex", "concat=n=4:v=1",
         "-g", "16", "-bf", "0", "-pix_fmt", "yuv420p", out],
        check=True,
    )  # fmt: skip
    return out


class Watched:
    """A command that watches, and the lines that it has printed."""

    def __init__(self, *arguments: object) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lookwhen", "watch", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env=environment | AT_ONCE | {"LOOKWHEN_STREAM_IDLE_TIMEOUT_SECONDS": "3"},
        )  # fmt: skip
        self.lines: Lines = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def wait_for(self, found: Callable[[Lines], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not found(self.lines):
            assert time.monotonic() < deadline, self.lines
            assert self.process.poll() is None, (self.lines, self.said())
            time.sleep(0.05)

    def said(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def stop(self, number: signal.Signals) -> int:
        """Send a signal, and wait until it has ended."""
        children = live_processes.children(self.process.pid)
        assert children
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self._reading.join()
        assert not [pid for pid in children if live_processes.is_running(pid)]
        return code


def several(lines: Lines, name: str) -> list[dict[str, Any]]:
    return [line[name] for line in lines if name in line]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.mp4", "--window", "0"], "--window must be seconds from 0.1 to 600"),
        (["a.mp4", "--detail", "all"], "--detail must be segments or windows"),
        (["ftp://host/a"], "ftp:// is not fetched"),
        (["nowhere.mp4"], "No such file"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(watch, arguments)
    assert done.exit_code != 0
    assert words in done.output


def test_where_nothing_came_the_next_address_is_taken() -> None:
    source = _Fetched(plan_of("rtsp://camera/door", "off"))
    turns = []
    for came in (False, True, False, False):
        fetcher = source.connect()
        turns.append(fetcher._turn)
        fetcher.came = came
    assert turns == [0, 1, 1, 2]


@pytest.mark.long
def test_a_file_gives_the_segments_of_its_timeline_while_it_plays(
    film: Path, tmp_path: Path
) -> None:
    done = lookwhen("watch", film, "--threshold", "0.1")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    written = tmp_path / "timeline.json"
    assert lookwhen("timeline", film, "-o", written, "--threshold", "0.1").returncode == 0
    wanted = json.loads(written.read_text())
    found = several(lines, "segment")
    assert found
    assert [segment["label"] for segment in found] == [s["label"] for s in wanted["segments"]]
    for one, other in zip(found, wanted["segments"], strict=True):
        # Matroska rounds times to milliseconds.
        assert one["start_seconds"] == pytest.approx(other["start_seconds"], abs=2e-3)
        assert one["end_seconds"] == pytest.approx(other["end_seconds"], abs=0.07)
        assert one["score"] == pytest.approx(other["score"], abs=0.02)
    summary = lines[-1]["done"]
    assert (summary["why"], summary["dropped_frames"]) == ("the stream ended", 0)
    assert summary["frames"] == wanted["done"]["frames"]
    # Whatever is there begins and ends.
    begun = [event["label"] for event in several(lines, "event") if event["kind"] == "begin"]
    ended = [event["label"] for event in several(lines, "event") if event["kind"] == "end"]
    assert sorted(begun) == sorted(ended)
    assert set(begun) >= {segment["label"] for segment in found}
    # A window is two seconds; this machine may do much else.
    assert all(event["latency_seconds"] < 2 + 2 for event in several(lines, "event"))


@contextmanager
def stream_server(film: Path, parts: int) -> Iterator[str]:
    """Serves a transport stream over HTTP as fast as it is played, and breaks off in its middle;
    so many times."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(parts):
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
                command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-t", "5", "-i", film,
                           "-c", "copy", "-f", "mpegts", "pipe:1"]  # fmt: skip
                with subprocess.Popen(command, stdout=connection.fileno()) as sending:
                    sending.wait()
        listener.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield f"http://localhost:{listener.getsockname()[1]}/live.ts"
    finally:
        serving.join()


@pytest.mark.long
def test_a_stream_that_breaks_is_connected_to_again(film: Path) -> None:
    with stream_server(film, 2) as url:
        watched = Watched(url, "--detail", "windows", "--threshold", "0.1")
        # Behind the second break nobody listens any more.
        watched.wait_for(lambda lines: len(several(lines, "broken")) >= 3)
    code = watched.stop(signal.SIGINT)
    assert code == 0
    lines = watched.lines
    connected, broken = several(lines, "connected"), several(lines, "broken")
    assert len(connected) == 2
    assert "refused" in broken[-1]["why"]
    assert connected[1]["seconds"] > connected[0]["seconds"] + 3
    starts = [window["start_seconds"] for window in several(lines, "window")]
    assert starts == sorted(starts)
    assert starts[-1] > connected[1]["seconds"]
    done = lines[-1]["done"]
    assert done["why"] == "it was told to stop"
    assert done["breaks"] == len(broken)


@pytest.mark.real
@pytest.mark.skipif(
    not Path("/usr/lib/python3/dist-packages/gi").exists(), reason="GStreamer is not installed"
)
def test_a_camera_that_speaks_rtsp_is_watched(film: Path, tmp_path: Path) -> None:
    """By GStreamer's server, on which many cameras are built."""
    python = shutil.which("python3", path="/usr/bin")
    assert python is not None
    script = Path(__file__).parent / "rtsp_server.py"

    def serve(port: int) -> "subprocess.Popen[str]":
        server = subprocess.Popen(
            [python, str(script), str(film), str(port)], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        return server

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = serve(port)
    watched = Watched(
        f"rtsp://someone:secret@localhost:{port}/film", "--detail", "windows", "--threshold", "0.1"
    )
    try:
        watched.wait_for(lambda lines: len(several(lines, "window")) >= 3)
        server.kill()
        server.wait()
        watched.wait_for(lambda lines: bool(several(lines, "broken")))
        server = serve(port)
        watched.wait_for(lambda lines: len(several(lines, "connected")) == 2)
        watched.wait_for(lambda lines: "window" in lines[-1] or "event" in lines[-1])
        assert watched.stop(signal.SIGTERM) == 0
    finally:
        server.kill()
        server.wait()
        if watched.process.poll() is None:
            watched.process.kill()
    lines = watched.lines
    first = several(lines, "connected")[0]
    assert first["stream"]["source"] == f"rtsp://localhost:{port}/film"
    assert (first["stream"]["codec"], first["stream"]["frames_per_second"]) == ("h264", 16.0)
    assert "secret" not in json.dumps(lines)
    assert several(lines, "event")
    assert "done" in lines[-1]
