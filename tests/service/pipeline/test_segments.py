"""Segments of windows, by their properties."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.answers import AnswerFacts
from service.pipeline.segments import Cell, Merger, Presence, Segment

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


def shots(*scores: tuple[float, ...], cut: int) -> list[Cell]:
    """The same, the first ``cut`` of them in one shot and the others in the next."""
    return [replace(cell, shot=int(n >= cut)) for n, cell in enumerate(evenly(*scores))]


def test_what_lies_beyond_a_cut_is_nobodys() -> None:
    """A segment goes over a cut where its label does, and windows say nothing of another shot."""
    seen, less, other = (0.9, 0.1, 0.0), (0.6, 0.1, 0.0), (0.1, 0.8, 0.0)
    assert spans(shots(NONE, seen, NONE, NONE, cut=2), 2.0) == [(0, 0, 2)]
    assert spans(shots(NONE, NONE, seen, NONE, cut=2), 2.0) == [(0, 2, 4)]
    assert spans(shots(NONE, seen, NONE, cut=1), 3.0) == [(0, 1, 3)]
    assert spans(shots(seen, less, NONE, cut=1), 1.0) == [(0, 0, 2)]
    # One that is less certain has its say all the same.
    assert spans(shots(NONE, other, seen, NONE, cut=2), 2.0) == [(1, 0, 2), (0, 2, 4)]
    assert spans(evenly(NONE, other, seen, NONE), 2.0) == [(0, 1, 3)]
