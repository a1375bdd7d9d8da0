"""For what time a window speaks where others were not looked at. Pure arithmetic."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from service.pipeline.journey import WindowPlace
from service.pipeline.segments import Cell

_HAIR = 1e-6


class Spread:
    """Makes cells of windows in the order of their times.

    The time of a window that was skipped goes to the nearest one of its shot that was looked at and
    saw all of it, and to none where there is none.

    Args:
        labels: how many there are.
    """

    def __init__(self, labels: int) -> None:
        self._nothing = np.zeros(labels)
        self._waiting: deque[WindowPlace] = deque()
        self._last: tuple[WindowPlace, Cell] | None = None

    def add(
        self, place: WindowPlace, scores: NDArray[np.float64], *, unknown: bool = False
    ) -> list[Cell]:
        """A window was looked at; the cells that are known now."""
        cell = Cell(*place.cell, *place.frames, scores, unknown, place.shot)
        cells = [self._cell(self._waiting.popleft(), (place, cell)) for _ in [*self._waiting]]
        self._last = place, cell
        return [*cells, cell]

    def skip(self, place: WindowPlace) -> list[Cell]:
        """A window was not looked at; the cells that are known now."""
        known = []
        while self._waiting and not _saw(place, self._waiting[0]):
            known.append(self._cell(self._waiting.popleft(), None))
        self._waiting.append(place)
        return known

    def finish(self) -> list[Cell]:
        """No more windows come, or none for a while."""
        cells = [self._cell(self._waiting.popleft(), None) for _ in [*self._waiting]]
        self._last = None
        return cells

    def _cell(self, place: WindowPlace, following: tuple[WindowPlace, Cell] | None) -> Cell:
        looked = [one for one in (self._last, following) if one and _saw(one[0], place)]
        nearest = min(looked, key=lambda one: abs(_middle(one[0]) - _middle(place)), default=None)
        scores, unknown = (self._nothing, True) if nearest is None else (
            nearest[1].scores, nearest[1].unknown
        )  # fmt: skip
        return Cell(*place.cell, *place.frames, scores, unknown, place.shot)


def _saw(one: WindowPlace, other: WindowPlace) -> bool:
    """Whether a window saw all of the time that another speaks for."""
    begin, end = other.cell
    return one.shot == other.shot and one.start <= begin + _HAIR and end <= one.end + _HAIR


def _middle(place: WindowPlace) -> float:
    return (place.start + place.end) / 2
