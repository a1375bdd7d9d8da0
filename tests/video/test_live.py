"""A stream gives the windows that the file gives, as it comes."""

import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_clips import numbered, numbers_in
from numpy.typing import NDArray

from service.decoding.clusters import ClusterCutter
from service.decoding.fetching import MUXED
from video.errors import ClipRefused
from video.facts import NO_LIMITS, ClipLimits
from video.live import StreamByDescriptor, decode_live
from video.live_facts import StreamBegun, StreamNews, StreamProgress, StreamWindow
from video.passage import decode_passage
from video.passages import PassagePlan

pytestmark = pytest.mark.slow

PLAN = PassagePlan(
    4, 64, 64, "crop", start=0.0, window=1.0, stride=0.5, windows=6, cuts=False
)  # fmt: skip
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0", "-g", "40", "-bf", "2")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "40")
FRAMES = 150


def remuxed(clip: Path) -> bytes:
    """The clip as what fetches streams writes it."""
    return subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", clip, *MUXED], capture_output=True, check=True
    ).stdout


def ready_of(ours: socket.socket) -> Callable[[bool], bool]:
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    return lambda waits: bool(poll.poll(None if waits else 0))


def live(
    chunks: list[bytes], plan: PassagePlan = PLAN, limits: ClipLimits = NO_LIMITS
) -> tuple[list[list[int]], NDArray[np.float64], list[StreamNews]]:
    """The numbers that each window's frames show, its place, and all that was told."""
    ours, theirs = socket.socketpair()
    out = torch.zeros(plan.shape, dtype=torch.uint8)
    shown: list[list[int]] = []
    places: list[tuple[float, ...]] = []
    told: list[StreamNews] = []

    def tell(news: StreamNews) -> None:
        told.append(news)
        if isinstance(news, StreamWindow):
            shown.append(numbers_in(out[news.row].numpy()))
            places.append(news.place)

    def feed() -> None:
        for chunk in chunks:
            theirs.sendall(chunk)
        theirs.close()

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        end = decode_live(
            lambda: StreamByDescriptor(ours.fileno(), ready_of(ours)), out, plan, limits, tell
        )
        told.append(end)
    finally:
        ours.close()
        feeding.join()
    return shown, np.array(places), told


@pytest.mark.parametrize(("name", "encode"), [("clip.mp4", X264), ("clip.webm", VP9)])
def test_a_stream_gives_the_windows_of_the_file(
    tmp_path: Path, name: str, encode: tuple[str, ...]
) -> None:
    clip = numbered(tmp_path / name, *encode, frames=FRAMES)
    shown, places, told = live([remuxed(clip)])
    whole = replace(PLAN, windows=32)
    out = torch.zeros(whole.shape, dtype=torch.uint8)
    wanted = torch.zeros(whole.places_shape, dtype=torch.float64)
    with clip.open("rb") as file:
        facts = decode_passage(file.fileno(), out, wanted, whole, NO_LIMITS)
    count = facts.windows
    assert count > PLAN.windows  # rows were written again
    # The last window speaks up to the end, and was given away before that was known.
    assert shown[count:] == shown[count - 1 : count]
    assert shown[:count] == [numbers_in(window) for window in out[:count].numpy()]
    # Edges, and the frames before the time that each window speaks for; Matroska rounds times.
    before = slice(count - 1)
    assert np.allclose(places[before, :5], wanted.numpy()[before, :5], atol=2e-3)
    assert (places[before, 5:8] == wanted.numpy()[before, 5:8]).all()
    assert places[-1, 3] == pytest.approx(facts.end, abs=2e-3)
    begun, end = told[0], told[-1]
    assert isinstance(begun, StreamBegun)
    assert isinstance(end, StreamProgress)
    assert (begun.width, begun.height, end.frames) == (facts.width, facts.height, facts.frames)


def test_a_window_comes_as_soon_as_its_frames_have(tmp_path: Path) -> None:
    """And not when FFmpeg's buffer is full: the whole stream is smaller than that."""
    clip = numbered(tmp_path / "clip.mp4", *X264, "-bf", "0", frames=FRAMES)
    cutter = ClusterCutter()
    pieces = [*cutter.push(remuxed(clip))]
    assert sum(len(piece.data) for piece in pieces) < 65536
    ours, theirs = socket.socketpair()
    out, made = torch.zeros(PLAN.shape, dtype=torch.uint8), list[StreamWindow]()

    def tell(news: StreamNews) -> None:
        if isinstance(news, StreamWindow):
            made.append(news)

    decoding = threading.Thread(
        target=decode_live,
        args=(
            lambda: StreamByDescriptor(ours.fileno(), ready_of(ours)), out, PLAN, NO_LIMITS, tell
        ),
    )  # fmt: skip
    decoding.start()
    try:
        for piece in pieces:
            if piece.time is not None and piece.time > 2.5:
                break
            theirs.sendall(piece.data)
        deadline = time.monotonic() + 20
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [window.place[1] for window in made] == [0.0, 0.5, 1.0, 1.5]
    finally:
        theirs.close()
        decoding.join()
        ours.close()


def test_no_window_reaches_over_a_gap(tmp_path: Path) -> None:
    """What was left out is nothing that was seen."""
    clip = numbered(tmp_path / "clip.mp4", *X264, "-g", "25", frames=FRAMES)
    pieces = [*ClusterCutter().push(remuxed(clip))]
    kept = [piece.data for piece in pieces if piece.time is None or not 1.9 < piece.time < 3.99]
    _, places, _ = live(kept)
    begins, ends = places[:, 1], places[:, 4]
    assert not ((begins < 1.9) & (ends > 2.1)).any()
    assert begins[begins > 1.9][0] == pytest.approx(4.0, abs=0.01)
    assert places[-1, 0] > places[0, 0]  # another shot


def test_frames_are_held_to_the_limits(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264)
    stream = remuxed(clip)
    with pytest.raises(ClipRefused) as refused:
        live([stream], limits=replace(NO_LIMITS, max_frames_per_second=10))
    assert refused.value.code == "frame_rate_too_high"
    with pytest.raises(ClipRefused) as refused:
        live([stream], limits=replace(NO_LIMITS, max_frame_pixels=100))
    assert refused.value.code == "too_many_pixels"
    with pytest.raises(ClipRefused) as refused:
        live([stream[:200]])
    assert refused.value.code == "undecodable"
