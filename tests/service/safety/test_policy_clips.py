"""Clips made to do harm, through a whole service: what is answered, and what it cost."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import service_clips as clips
from canaries import CanaryFile, CanaryServer, canaries
from service_server import Server

from benchmarks.processes import cpu_seconds, peak_rss_bytes, reset_peak, rss_bytes
from benchmarks.safety.answers import judge
from benchmarks.safety.hostile import NAMES, Hostile, make_hostile, reference_movie, scripts
from service.errors import all_errors

pytestmark = pytest.mark.long

MiB = 1024 * 1024
# What one clip may take of the machine. The largest frame that is let through is 4096 x 2160, and
# its decoder and resizing need some ten copies of it in three bytes a pixel: 270 MB. A frame of
# 8192 x 4320 that shows its size only when it is decoded needs 150 MB, measured.
MOST_MEMORY_BYTES = 400 * MiB
MOST_CPU_SECONDS = 5.0
DEADLINE_SECONDS = 30.0


@pytest.fixture(scope="module")
def target(brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker, so that it is plain whose memory and time a clip took."""
    server = Server(
        brightness_bundle,
        tmp_path_factory.mktemp("hostile") / "log",
        decode_timeout_seconds=DEADLINE_SECONDS,
        decode_recycle_jobs=100_000,
    )
    try:
        yield server.wait_until_ready()
        (line,) = [line for line in server.logs() if line["message"] == "ready"]
        assert line, "the log is JSON to its end, whatever was sent"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def watched(
    target: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CanaryFile, CanaryServer]]:
    """A clip that could be decoded and a server that could be asked."""
    path = clips.plain(tmp_path_factory.mktemp("canary") / "canary.mp4", "white")
    with canaries(path) as (file, server):
        yield file, server


def post(server: Server, data: bytes, kind: str = "video/mp4", **query: object) -> httpx.Response:
    return server.client.post(
        "/classify", content=data, headers={"content-type": kind}, params=query
    )


def check(server: Server, clip: Hostile) -> str:
    """Post a clip; the code it was answered with, after the cost was held against the limits."""
    (worker,) = server.worker_pids()
    reset_peak(worker)
    memory, cpu = rss_bytes(worker), cpu_seconds(worker)
    parent = rss_bytes(server.process.pid)
    response = post(server, clip.data)
    verdict = judge(response)
    assert verdict.fault is None, f"{clip.name}: {verdict.fault}"
    assert verdict.code in clip.codes, f"{clip.name}: {response.text}"
    if verdict.code != "ok":
        assert response.status_code == all_errors()[verdict.code].status
    assert response.elapsed.total_seconds() < DEADLINE_SECONDS
    assert server.worker_pids() == [worker], f"{clip.name} cost a worker its life"
    assert peak_rss_bytes(worker) - memory < MOST_MEMORY_BYTES, clip.name
    assert cpu_seconds(worker) - cpu < MOST_CPU_SECONDS, clip.name
    # The serving process holds the body, and nothing of what it turns into.
    assert rss_bytes(server.process.pid) - parent < 2 * len(clip.data) + 32 * MiB, clip.name
    return verdict.code


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_clip_is_answered_and_costs_little(
    target: Server, tmp_path: Path, name: str
) -> None:
    (clip,) = make_hostile(tmp_path, name)
    check(target, clip)


def test_scripts_under_a_clips_name_reach_nobody(
    target: Server, watched: tuple[CanaryFile, CanaryServer], tmp_path: Path
) -> None:
    file, server = watched
    hostile = [*scripts(file.path, server.address), reference_movie(tmp_path, file.path)]
    assert len(hostile) == 8
    for clip in hostile:
        check(target, clip)
        body = {"file": (clip.name, clip.data, "video/mp4")}
        verdict = judge(target.client.post("/classify", files=body))
        assert verdict.fault is None
        assert verdict.code in clip.codes
    assert not file.was_touched()
    assert not server.was_touched()


@pytest.mark.parametrize(
    ("name", "file_is_touched", "options"),
    [
        ("concat.mp4", True, ()),
        ("playlist.mp4", False, ("-protocol_whitelist", "file,http,tcp")),
        ("reference.mov", True, ("-enable_drefs", "1", "-use_absolute_path", "1")),
    ],
)
def test_the_canaries_notice_when_the_same_scripts_are_opened_by_path(
    watched: tuple[CanaryFile, CanaryServer],
    tmp_path: Path,
    name: str,
    file_is_touched: bool,
    options: tuple[str, ...],
) -> None:
    """Otherwise the test above could not fail."""
    file, server = watched
    assert not file.was_touched()
    assert not server.was_touched()
    hostile = {clip.name: clip for clip in scripts(file.path, server.address)}
    hostile["reference.mov"] = reference_movie(tmp_path, file.path)
    script = file.path.parent / name
    script.write_bytes(hostile[name].data)
    command = ["ffmpeg", "-nostdin", "-v", "error", *options, "-i", script, "-f", "null", "-"]
    subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert file.was_touched() == file_is_touched
    assert server.was_touched() != file_is_touched


@pytest.mark.parametrize("name", ["whole.mp4", "faststart.mp4", "whole.mkv", "whole.avi"])
def test_a_clip_cut_at_every_sixteenth(target: Server, tmp_path: Path, name: str) -> None:
    extra = ("-movflags", "+faststart") if name.startswith("faststart") else ()
    codec = ("-c:v", "mpeg4") if name.endswith(".avi") else ("-c:v", "libx264")
    encode = (*codec, "-pix_fmt", "yuv420p", "-g", "5", *extra)
    whole = clips.pattern(tmp_path / name, *encode, size="64x64", rate=20).read_bytes()
    codes = []
    for part in range(17):
        cut = whole[: len(whole) * part // 16]
        codes.append(check(target, Hostile(f"{part}/16 of {name}", cut, _CUT)))
    assert codes[0] == "empty_body"
    assert codes[16] == "ok"
    if name == "whole.mp4":  # its table of samples comes last
        assert set(codes[1:16]) == {"undecodable"}
    else:  # most of a file with its tables in front is still a clip
        assert codes[12] == "ok"


_CUT = frozenset({"ok", "undecodable", "empty_body", "no_video_stream"})


def test_names_and_types_are_not_believed(target: Server, white: Path) -> None:
    data = white.read_bytes()
    for name, kind in (("a.jpg", "image/jpeg"), ("a", "text/html"), ("../../x.m3u8", "audio/mpeg")):
        response = target.client.post("/classify", files={"file": (name, data, kind)})
        assert judge(response).code == "ok"
    for kind in ("video/x-made-up", "application/octet-stream"):
        assert judge(post(target, data, kind)).code == "ok"
    for kind in ("image/jpeg", "text/plain", "multipart/mixed; boundary=x"):
        response = post(target, data, kind)
        assert response.status_code == 415
        assert judge(response).code == "unsupported_content_type"


def test_the_service_is_what_it_was(target: Server, white: Path) -> None:
    """After all of the above: the same worker, and the right answer."""
    assert target.classify(white).json()["labels"][0]["label"] == "bright"
    for reason in ("crashed", "timeout", "abandoned", "protocol"):
        assert target.metric("lookwhen_decode_worker_restarts_total", reason=reason) == 0
    assert target.metric("lookwhen_errors_total", code="internal_error") == 0
