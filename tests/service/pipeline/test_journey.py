"""A journey through a long video: what is decoded next, and where windows lie in its shots."""

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from bundle.sampling import WHOLE, Span
from bundle.schema import Manifest
from service.errors import ClipTooLong
from service.pipeline.journey import Journey, WindowPlace, usual_window
from video.framing import Frame
from video.passages import PassageFacts, PassagePlan
from video.slide import Slide

RATE = 10
# A busy machine draws slowly.
PATIENTLY = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])


@functools.cache
def built_in() -> Manifest:
    return read_bundle(default_bundle_path()).manifest


class Video:
    """A video of so many seconds, with cuts, as a decode worker tells of it.

    Frame n is of the colour n, modulo 256.
    """

    def __init__(self, seconds: float, said: float = 0.0, cuts: frozenset[int] = frozenset()):
        self.seconds, self.said, self.cuts = seconds, said, cuts
        self.windows: list[list[int]] = []

    def before(self, time: float) -> int:
        return min(round(self.seconds * RATE), max(0, math.ceil((time - 1e-6) * RATE)))

    def decode(self, plan: PassagePlan) -> tuple[PassageFacts, "np.ndarray[Any, Any]"]:
        out = torch.zeros(plan.shape, dtype=torch.uint8)
        places = torch.zeros(plan.places_shape, dtype=torch.float64)
        slide, end = Slide(plan, 1e-3, out), None
        whole = self.seconds if plan.until is None else min(self.seconds, plan.until)
        first = max(0, math.floor((plan.origin + 1e-6) * RATE) - 3)
        for number in range(first, self.before(whole)):
            pixels = torch.full((1, 3, plan.size, plan.size), number % 256, dtype=torch.uint8)
            slide.show(Frame(pixels, time=number / RATE), cut=plan.cuts and number in self.cuts)
            if slide.is_full:
                break
        else:
            end = whole if slide.end(whole) else None
        slide.write_places(places)
        facts = PassageFacts(
            "h264", 64, 64, 0.0, slide.made, slide.shots, slide.following, slide.frames, end,
            self.said, RATE, 0,
        )  # fmt: skip
        self.windows += out[: slide.made, :, 0, 0, 0].tolist()
        return facts, places[: slide.made].numpy()


def travel(
    video: Video, window: float, stride: float, span: Span = WHOLE, took: float = 0.01,
    lost: float = -1.0,
) -> tuple[list[WindowPlace], Journey]:  # fmt: skip
    """All places, where passages that begin at or behind ``lost`` are lost, once."""
    journey = Journey(built_in(), window, stride, span, 1000.0)
    places: list[WindowPlace] = []
    while (plan := journey.plan()) is not None:
        if 0 <= lost <= plan.start:
            lost = -1.0
            journey.lost(plan)
            continue
        facts, found = video.decode(plan)
        places += journey.passed(plan, facts, found, took)
    return places, journey


@pytest.mark.long
@PATIENTLY
@given(
    st.integers(3, 255).map(lambda n: n / 10), st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0.01, 1.5, 9.0]),
    st.frozensets(st.integers(3, 300), max_size=6),
)  # fmt: skip
@pytest.mark.slow
def test_cells_cover_a_video_without_gaps_and_windows_lie_in_shots(
    seconds: float, window: float, share: float, took: float, cuts: frozenset[int]
) -> None:
    cuts = frozenset(cut for cut in cuts if not cuts & {cut - 1, cut - 2})
    video, stride = Video(seconds, cuts=cuts), share * window
    places, journey = travel(video, window, stride, took=took)
    assert places[0].cell[0] == 0.0
    assert places[-1].cell[1] == pytest.approx(seconds)
    assert journey.seconds == pytest.approx(seconds, abs=0.021 * window)
    for before, after in itertools.pairwise(places):
        assert before.cell[1] == pytest.approx(after.cell[0])
        assert before.frames[1] == after.frames[0]
    for place, seen in zip(places, video.windows, strict=True):
        assert place.frames == (video.before(place.cell[0]), video.before(place.cell[1]))
        assert place.start <= place.cell[0] <= place.cell[1] <= place.end + 0.021 * window
        step = (place.end - place.start) / len(seen)
        assert seen == pytest.approx(
            [(place.start + (n + 0.5) * step) * RATE - 0.5 for n in range(len(seen))], abs=0.6
        ), "each shows its own time"
    # Of each shot, wherever passages end.
    edges = [0.0, *(cut / RATE for cut in sorted(cuts) if cut < video.before(seconds)), seconds]
    firsts = [place.start for place in places if place.cut]
    assert firsts == pytest.approx(edges[1:-1])
    for (begin, end), (_, shot) in zip(
        itertools.pairwise(edges), itertools.groupby(places, lambda place: place.shot), strict=True
    ):
        own = list(shot)
        assert own[0].start == pytest.approx(begin)
        assert own[-1].end == pytest.approx(end, abs=0.021 * window)
        lengths = [place.end - place.start for place in own]
        assert lengths == pytest.approx([min(window, end - begin)] * len(own), abs=0.021 * window)
        gaps = [after.start - before.start for before, after in itertools.pairwise(own)]
        assert all(gap == pytest.approx(stride) for gap in gaps[:-1])
        assert all(-1e-9 <= gap <= stride + 1e-9 for gap in gaps)


def test_frames_that_lie_in_a_short_shot_are_spread_over_a_window() -> None:
    video = Video(6.0, cuts=frozenset({20, 26}))
    places, _ = travel(video, 2.0, 1.0)
    assert [(place.start, place.end) for place in places] == [(0, 2), (2, 2.6), (2.6, 4.6),
                                                             (3.6, 5.6), (4, 6)]  # fmt: skip
    assert [place.cut for place in places] == [False, True, True, False, False]
    assert [place.first_frame for place in places if place.cut] == [20, 26]
    assert sorted(set(video.windows[1])) == list(range(20, 26))


def test_a_part_of_a_video_ends_where_it_should() -> None:
    places, journey = travel(Video(60.0), 2.0, 1.0, Span(10.0, 17.5))
    assert (places[0].start, places[0].frames[0]) == (10.0, 100)
    assert (places[-1].start, places[-1].end, places[-1].cell[1]) == (15.5, 17.5, 17.5)
    assert journey.seconds == 7.5


def test_what_is_lost_is_gone_round() -> None:
    places, journey = travel(Video(60.0, cuts=frozenset({100, 250})), 2.0, 1.0, lost=7.0)
    assert journey.estimated
    starts = [place.start for place in places]
    missing = sorted({float(n) for n in range(59)} - set(starts))
    assert missing == [*[float(n) for n in range(7, 15)], 24.0], "and one would have a cut inside"
    assert places[-1].frames[1] == 600
    assert [place.start for place in places if place.cut] == [25.0], "what was not seen is no cut"


@pytest.mark.long
@pytest.mark.slow
def test_a_video_that_goes_on_for_too_long_is_ended() -> None:
    with pytest.raises(ClipTooLong):
        travel(Video(1200.0), 10.0, 10.0)
    with pytest.raises(ClipTooLong):
        travel(Video(10.0, said=2000.0), 2.0, 1.0)


def test_passages_grow_while_they_are_quick_and_shrink_when_not() -> None:
    journey, video = Journey(built_in(), 2.0, 1.0, Span(), 1e6), Video(500.0)
    sizes = []
    for took in (0.1, 0.1, 0.1, 0.1, 8.0, 8.0, 0.1):
        plan = journey.plan()
        assert plan is not None
        sizes.append(plan.windows)
        journey.passed(plan, *video.decode(plan), took)
    assert sizes == [1, 2, 4, 8, 16, 4, 1]


def test_a_dense_bundle_says_how_long_its_windows_are() -> None:
    manifest = built_in()
    assert usual_window(manifest, 2.0) == 2.0
    dense = manifest.sampling.model_copy(update={"kind": "dense", "stride": 4})
    other = manifest.model_copy(update={"sampling": dense})
    assert usual_window(other, 2.0) == 16 * 4 / 25
