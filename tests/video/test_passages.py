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

# Numbers in stripes change like cuts now and then.
PLAN = PassagePlan(
    4, 64, 64, "crop", start=0.0, window=1.0, stride=0.5, windows=4, cuts=False
)  # fmt: skip
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0", "-g", "40", "-bf", "2")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "40")
LIVE = (*VP9, "-live", "1", "-f", "webm")  # as browsers record: no length, no index
VARIES = "select='lt(n,25)+not(mod(n,5))'"
SECONDS = 8


def passage(
    clip: Path, plan: PassagePlan
) -> tuple[list[list[int]], NDArray[np.float64], PassageFacts]:
    """The numbers that each window's frames show, its place, and what was found out."""
    out = torch.zeros(plan.shape, dtype=torch.uint8)
    places = torch.zeros(plan.places_shape, dtype=torch.float64)
    descriptor = os.open(clip, os.O_RDONLY)
    try:
        facts = decode_passage(descriptor, out, places, plan, NO_LIMITS)
    finally:
        os.close(descriptor)
    made = slice(facts.windows)
    return [numbers_in(window) for window in out[made].numpy()], places[made].numpy(), facts


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
    plan, base, seen, last = PLAN, 0, 0, 0.0
    while True:
        windows, places, facts = passage(clip, plan)
        for found, (_, begin, *edges, end) in zip(windows, places[:, :5], strict=True):
            asked = [begin + (end - begin) * (place + 0.5) / 4 for place in range(4)]
            expected = [shown.at(moment) for moment in asked]
            assert np.abs(np.subtract(found, expected)).max() <= off
            assert begin == (0.5 * seen if facts.end is None else pytest.approx(begin))
            assert edges[0] == pytest.approx(last), "no time is left out"
            last = edges[1]
            seen += 1
        for place in places:
            before = [sum(time < edge - 1e-3 for time in shown.times) for edge in place[1:5]]
            assert np.abs(base + place[5:] - before).max() <= off
        if facts.end is not None:
            break
        base += int(places[-1, 5])
        plan = replace(PLAN, start=facts.following, since=places[-1, 1], zero=facts.zero)
    assert last == facts.end
    assert places[-1, 4] == pytest.approx(facts.end, abs=0.03)
    assert abs(base + facts.frames - len(shown.times)) <= 2 * off
    assert facts.end == pytest.approx(shown.times[-1] + 1 / 25, abs=0.21 if select else 0.05)
    assert seen in (whole := int((facts.end - 1.0) / 0.5 + 1.02), whole + 1)


def test_gaps_between_windows_are_counted_too(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, frames=200)
    plan = replace(PLAN, stride=2.0, windows=2)
    windows, places, facts = passage(clip, plan)
    assert [window[0] for window in windows] == [3, 53]
    assert places.tolist() == [[0, 0, 0, 1, 1, 0, 0, 25, 25], [0, 2, 2, 3, 3, 50, 50, 75, 75]]
    assert (facts.following, facts.end) == (4.0, None)
    # The video ends before the next would: the last one ends with it.
    _, places, facts = passage(clip, replace(plan, start=7.5, since=5.5, zero=0.0))
    assert places.tolist() == [[0, 7, 7, 8, 8, 37, 37, 62, 62]]
    assert facts.end == 8.0


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
    out, places = (
        torch.zeros(PLAN.shape, dtype=torch.uint8),
        torch.zeros(PLAN.places_shape, dtype=torch.float64),
    )
    with clip.open("rb") as file, pytest.raises(ClipRefused, match="frame_rate_too_high"):
        decode_passage(file.fileno(), out, places, replace(PLAN, windows=4), limits)
