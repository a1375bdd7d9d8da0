"""Passages of a long video show what ffmpeg shows, and count as it counts, in every container."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_clips import numbered, numbers_in, shown_by_ffmpeg
from numpy.typing import NDArray

from video.errors import ClipRefused
from video.facts import NO_LIMITS
from video.passage import decode_passage
from video.passages import PassageFacts, PassagePlan

pytestmark = pytest.mark.slow

PLAN = PassagePlan(4, 64, 64, "crop", start=0.0, window=1.0, stride=0.5, windows=4)
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0", "-g", "40", "-bf", "2")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "40")
LIVE = (*VP9, "-live", "1", "-f", "webm")  # as browsers record: no length, no index
VARIES = "select='lt(n,25)+not(mod(n,5))'"
SECONDS = 8


def passage(
    clip: Path, plan: PassagePlan
) -> tuple[list[list[int]], NDArray[np.float64], PassageFacts]:
    """The numbers that each window's frames show, its marks, and what was found out."""
    out = torch.zeros(plan.shape, dtype=torch.uint8)
    marks = torch.zeros(plan.marks_shape, dtype=torch.float64)
    descriptor = os.open(clip, os.O_RDONLY)
    try:
        facts = decode_passage(descriptor, out, marks, plan, NO_LIMITS)
    finally:
        os.close(descriptor)
    return [numbers_in(window) for window in out[: facts.windows].numpy()], marks.numpy(), facts


@pytest.mark.parametrize(
    ("name", "encode", "select"),
    [
        ("clip.mp4", X264, ""),
        ("clip.mp4", X264, VARIES),
        ("late.mp4", (*X264, "-output_ts_offset", "100"), ""),
        ("parts.mp4", (*X264, "-movflags", "frag_keyframe+empty_moov"), ""),
        ("clip.mkv", X264, VARIES),
        ("live.webm", LIVE, ""),
        ("clip.ts", X264, ""),
        ("clip.avi", ("-c:v", "mpeg4", "-g", "40"), ""),
        ("clip.mpg", ("-c:v", "mpeg2video", "-q:v", "2", "-g", "40"), ""),
    ],
)
def test_passages_one_after_the_other_are_the_whole_video(
    tmp_path: Path, name: str, encode: tuple[str, ...], select: str
) -> None:
    # Few frames of a program stream have time stamps: after a jump they may be one off.
    off = 1 if name.endswith("mpg") else 0
    clip = numbered(tmp_path / name, *encode, frames=25 * SECONDS, select=select)
    shown = shown_by_ffmpeg(clip)
    zero, base, start, seen = None, 0, 0.0, 0
    while True:
        plan = replace(PLAN, start=start, zero=zero)
        windows, marks, facts = passage(clip, plan)
        zero = facts.zero
        for number, found in enumerate(windows):
            begin = plan.begin_of(number)
            asked = [begin + (place + 0.5) / 4 for place in range(4)]
            expected = [shown.at(moment) for moment in asked]
            assert np.abs(np.subtract(found, expected)).max() <= off
            edges = plan.edges_of(number)
            before = [sum(time < edge - 1e-3 for time in shown.times) for edge in edges]
            assert np.abs(base + marks[number] - before).max() <= off
            seen += 1
        base, start = base + facts.frames, plan.end
        if facts.end is not None:
            break
    assert abs(base - len(shown.times)) <= 2 * off
    assert facts.end == pytest.approx(shown.times[-1] + 1 / 25, abs=0.21 if select else 0.05)
    assert seen == int((facts.end - 1.0) / 0.5 + 1.02)


def test_gaps_between_windows_are_counted_too(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, frames=200)
    plan = replace(PLAN, stride=2.0, windows=2)
    windows, marks, facts = passage(clip, plan)
    assert [window[0] for window in windows] == [3, 53]
    assert marks.tolist() == [[0, 0, 25, 25], [50, 50, 75, 75]]
    assert (facts.frames, facts.end) == (100, None)


def test_a_still_that_is_shown_for_long_is_found(tmp_path: Path) -> None:
    """The frame that is shown at a beginning may have begun long before."""
    still = "select='lt(n,20)+gte(n,180)'"
    clip = numbered(tmp_path / "clip.mkv", *X264, frames=200, select=still)
    (window,), _, _ = passage(clip, replace(PLAN, start=5.0, windows=1, zero=0.0))
    assert window == [19] * 4


def test_what_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, frames=50)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:300])
    with pytest.raises(ClipRefused, match="undecodable"):
        passage(broken, PLAN)
    limits = replace(NO_LIMITS, max_frames_per_second=10.0)
    out, marks = (
        torch.zeros(PLAN.shape, dtype=torch.uint8),
        torch.zeros(PLAN.marks_shape, dtype=torch.float64),
    )
    with clip.open("rb") as file, pytest.raises(ClipRefused, match="frame_rate_too_high"):
        decode_passage(file.fileno(), out, marks, replace(PLAN, windows=4), limits)
