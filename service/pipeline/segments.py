"""From the windows of a long video to segments: what happens from when to when. Pure arithmetic.

A window speaks for the time that is nearer to its middle than to its neighbours' (its cell): there
an action that it shows fills most of it. A label is there while its score reaches its threshold,
and each run of such cells is a segment; where a shot ends, it goes on if the label does. Two things
that windows do not see well are made up for within a shot, our choice because of what
benchmarks/timeline.py measures:

- A window that shows half of one action and half of another often takes both for a third. Where
  labels exclude each other, a window has no say when a more certain one with another label shares
  at least half of its time.
- A model knows nothing shorter than its windows, and of an action as long as a window one window
  alone may be certain. So a run that is shorter than a window grows to the length of one, into
  neighbouring cells that have no label, those with its label's better scores first.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bundle.answers import AnswerFacts

# Ends of cells that are the same but for the last digits of their times.
_HAIR = 1e-6


@dataclass(frozen=True, slots=True)
class Cell:
    """What a window says of its own time.

    Attributes:
        start, end: seconds after the video's first frame is shown.
        first, last: how many of the video's frames begin before ``start`` and before ``end``.
        scores: float64 [classes], from 0 to 1.
        unknown: whether they are too low for any answer.
        shot: its number: windows of different shots show nothing of each other.
    """

    start: float
    end: float
    first: int
    last: int
    scores: NDArray[np.float64]
    unknown: bool = False
    shot: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A label that is there from one time to another.

    Attributes:
        label: its index.
        score: the mean of its scores over the time.
        start, end: seconds after the video's first frame is shown.
        first_frame: the first frame that begins in it, or the one shown where none does,
        last_frame: and the last that begins in it; counted from 0.
    """

    label: int
    score: float
    start: float
    end: float
    first_frame: int
    last_frame: int


@dataclass(frozen=True, slots=True)
class Presence:
    """Which labels a cell's scores say are there.

    Attributes:
        answer: of labels that exclude each other, the best alone may be there.
        thresholds: float64 [classes].
    """

    answer: AnswerFacts
    thresholds: NDArray[np.float64]

    @classmethod
    def of(
        cls, answer: AnswerFacts, labels: int, threshold: float | None, usual: float
    ) -> "Presence":
        """By what was asked for, by the bundle's own thresholds, or by the usual one."""
        if threshold is None and answer.kind == "sigmoid":
            return cls(answer, np.array(answer.thresholds_of(labels)))
        return cls(answer, np.full(labels, usual if threshold is None else threshold))

    def labels(self, scores: NDArray[np.float64]) -> list[int]:
        """Indices of the labels that are there, ascending."""
        if self.answer.kind == "softmax":
            best = int(scores.argmax())
            return [best] if scores[best] >= self.thresholds[best] else []
        found: list[int] = np.flatnonzero(scores >= self.thresholds).tolist()
        return found


@dataclass(slots=True)
class _Place:
    """A cell among its neighbours.

    Attributes:
        voted: labels that its scores say are there.
        there: those of them that have a say; of no meaning before it is ``settled``.
        given: labels whose runs grew into it.
    """

    cell: Cell
    voted: list[int]
    there: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    settled: bool = False

    def taken(self, label: int, *, alone: bool) -> bool:
        """Whether no run of this label may grow into it; ``alone`` where labels exclude others."""
        if alone:
            return bool(self.there or self.given)
        return label in self.there or label in self.given


@dataclass(slots=True)
class _Run:
    """Consecutive cells with a label.

    Attributes:
        left: the cells before it, nearest first, as many as it may grow into.
        shots: that it begins and ends in.
        right: those behind it that have come since it ended.
    """

    label: int
    start: float
    first: int
    left: list[_Place]
    shots: tuple[int, int]
    end: float = 0.0
    last: int = 0
    scored: float = 0.0
    seconds: float = 0.0
    ended: bool = False
    right: list[_Place] = field(default_factory=list)

    def add(self, cell: Cell) -> None:
        length = cell.end - cell.start
        self.end, self.last = cell.end, cell.last
        self.shots = self.shots[0], cell.shot
        self.scored += float(cell.scores[self.label]) * length
        self.seconds += length

    def is_short(self, window: float) -> bool:
        """Whether it is shorter than a window."""
        return self.end - self.start < window - _HAIR

    def grow(self, window: float, *, alone: bool) -> None:
        """Take free neighbours until it is as long as a window."""
        left, right = iter(self.left), iter(self.right)
        before, after = self._free(left, 0, alone), self._free(right, 1, alone)
        while self.is_short(window) and (before or after):
            if after is None or (before is not None and self._score(before) >= self._score(after)):
                assert before is not None
                self.start, self.first = before.cell.start, before.cell.first
                before.given.append(self.label)
                before = self._free(left, 0, alone)
            else:
                self.end, self.last = after.cell.end, after.cell.last
                after.given.append(self.label)
                after = self._free(right, 1, alone)

    def _free(self, places: Iterator[_Place], side: int, alone: bool) -> _Place | None:
        """The next, where it may be grown into; behind one that may not, none may."""
        place = next(places, None)
        if place is None or place.cell.shot != self.shots[side]:
            return None
        return None if place.taken(self.label, alone=alone) else place

    def _score(self, place: _Place) -> float:
        return float(place.cell.scores[self.label])

    def close(self) -> Segment:
        last_frame = max(0, self.last - 1)
        first_frame = min(self.first, last_frame)
        score = min(1.0, self.scored / self.seconds) if self.seconds > 0 else 0.0
        return Segment(self.label, score, self.start, self.end, first_frame, last_frame)


class Merger:
    """Makes segments of cells that come in the order of their times.

    A segment comes out at most two windows behind its end, and no more cells are kept than that.

    Args:
        presence: says which labels are there.
        window: seconds of a window; 0 takes every cell as it is.
        stride: seconds from one window to the next.
    """

    def __init__(self, presence: Presence, window: float = 0.0, stride: float = 1.0) -> None:
        self._presence, self._window = presence, window
        # Labels that exclude each other: windows that share time contradict each other there.
        self._alone = presence.answer.kind == "softmax"
        # Windows on each side that share at least half of a window's time.
        self._near = int(window / 2 / stride + _HAIR) if self._alone else 0
        # Cells that a run of one grows by, at most, to be as long as a window.
        self._reach = max(0, math.ceil(window / stride - _HAIR) - 1)
        self._places: deque[_Place] = deque()
        self._runs: list[_Run] = []

    @property
    def kept(self) -> int:
        """Cells that are kept."""
        return len(self._places)

    def add(self, cell: Cell) -> list[Segment]:
        """Take the next cell; the segments that are closed now, by their beginnings."""
        closed: list[Segment] = []
        if self._places and cell.start > self._places[-1].cell.end + _HAIR:
            closed += self.finish()  # nobody looked in between
        voted = [] if cell.unknown else self._presence.labels(cell.scores)
        self._places.append(_Place(cell, voted))
        self._settle(len(self._places) - 2 * self._near)
        closed += self._close()
        while len(self._places) > 4 * self._near + self._reach + 1 and self._places[0].settled:
            self._places.popleft()
        return _in_order(closed)

    def showing(self) -> list[int]:
        """Labels that the last cell shows by what is known now; later cells may contradict it."""
        last = len(self._places) - 1
        if last < 0 or not self._is_undisputed(last):
            return []
        return self._places[last].voted

    def finish(self) -> list[Segment]:
        """No more cells come, or none for a while."""
        self._settle(len(self._places))
        for run in self._runs:
            run.ended = True
        closed = self._close(wait=False)
        self._places.clear()
        return _in_order(closed)

    def _settle(self, until: int) -> None:
        """Say which labels the places before ``until`` have, whose neighbours have come."""
        for number in range(max(0, until)):
            place = self._places[number]
            if place.settled:
                continue
            place.settled = True
            if self._is_undisputed(number):
                place.there = place.voted
            self._place_in_runs(number, place)

    def _rivals(self, number: int) -> Iterator[int]:
        """Windows that share half of its time, and are more certain of another label."""
        for other in range(max(0, number - self._near), number + self._near + 1):
            if other < len(self._places) and self._beats(other, number):
                yield other

    def _beats(self, one: int, other: int) -> bool:
        mine, theirs = self._places[one], self._places[other]
        if mine.cell.shot != theirs.cell.shot:
            return False
        if not mine.voted or not theirs.voted or mine.voted == theirs.voted:
            return False
        return bool(mine.cell.scores[mine.voted[0]] > theirs.cell.scores[theirs.voted[0]])

    def _is_undisputed(self, number: int) -> bool:
        return not any(self._is_strong(rival) for rival in self._rivals(number))

    def _is_strong(self, number: int) -> bool:
        return next(self._rivals(number), None) is None

    def _place_in_runs(self, number: int, place: _Place) -> None:
        """Let runs end or go on with a place, and begin; the places behind a run are what it may
        grow into."""
        going = {run.label: run for run in self._runs if not run.ended}
        for label, run in going.items():
            run.ended = label not in place.there
        for run in self._runs:
            if run.ended and len(run.right) < self._reach:
                run.right.append(place)
        for label in place.there:
            if label not in going:
                nearest = range(number - 1, max(-1, number - 1 - self._reach), -1)
                before = [self._places[n] for n in nearest]
                shots = place.cell.shot, place.cell.shot
                going[label] = _Run(label, place.cell.start, place.cell.first, before, shots)
                self._runs.append(going[label])
            going[label].add(place.cell)

    def _close(self, *, wait: bool = True) -> list[Segment]:
        """Close the runs that ended, and whose neighbours are known."""
        closed, left = [], []
        for run in self._runs:
            known = not wait or len(run.right) == self._reach
            if run.ended and (known or not run.is_short(self._window)):
                run.grow(self._window, alone=self._alone)
                closed.append(run.close())
            else:
                left.append(run)
        self._runs = left
        return closed


def _in_order(segments: list[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda segment: (segment.start, segment.label))
