"""Dense sampling: windows of frames that are a stride apart, wherever the clip's times lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numbered_clips import numbered, numbers_in, shown_by_ffmpeg, views_of

from video.facts import ViewPlan

pytestmark = pytest.mark.slow

PLAN = ViewPlan(temporal=3, spatial=1, frames=8, size=64, short_side=64, stride=4)
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0")


def windows(frames: int, plan: ViewPlan) -> list[list[int]]:
    """The numbers of the frames, counted by hand."""
    assert plan.stride is not None
    width = (plan.frames - 1) * plan.stride + 1
    found = []
    for view in range(plan.temporal):
        share = view / (plan.temporal - 1) if plan.temporal > 1 else 0.5
        start = int(share * max(0, frames - width))
        numbers = range(start, start + width, plan.stride)
        found.append([min(number, frames - 1) for number in numbers])
    return found


@pytest.mark.parametrize(
    ("frames", "plan"),
    [
        (90, PLAN),
        (90, replace(PLAN, temporal=1)),
        (91, replace(PLAN, temporal=2, stride=1)),
        (29, PLAN),  # as wide as a window
        (20, PLAN),  # shorter than one: its last frame is held
        (1, replace(PLAN, temporal=1)),
    ],
)
def test_frames_of_an_even_clip_are_counted(tmp_path: Path, frames: int, plan: ViewPlan) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, "-g", "12", "-bf", "2", frames=frames)
    views, facts = views_of(clip, plan)
    assert (facts.frames, facts.substituted_frames) == (frames, 0)
    assert [numbers_in(view) for view in views] == windows(frames, plan)


@pytest.mark.parametrize("container", ["mkv", "ts", "avi"])
def test_windows_in_other_containers(tmp_path: Path, container: str) -> None:
    clip = numbered(tmp_path / f"clip.{container}", *X264, "-g", "30", frames=60)
    views, _ = views_of(clip, PLAN)
    assert [numbers_in(view) for view in views] == windows(60, PLAN)


def test_windows_of_a_clip_that_does_not_begin_at_zero(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, "-output_ts_offset", "100", frames=60)
    views, _ = views_of(clip, PLAN)
    assert [numbers_in(view) for view in views] == windows(60, PLAN)


def test_where_the_rate_varies_time_counts_and_not_the_number(tmp_path: Path) -> None:
    """25 frames in the first second and 5 in each of the next four: a stride is a time."""
    select = "select='lt(n,25)+not(mod(n,5))'"
    clip = numbered(tmp_path / "clip.mp4", *X264, "-g", "10", frames=125, select=select)
    shown = shown_by_ffmpeg(clip)
    plan = replace(PLAN, temporal=2, frames=4, stride=3)
    views, facts = views_of(clip, plan)
    interval = facts.duration_seconds / facts.frames
    expected = [
        [shown.at((number + 0.5) * interval) for number in view]
        for view in windows(facts.frames, plan)
    ]
    assert [numbers_in(view) for view in views] == expected
    steps = np.diff([numbers_in(view) for view in views], axis=1)
    # The mean distance of two frames is 0.11 s, three of them are 8 to 9 frames of 1/25 s.
    assert steps.min() >= 5
    assert steps.max() <= 10


def test_a_window_with_frames_that_are_lost_holds_the_one_before(tmp_path: Path) -> None:
    """Only intra frames, so that a damaged packet loses one frame and no other."""
    clip = numbered(tmp_path / "clip.mkv", "-c:v", "mjpeg", "-q:v", "2", frames=40)
    content = bytearray(clip.read_bytes())
    starts = [
        place for place in range(len(content)) if content[place : place + 3] == b"\xff\xd8\xff"
    ]
    assert len(starts) == 40
    plan = replace(PLAN, temporal=1, frames=4, stride=2)
    ((first, second, third, last),) = windows(40, plan)
    for number in (third, last):
        end = starts[number + 1] - 32
        content[starts[number] : end] = bytes(end - starts[number])
    (whole,), _ = views_of(clip, plan)
    assert numbers_in(whole) == [first, second, third, last]
    (view,), facts = views_of(bytes(content), plan)
    assert facts.substituted_frames == 2
    # The clip was searched for frames that do decode: the one before each that is lost is there.
    assert numbers_in(view) == [first, second, third - 1, last - 1]
