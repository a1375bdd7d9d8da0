"""``POST /timeline``: segments, lines as they come, limits, and an end in good order."""

import contextlib
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest
import service_clips as clips
from background_requests import is_free
from problem_documents import problem
from service_server import Server, wait_for

pytestmark = pytest.mark.slow

StartServer = Callable[..., Server]
MP4 = {"content-type": "video/mp4"}
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "20")
# White from 4 to 9 and from 12 to 15 seconds; black else, for 20 seconds.
WHITE = ((4, 9), (12, 15))


@pytest.fixture(scope="module")
def blinking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("videos") / "blinking.mp4"
    return blink(out)


def blink(out: Path, select: str = "null") -> Path:
    when = "+".join(f"between(t,{start},{end - 0.01})" for start, end in WHITE)
    box = f"drawbox=color=white:t=fill:enable='{when}',{select}"
    clips.ffmpeg("-f", "lavfi", "-i", "color=black:size=64x64:rate=10:duration=20", "-vf", box,
                 "-fps_mode", "passthrough", *H264, out)  # fmt: skip
    return out


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes of it."""
    folder = tmp_path_factory.mktemp("videos")
    short = clips.pattern(folder / "short.mp4", *H264, size="64x64", seconds=20)
    out = folder / "endless.mp4"
    clips.ffmpeg("-stream_loop", "59", "-i", short, "-c", "copy", out)
    return out


def timeline(server: Server, video: Path, **query: object) -> list[dict[str, Any]]:
    """All lines."""
    with video.open("rb") as file:
        response = server.client.post("/timeline", params=query, content=file, headers=MP4)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def segments(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line["segment"] for line in lines if "segment" in line]


def refused(server: Server, video: Path, **query: object) -> httpx.Response:
    content = video.read_bytes()
    return server.client.post("/timeline", params=query, content=content, headers=MP4)


@pytest.mark.parametrize("select", ["null", "select='lt(t,6)+not(mod(n,3))'"])
def test_it_says_what_happens_when(server: Server, tmp_path: Path, select: str) -> None:
    """Also where frames do not follow each other evenly."""
    lines = timeline(
        server, blink(tmp_path / "v.mp4", select), window=1, stride=0.5, sparsity=0.9, cuts=False
    )
    begun, done = lines[0]["begun"], lines[-1]["done"]
    assert (begun["video"]["codec"], begun["window_seconds"], begun["stride_seconds"]) == (
        "h264", 1.0, 0.5,
    )  # fmt: skip
    # 20 seconds, or as long as the last frame is shown.
    assert done["windows"] == sum("window" in line for line in lines) in (39, 40)
    assert (done["lost_windows"], done["lost_packets"], done["frames_estimated"]) == (0, 0, False)
    times = [n / 10 for n in range(200) if select == "null" or n < 60 or n % 3 == 0]
    assert done["frames"] == len(times)
    found = segments(lines)
    bright = [segment for segment in found if segment["label"] == "bright"]
    assert len(bright) == 2
    for segment, (start, end) in zip(bright, WHITE, strict=True):
        assert segment["start_seconds"] == pytest.approx(start, abs=0.51)
        assert segment["end_seconds"] == pytest.approx(end, abs=0.51)
        first, last = segment["start_seconds"] - 1e-3, segment["end_seconds"] - 1e-3
        within = [n for n, time in enumerate(times) if first <= time < last]
        assert (segment["start_frame"], segment["end_frame"]) == (within[0], within[-1])
        assert 0.5 <= segment["score"] <= 1.0
    assert found == sorted(found, key=lambda segment: segment["start_seconds"])
    assert found[0]["start_seconds"] == 0.0
    for before, after in itertools.pairwise(found):
        assert before["end_seconds"] <= after["start_seconds"]


@pytest.mark.parametrize("select", ["null", "select='lt(t,6)+not(mod(n,3))'"])
def test_windows_lie_in_shots(server: Server, tmp_path: Path, select: str) -> None:
    """And so segments end where shots do, by the frame."""
    lines = timeline(server, blink(tmp_path / "v.mp4", select), window=2, stride=2)
    times = [n / 10 for n in range(200) if select == "null" or n < 60 or n % 3 == 0]
    edges = [min(time for time in times if time >= edge) for span in WHITE for edge in span]
    cuts = [line["cut"] for line in lines if "cut" in line]
    assert [cut["seconds"] for cut in cuts] == pytest.approx(edges, abs=0.002)
    assert [times[cut["frame"]] for cut in cuts] == pytest.approx(edges, abs=0.002)
    assert lines[-1]["done"]["cuts"] == 4
    bright = [segment for segment in segments(lines) if segment["label"] == "bright"]
    found = [edge for s in bright for edge in (s["start_seconds"], s["end_seconds"])]
    assert found == pytest.approx(edges, abs=0.002)
    looked = [line["window"] for line in lines if "window" in line]
    for begin, end in itertools.pairwise([0.0, *edges, lines[-1]["done"]["seconds"]]):
        own = [w for w in looked if begin - 0.01 <= w["start_seconds"] < end - 0.01]
        assert own[0]["start_seconds"] == pytest.approx(begin, abs=0.002)
        assert own[-1]["end_seconds"] == pytest.approx(end, abs=0.042)


def test_a_part_of_a_video(server: Server, blinking: Path) -> None:
    lines = timeline(server, blinking, window=1, start=8, end=13.25, cuts=False)
    found = [(line["window"]["start_seconds"], line["window"]["end_seconds"])
             for line in lines if "window" in line]  # fmt: skip
    # The last one ends with the part.
    assert found == [*[(8 + n / 2, 9 + n / 2) for n in range(9)], (12.25, 13.25)]
    assert segments(lines)[0]["start_seconds"] == 8.0
    assert segments(lines)[-1]["end_seconds"] == 13.25
    assert lines[-1]["done"]["seconds"] == 5.25
    assert lines[-1]["done"]["frames_estimated"], "nobody counted those before"
    assert (segments(lines)[0]["start_frame"], segments(lines)[-1]["end_frame"]) == (80, 132)


def test_a_video_shorter_than_a_window_is_one(server: Server, white: Path) -> None:
    lines = timeline(server, white, window=5, sparsity=0.5)
    (window,) = [line["window"] for line in lines if "window" in line]
    assert (window["start_seconds"], window["end_seconds"]) == (0.0, 2.0)
    (segment,) = segments(lines)
    assert (segment["start_frame"], segment["end_frame"]) == (0, 19)
    whole = server.classify(white, sparsity=0.5).json()
    first, same = window["labels"][0], whole["labels"][0]
    assert (first["label"], first["score"]) == (same["label"], pytest.approx(same["score"]))


def test_rules_and_thresholds_are_those_of_a_request(server: Server, blinking: Path) -> None:
    lines = timeline(server, blinking, window=1, cascade="true", margin=0.99, detail="segments")
    assert not any("window" in line for line in lines)
    assert lines[-1]["done"]["tokens"] > 0
    assert segments(lines)
    assert segments(timeline(server, blinking, window=1, threshold=1)) == []
    sparse, dense = (
        timeline(server, blinking, window=1, sparsity=sparsity)[-1]["done"]["tokens"]
        for sparsity in (0.9, 0)
    )
    assert sparse < dense / 5


def test_only_what_the_selector_proposes_is_looked_at(server: Server, blinking: Path) -> None:
    every = timeline(server, blinking, window=1)
    lines = timeline(server, blinking, window=1, windows="auto")
    done, whole = lines[-1]["done"], every[-1]["done"]
    assert whole["skipped_windows"] == 0
    assert done["windows"] + done["skipped_windows"] == whole["windows"]
    assert 1 <= done["windows"] <= whole["windows"] / 2
    assert done["windows"] == sum("window" in line for line in lines)
    assert done["tokens"] <= whole["tokens"] / 2
    assert done["macs"] < whole["macs"]
    assert (done["seconds"], done["frames"], done["cuts"]) == (20.0, 200, 4)
    assert len(segments(lines)) >= 1
    found = problem(refused(server, blinking, windows="some"), 422, "invalid_parameter")
    assert (found["field"], found["limit"]) == ("windows", "all or auto")


def test_a_form_is_taken_too(server: Server, blinking: Path) -> None:
    with blinking.open("rb") as file:
        response = server.client.post(
            "/timeline", files={"file": file}, data={"window": "2", "threshold": "0.4"}
        )
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines[0]["begun"]["window_seconds"] == 2.0
    assert "done" in lines[-1]


def test_mistakes_are_told(server: Server, blinking: Path, tmp_path: Path) -> None:
    found = problem(refused(server, blinking, window=0), 422, "invalid_parameter")
    assert (found["field"], found["limit"]) == ("window", "seconds from 0.1 to 600")
    problem(refused(server, blinking, threshold=2), 422, "invalid_parameter")
    problem(refused(server, blinking, start=3, end=2), 422, "contradictory_parameters")
    for name in ("views", "budget_ms", "explain"):
        assert name not in problem(refused(server, blinking, **{name: 1}), 422,
                                   "unknown_parameter")["known"]  # type: ignore[operator]  # fmt: skip
    problem(refused(server, blinking, start=30), 422, "start_beyond_clip")
    text = tmp_path / "text.mp4"
    text.write_text("#EXTM3U\nhttp://127.0.0.1/x.ts\n" * 99)
    problem(refused(server, text), 415, "not_a_video")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(blinking.read_bytes()[:600])
    problem(refused(server, broken), 422, "undecodable")
    assert is_free(server)


@pytest.mark.long
def test_it_has_limits_of_its_own(
    start_server: StartServer, blinking: Path, endless: Path, tmp_path: Path
) -> None:
    server = start_server(
        max_timelines_in_flight=1,
        timeline_max_video_seconds=60,
        timeline_max_body_bytes=endless.stat().st_size + 1,
        timeline_max_disk_bytes=endless.stat().st_size + 1,
        max_body_bytes=2048,
        timeline_directory=tmp_path,
    ).wait_until_ready()
    found = problem(refused(server, endless), 413, "clip_too_long")
    assert found["limit"] == 60
    assert "done" in timeline(server, blinking)[-1]
    assert list(tmp_path.glob("*.mp4")) == []
    big = tmp_path / "big.mp4"
    big.write_bytes(endless.read_bytes() + bytes(2))
    problem(refused(server, big), 413, "body_too_large")
    assert server.metric("lookwhen_timeline_windows_total", fate="extracted") == 15
    assert server.metric("lookwhen_timeline_video_seconds_total") == 20
    assert server.metric("lookwhen_timeline_duration_seconds_count") == 1
    assert is_free(server)


class Reading:
    """A timeline that is read in a thread, a line at a time."""

    def __init__(self, server: Server, video: Path, **query: object) -> None:
        self.lines: list[dict[str, Any]] = []
        self.ended: Future[None] = Future()
        self._left = threading.Event()
        self._server, self._video, self._query = server, video, query
        threading.Thread(target=self._run, daemon=True).start()

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()
        self.ended.result(60)

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    def _read(self) -> None:
        with (
            httpx.Client(base_url=self._server.url, timeout=120) as client,
            self._video.open("rb") as file,
            client.stream(
                "POST", "/timeline", params=self._query, content=file, headers=MP4
            ) as response,
        ):
            for line in response.iter_lines():
                self.lines.append(json.loads(line))
                if self._left.is_set():
                    return

    def wait_for(self, name: str, seconds: float = 60) -> None:
        def come() -> bool | None:
            return any(name in line for line in list(self.lines)) or None

        wait_for(come, f"a line {name}", seconds)


def unnamed_files(pids: list[int], folder: Path) -> Iterator[str]:
    """Files of the folder that processes have open although they have no name."""
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith(str(folder)) and target.endswith("(deleted)"):
                yield target


@pytest.mark.long
def test_who_leaves_takes_everything_along(
    start_server: StartServer, endless: Path, blinking: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    server = start_server(timeline_directory=folder, max_timelines_in_flight=1).wait_until_ready()
    reading = Reading(server, endless)
    reading.wait_for("window")
    assert server.metric("lookwhen_timelines") == 1
    pids = [server.process.pid, *server.worker_pids()]
    assert list(unnamed_files(pids, folder)), "the video lies on the disk"
    assert list(folder.iterdir()) == [], "and has no name there"
    assert problem(refused(server, blinking), 503, "overloaded")["reason"] == "timelines"
    answer = server.classify(blinking)
    assert answer.status_code == 200, "clips are answered meanwhile"
    reading.leave()
    wait_for(lambda: is_free(server) or None, "the reservation")
    assert server.metric("lookwhen_timelines") == 0
    wait_for(lambda: not list(unnamed_files(pids, folder)) or None, "the disk's room")
    assert "done" in timeline(server, blinking)[-1]


@pytest.mark.long
def test_a_worker_that_dies_loses_its_windows_and_no_more(
    start_server: StartServer, endless: Path
) -> None:
    server = start_server(decode_spare_workers=1).wait_until_ready()
    reading = Reading(server, endless, end=600)
    reading.wait_for("window")
    # One that dies between two passages loses nothing. Others need some seconds to start.
    for _ in range(10):
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            reading.wait_for("lost", seconds=6)
            break
    reading.ended.result(120)
    done = reading.lines[-1]["done"]
    gone = [line["lost"] for line in reading.lines if "lost" in line]
    assert done["lost_windows"] == sum(entry["windows"] for entry in gone) > 0
    assert {entry["code"] for entry in gone} == {"decoder_crashed"}
    assert done["windows"] + done["lost_windows"] == 599
    assert (done["seconds"], done["frames_estimated"]) == (600.0, True)
    assert done["frames"] == pytest.approx(6000, abs=60)


@pytest.mark.long
def test_an_end_of_the_service_is_told(start_server: StartServer, endless: Path) -> None:
    server = start_server(shutdown_grace_seconds=8).wait_until_ready()
    reading = Reading(server, endless)
    reading.wait_for("window")
    server.process.send_signal(signal.SIGTERM)
    reading.ended.result(30)
    assert reading.lines[-1]["code"] == "not_ready"
    assert "shutting down" in reading.lines[-1]["detail"]
    assert server.process.wait(30) == 0
