"""What begins and ends in a stream, said at once. Pure arithmetic.

A segment is known when windows behind it can no longer contradict it. That is too late for who
watches: so a label begins with the first window that shows it by all that is known then, and ends
with the first that does not. The thresholds are a segment's, and so is the rule by which the more
certain of two windows has a say, for windows before.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.pipeline.segments import Cell

_HAIR = 1e-6


@dataclass(frozen=True, slots=True)
class Change:
    """A label begins or ends.

    Attributes:
        score: the label's in the window where it begins, and the mean of all when it ends.
        seconds: when, on the clock of the cells.
    """

    kind: Literal["begin", "end"]
    label: int
    score: float
    seconds: float


class Changes:
    """Says what changes from one cell to the next."""

    def __init__(self) -> None:
        self._there: dict[int, tuple[float, int]] = {}
        self._until = 0.0

    def pass_to(self, cell: Cell, showing: Iterable[int]) -> list[Change]:
        """The next cell shows these labels; what changes with it."""
        found = self.end() if cell.start > self._until + _HAIR else []
        shown = set(showing)
        found += [self._ended(label, cell.start) for label in [*self._there] if label not in shown]
        scores: NDArray[np.float64] = cell.scores
        for label in sorted(shown):
            score, (total, cells) = float(scores[label]), self._there.get(label, (0.0, 0))
            if not cells:
                found.append(Change("begin", label, score, cell.start))
            self._there[label] = total + score, cells + 1
        self._until = cell.end
        return found

    def end(self) -> list[Change]:
        """No more cells come, or none for a while."""
        return [self._ended(label, self._until) for label in [*self._there]]

    def _ended(self, label: int, seconds: float) -> Change:
        total, cells = self._there.pop(label)
        return Change("end", label, min(1.0, total / cells), seconds)
