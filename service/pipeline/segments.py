"""From the windows of a long video to segments: what happens from when to when. Pure arithmetic.

A window speaks for the time that is nearer to its middle than to its neighbours' (its cell): there
an action that it shows fills most of it. A label is there while its score reaches its threshold,
and each run of such cells is a segment.
"""

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
    """

    presence: Presence
    _edge: float | None = None
    _runs: dict[int, _Run] = field(default_factory=dict)

    def add(self, cell: Cell) -> list[Segment]:
        """Take the next cell; the segments that are closed now, by their beginnings."""
        closed: list[Segment] = []
        if self._edge is not None and cell.start > self._edge + _HAIR:
            closed += self.finish()  # nobody looked in between
        self._edge = cell.end
        there = [] if cell.unknown else self.presence.labels(cell.scores)
        gone = [label for label in self._runs if label not in there]
        closed += [self._runs.pop(label).close(label) for label in gone]
        for label in there:
            run = self._runs.setdefault(label, _Run(cell.start, cell.first))
            run.add(cell, float(cell.scores[label]))
        return _in_order(closed)

    def finish(self) -> list[Segment]:
        """No more cells come, or none for a while."""
        closed = [run.close(label) for label, run in self._runs.items()]
        self._runs.clear()
        return _in_order(closed)


def _in_order(segments: list[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda segment: (segment.start, segment.label))
