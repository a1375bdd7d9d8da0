"""What is looked at between two times is what ffmpeg shows between them."""

from dataclasses import replace
from pathlib import Path

import pytest
from numbered_clips import numbered, numbers_in, shown_by_ffmpeg, views_of

from bundle.sampling import frame_shares
from video.errors import ClipRefused
from video.facts import ViewPlan

pytestmark = pytest.mark.slow

PLAN = ViewPlan(temporal=2, spatial=1, frames=8, size=64, short_side=64)
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0", "-g", "12", "-bf", "2")
# 25 frames in the first second and 5 in each of the next three.
VARIES = "select='lt(n,25)+not(mod(n,5))'"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi"])
@pytest.mark.parametrize(("start", "end"), [(1.1, 2.5), (2.0, None), (0.0, 0.3), (3.2, 99.0)])
def test_frames_are_those_shown_within_the_span(
    tmp_path: Path, name: str, start: float, end: float | None
) -> None:
    varies = VARIES if name.endswith(("mp4", "mkv")) else ""
    clip = numbered(tmp_path / name, *X264, frames=100, select=varies)
    shown = shown_by_ffmpeg(clip)
    views, facts = views_of(clip, replace(PLAN, start=start, end=end))
    until = facts.duration_seconds if end is None else min(end, facts.duration_seconds)
    shares = frame_shares(PLAN.frames, PLAN.temporal)
    expected = [[shown.at(start + share * (until - start)) for share in view] for view in shares]
    assert [numbers_in(view) for view in views] == expected


def test_a_window_of_a_dense_sampling_lies_in_the_span(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, frames=100)
    dense = replace(PLAN, temporal=1, frames=4, stride=3, start=2.0, end=3.0)
    (view,), _ = views_of(clip, dense)
    first = 50 + (25 - 10) // 2  # ten frames from the first to the last, in the middle of 25
    assert numbers_in(view) == [first, first + 3, first + 6, first + 9]
    (view,), _ = views_of(clip, replace(dense, end=2.2))
    assert numbers_in(view) == [50, 53, 54, 54], "a span shorter than a window holds its last frame"


def test_a_start_behind_the_end_is_refused(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, frames=50)
    for start in (2.0, 7.5):
        with pytest.raises(ClipRefused) as caught:
            views_of(clip, replace(PLAN, start=start))
        assert (caught.value.code, caught.value.found) == ("start_beyond_clip", start)
        assert caught.value.limit == pytest.approx(2.0)


def test_frames_that_are_lost_are_replaced_by_those_of_the_span(tmp_path: Path) -> None:
    """Only intra frames, so that a damaged packet loses one frame and no other."""
    clip = numbered(tmp_path / "clip.mkv", "-c:v", "mjpeg", "-q:v", "2", frames=50)
    content = bytearray(clip.read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 3] == b"\xff\xd8\xff"]
    for number in range(25, 50):
        if number != 40:
            end = starts[number + 1] - 32 if number < 49 else starts[number] + 200
            content[starts[number] : end] = bytes(end - starts[number])
    (first, second), facts = views_of(bytes(content), replace(PLAN, start=1.0))
    assert set(numbers_in(first)) | set(numbers_in(second)) == {40}
    assert facts.substituted_frames > 0
    with pytest.raises(ClipRefused, match="no_frame_in_span"):
        views_of(bytes(content), replace(PLAN, start=1.0, end=1.5))
