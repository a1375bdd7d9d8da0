"""Segments of windows, by their properties, and of a journey by what is decoded next."""

import functools
import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.answers import AnswerFacts
from bundle.reader import default_bundle_path, read_bundle
from bundle.sampling import WHOLE, Span
from bundle.schema import Manifest
from service.errors import ClipTooLong
from service.pipeline.journey import Journey, WindowPlace
from service.pipeline.segments import Cell, Merger, Presence, Segment
from video.passages import PassageFacts, PassagePlan

CLASSES, RATE = 3, 10
# A busy machine draws slowly.
PATIENTLY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
SOFTMAX, SIGMOID = AnswerFacts(), AnswerFacts(kind="sigmoid", thresholds=[0.5, 0.2, 0.9])


@st.composite
def timelines(draw: st.DrawFn) -> list[Cell]:
    """Cells one after the other, a gap now and then."""
    cells, time = [], 0.0
    for _ in range(draw(st.integers(0, 12))):
        time += draw(st.sampled_from([0.0, 0.0, 0.0, 1.0]))
        length = draw(st.sampled_from([0.5, 1.0]))
        scores = draw(st.lists(st.floats(0, 1), min_size=CLASSES, max_size=CLASSES))
        first, last = round(time * RATE), round((time + length) * RATE)
        unknown = draw(st.booleans())
        cells.append(Cell(time, time + length, first, last, np.array(scores), unknown))
        time += length
    return cells


def merged(cells: list[Cell], presence: Presence) -> tuple[list[Segment], list[int]]:
    """All segments, and how many were closed with each cell."""
    merger = Merger(presence)
    found, closed = [], []
    for cell in cells:
        new = merger.add(cell)
        found += new
        closed.append(len(new))
    return found + merger.finish(), closed


@PATIENTLY
@given(timelines(), st.sampled_from([SOFTMAX, SIGMOID]), st.none() | st.floats(0, 1))
def test_every_cell_is_in_the_segments_of_its_labels(
    cells: list[Cell], answer: AnswerFacts, threshold: float | None
) -> None:
    presence = Presence.of(answer, CLASSES, threshold, 0.5)
    segments, _ = merged(cells, presence)
    covered = {(s.label, cell.start) for s in segments for cell in cells
               if s.start <= cell.start and cell.end <= s.end}  # fmt: skip
    there = {(label, cell.start) for cell in cells if not cell.unknown
             for label in presence.labels(cell.scores)}  # fmt: skip
    assert covered == there
    assert sum(s.end - s.start for s in segments) == pytest.approx(
        sum(cell.end - cell.start for cell in cells for label in range(CLASSES)
            if (label, cell.start) in there)
    )  # fmt: skip


@PATIENTLY
@given(timelines(), st.sampled_from([SOFTMAX, SIGMOID]))
def test_segments_are_maximal_and_sound(cells: list[Cell], answer: AnswerFacts) -> None:
    presence = Presence.of(answer, CLASSES, None, 0.5)
    segments, _ = merged(cells, presence)
    for segment in segments:
        within = [cell.scores[segment.label] for cell in cells
                  if segment.start <= cell.start and cell.end <= segment.end]  # fmt: skip
        assert min(within) - 1e-9 <= segment.score <= max(within) + 1e-9
        assert 0 <= segment.first_frame <= segment.last_frame
        assert segment.last_frame == round(segment.end * RATE) - 1
    for label in range(CLASSES):
        own = [segment for segment in segments if segment.label == label]
        for before, after in itertools.pairwise(own):
            assert before.end < after.start, "two that touch are one"
    if answer.kind == "softmax":
        ordered = sorted(segments, key=lambda segment: segment.start)
        for before, after in itertools.pairwise(ordered):
            assert before.end <= after.start


@PATIENTLY
@given(timelines())
def test_a_segment_is_closed_with_the_first_cell_that_is_not_in_it(cells: list[Cell]) -> None:
    presence = Presence.of(SOFTMAX, CLASSES, None, 0.5)
    merger, closed = Merger(presence), []
    for cell in cells:
        closed += merger.add(cell)
        assert all(segment.end <= cell.start for segment in closed)
        running = len(merged(cells[: cells.index(cell) + 1], presence)[0]) - len(closed)
        assert running <= 1


def evenly(*scores: tuple[float, ...]) -> list[Cell]:
    """Cells of a second, one after the other: a stride of 1, and windows that are longer."""
    return [
        Cell(n, n + 1, n * RATE, (n + 1) * RATE, np.array(each)) for n, each in enumerate(scores)
    ]


def spans(
    cells: list[Cell], window: float, answer: AnswerFacts = SOFTMAX
) -> list[tuple[int, float, float]]:
    merger = Merger(Presence.of(answer, CLASSES, None, 0.5), window, 1.0)
    found = [segment for cell in cells for segment in merger.add(cell)] + merger.finish()
    assert all(s.first_frame == s.start * RATE and s.last_frame == s.end * RATE - 1 for s in found)
    return [(s.label, s.start, s.end) for s in found]


NONE = (0.0, 0.0, 0.0)


def test_one_certain_window_makes_a_segment_as_long_as_itself() -> None:
    seen = (0.9, 0.1, 0.0)
    assert spans(evenly(NONE, seen, (0.2, 0.4, 0.4), NONE), 2.0) == [(0, 1, 3)]
    assert spans(evenly((0.2, 0.4, 0.4), seen, NONE, NONE), 2.0) == [(0, 0, 2)]
    assert spans(evenly(seen, NONE, NONE), 2.0) == [(0, 0, 2)]
    assert spans(evenly(NONE, NONE, seen), 2.0) == [(0, 1, 3)]
    assert spans(evenly(seen), 2.0) == [(0, 0, 1)]
    # What is as long as a window stays as it is.
    assert spans(evenly(NONE, seen, seen, NONE), 2.0) == [(0, 1, 3)]
    assert spans(evenly(NONE, seen, NONE), 0.0) == [(0, 1, 2)]


def test_a_less_certain_window_beside_has_no_say() -> None:
    """It shows half of what its neighbour shows whole."""
    third, whole, half = (0.0, 0.6, 0.0), (0.9, 0.0, 0.0), (0.0, 0.0, 0.7)
    assert spans(evenly(NONE, third, whole, half, NONE), 2.0) == [(0, 1, 3)]
    # The one beyond shares less than half of its time with what is certain.
    assert spans(evenly(third, NONE, whole), 2.0) == [(1, 0, 2), (0, 2, 3)]
    # Where labels do not exclude each other, all have their say.
    both = spans(evenly(NONE, (0.9, 0.3, 0.0), NONE), 2.0, SIGMOID)
    assert both == [(0, 0, 2), (1, 0, 2)]


def test_certainty_that_rises_does_not_silence_all_before() -> None:
    """The second is silenced by the third, and so does not silence the first."""
    first, second, third = (0.6, 0.0, 0.0), (0.0, 0.7, 0.0), (0.0, 0.0, 0.8)
    assert spans(evenly(first, second, third), 2.0) == [(0, 0, 2), (2, 2, 3)]


@PATIENTLY
@given(timelines(), st.sampled_from([SOFTMAX, SIGMOID]), st.sampled_from([1.0, 2.0, 3.5]))
def test_segments_of_longer_windows_are_sound(
    cells: list[Cell], answer: AnswerFacts, window: float
) -> None:
    stride = 0.5
    presence = Presence.of(answer, CLASSES, None, 0.5)
    merger, segments = Merger(presence, window, stride), []
    for cell in cells:
        segments += merger.add(cell)
        assert merger.kept <= 4 * window / stride + 2, "memory does not grow with a video"
    segments += merger.finish()
    assert merger.kept == 0
    for segment in segments:
        within = [c for c in cells if segment.start <= c.start and c.end <= segment.end]
        assert any(segment.label in presence.labels(c.scores) and not c.unknown for c in within)
        assert math.isclose(sum(c.end - c.start for c in within), segment.end - segment.start)
        assert (segment.first_frame, segment.last_frame) == (within[0].first, within[-1].last - 1)
    for label in range(CLASSES):
        own = [s for s in segments if answer is SOFTMAX or s.label == label]
        for before, after in itertools.pairwise(sorted(own, key=lambda s: s.start)):
            assert before.end <= after.start
    if answer is SIGMOID:  # nobody is silenced
        seen = [(c.start, label) for c in cells if not c.unknown
                for label in presence.labels(c.scores)]  # fmt: skip
        assert all(any(s.label == label and s.start <= start < s.end for s in segments)
                   for start, label in seen)  # fmt: skip


def test_a_segment_comes_out_two_windows_behind_its_end() -> None:
    merger = Merger(Presence.of(SOFTMAX, CLASSES, None, 0.5), 2.0, 0.5)
    cells = [Cell(n / 2, n / 2 + 0.5, n * 5, n * 5 + 5, np.array((0.9 * (n == 4), 0.0, 0.0)))
             for n in range(40)]  # fmt: skip
    out = [cell.end for cell in cells if merger.add(cell)]
    assert len(out) == 1
    assert out[0] <= 2.5 + 2 * 2.0


@functools.cache
def built_in() -> Manifest:
    return read_bundle(default_bundle_path()).manifest


class Video:
    """A video of so many seconds, as a decode worker would tell of it."""

    def __init__(self, seconds: float, said: float = 0.0) -> None:
        self.seconds, self.said = seconds, said

    def before(self, time: float) -> int:
        return min(round(self.seconds * RATE), max(0, math.ceil((time - 1e-6) * RATE)))

    def decode(self, plan: PassagePlan) -> tuple[PassageFacts, np.ndarray]:  # type: ignore[type-arg]
        windows = [n for n in range(plan.windows)
                   if plan.begin_of(n) + plan.window <= self.seconds + 1e-6]  # fmt: skip
        last = max(plan.end, plan.begin_of(plan.windows - 1) + plan.window)
        ended = self.seconds <= last
        marks = np.array(
            [[self.before(edge) - self.before(plan.start) for edge in plan.edges_of(number)]
             for number in range(plan.windows)]
        )  # fmt: skip
        frames = self.before(min(plan.end, self.seconds)) - self.before(plan.start)
        end = self.seconds if ended else None
        facts = PassageFacts("h264", 64, 64, 0.0, len(windows), frames, end, self.said, RATE, 0)
        return facts, marks


def travel(
    video: Video, window: float, stride: float, span: Span = WHOLE, took: float = 0.01,
    lost: float = -1.0,
) -> tuple[list[WindowPlace], Journey]:  # fmt: skip
    """All places, where passages that begin at or behind ``lost`` are lost, once."""
    manifest = built_in()
    journey = Journey(manifest, window, stride, span, 1000.0)
    places: list[WindowPlace] = []
    while (plan := journey.plan()) is not None:
        if 0 <= lost <= plan.start:
            lost = -1.0
            journey.lost(plan)
            continue
        facts, marks = video.decode(plan)
        places += journey.passed(plan, facts, marks, took)
    return places, journey


@PATIENTLY
@given(
    st.integers(3, 400).map(lambda n: n / 10), st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0.01, 1.5, 9.0]),
)  # fmt: skip
def test_cells_cover_a_video_without_gaps(
    seconds: float, window: float, share: float, took: float
) -> None:
    video, stride = Video(seconds), share * window
    places, journey = travel(video, window, stride, took=took)
    assert places[0].cell[0] == 0.0
    for before, after in itertools.pairwise(places):
        assert before.cell[1] == pytest.approx(after.cell[0])
        assert before.frames[1] == after.frames[0]
    for place in places:
        assert place.frames == (video.before(place.cell[0]), video.before(place.cell[1]))
        assert place.start <= place.cell[0] <= place.cell[1] <= place.end + 1e-6
    left = seconds - places[-1].cell[1]
    assert left <= (0.5 if share == 1.0 else 0.021) * window + 0.11 or len(places) == 0
    assert journey.seconds <= seconds + 1e-6
    whole = [place for place in places if place.end - place.start == pytest.approx(window)]
    assert len(places) - len(whole) <= 1, "one is cut short at most"


def test_a_part_of_a_video_ends_where_it_should() -> None:
    places, journey = travel(Video(60.0), 2.0, 1.0, Span(10.0, 17.5))
    assert (places[0].start, places[0].frames[0]) == (10.0, 100)
    assert (places[-1].start, places[-1].end, places[-1].cell[1]) == (16.0, 17.5, 17.5)
    assert journey.seconds == 7.5


def test_what_is_lost_is_gone_round() -> None:
    places, journey = travel(Video(60.0), 2.0, 1.0, lost=7.0)
    assert journey.estimated
    starts = [place.start for place in places]
    missing = sorted({float(n) for n in range(59)} - set(starts))
    assert missing == [float(n) for n in range(7, 15)]
    assert places[-1].frames[1] == 600


def test_a_video_that_goes_on_for_too_long_is_ended() -> None:
    with pytest.raises(ClipTooLong):
        travel(Video(1200.0), 10.0, 10.0)
    with pytest.raises(ClipTooLong):
        travel(Video(10.0, said=2000.0), 2.0, 1.0)


def test_passages_grow_while_they_are_quick_and_shrink_when_not() -> None:
    manifest = built_in()
    journey, video = Journey(manifest, 2.0, 1.0, Span(), 1e6), Video(500.0)
    sizes = []
    for took in (0.1, 0.1, 0.1, 0.1, 8.0, 8.0, 0.1):
        plan = journey.plan()
        assert plan is not None
        sizes.append(plan.windows)
        journey.passed(plan, *video.decode(plan), took)
    assert sizes == [1, 2, 4, 8, 16, 4, 1]


def test_a_dense_bundle_says_how_long_its_windows_are(tmp_path: Path) -> None:
    from service.pipeline.journey import usual_window

    manifest = built_in()
    assert usual_window(manifest, 2.0) == 2.0
    dense = manifest.sampling.model_copy(update={"kind": "dense", "stride": 4})
    other = manifest.model_copy(update={"sampling": dense})
    assert usual_window(other, 2.0) == 16 * 4 / 25
    plan = PassagePlan(16, 64, 64, "crop", 0.0, 2.0, 3.0, 2)
    assert replace(plan, windows=1).end == 3.0
