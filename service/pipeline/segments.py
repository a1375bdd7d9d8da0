"""From the windows of a long video to segments: what happens from when to when. Pure arithmetic.

A window speaks for the time that is nearer to its middle than to its neighbours' (its cell). Where
windows overlap, several looked at that time. A label is there while the mean of their scores
reaches its threshold, and each run of such cells is a segment.
"""

from collections import deque
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
    """

    start: float
    end: float
    first: int
    last: int
    scores: NDArray[np.float64]
    unknown: bool = False


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


@dataclass(slots=True)
class _Run:
    """A segment that is not closed."""

    start: float
    first: int
    end: float = 0.0
    last: int = 0
    scored: float = 0.0
    seconds: float = 0.0

    def add(self, cell: Cell, score: float) -> None:
        self.end, self.last = cell.end, cell.last
        self.scored += score * (cell.end - cell.start)
        self.seconds += cell.end - cell.start

    def close(self, label: int) -> Segment:
        last_frame = max(0, self.last - 1)
        first_frame = min(self.first, last_frame)
        score = min(1.0, self.scored / self.seconds) if self.seconds > 0 else 0.0
        return Segment(label, score, self.start, self.end, first_frame, last_frame)


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
class Merger:
    """Makes segments of cells that come in the order of their times.

    Attributes:
        presence: says which labels are there.
        reach: how many windows before and behind a cell look at its middle as well: their scores
            count for it. It is answered so many cells later.
    """

    presence: Presence
    reach: int = 0
    _near: deque[Cell] = field(default_factory=deque)
    _edge: float | None = None
    _behind: int = 0  # cells in `_near` that have been answered
    _runs: dict[int, _Run] = field(default_factory=dict)

    def add(self, cell: Cell) -> list[Segment]:
        """Take the next cell; the segments that are closed now, by their beginnings."""
        closed: list[Segment] = []
        if self._edge is not None and cell.start > self._edge + _HAIR:
            closed += self.finish()  # nobody looked in between
        self._edge = cell.end
        self._near.append(cell)
        if len(self._near) - self._behind > self.reach:
            closed += self._answer_next()
        return _in_order(closed)

    def finish(self) -> list[Segment]:
        """No more cells come, or none for a while."""
        closed: list[Segment] = []
        while len(self._near) > self._behind:
            closed += self._answer_next()
        self._near.clear()
        self._behind = 0
        closed += [run.close(label) for label, run in self._runs.items()]
        self._runs.clear()
        return _in_order(closed)

    def _answer_next(self) -> list[Segment]:
        cell = self._near[self._behind]
        first = max(0, self._behind - self.reach)
        looked = list(self._near)[first : self._behind + self.reach + 1]
        scores = np.mean([near.scores for near in looked], axis=0)
        there = [] if cell.unknown else self.presence.labels(scores)
        self._behind += 1
        if self._behind > self.reach:
            self._near.popleft()
            self._behind -= 1
        gone = [label for label in self._runs if label not in there]
        for label in there:
            run = self._runs.setdefault(label, _Run(cell.start, cell.first))
            run.add(cell, float(scores[label]))
        return [self._runs.pop(label).close(label) for label in gone]


def _in_order(segments: list[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda segment: (segment.start, segment.label))
