"""Windows that slide over frames, within each shot, as the frames come."""

import math
from array import array
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from video.framing import Frame, cut_views
from video.passages import SHORTEST_SHOT_SECONDS, PassagePlan

# A window that ends by so little after its shot is one of it, and one that ends by so little
# before it is its last: time stamps and durations are rounded.
END_SHARE = 0.02
# How finely frames are kept for a window that ends with its shot, by the distance of its frames:
# at 25 frames a second and 16 frames in two seconds, all of them are.
_KEPT_SHARE = 1 / 4


@dataclass(slots=True)
class Window:
    """A window that has begun; its frames up to ``next`` are written."""

    begin: float
    end: float
    cell: tuple[float, float]
    next: int = 0


class Slide:
    """Places windows in shots, and writes the frames that they show.

    From a shot's beginning on a window begins with every stride; the last one ends with the shot. A
    shot that is shorter than a window is one, and its frames are spread over the shot.

    Attributes:
        made: windows that are whole.
        shots: that have ended.
        following: when the next window begins.
    """

    def __init__(self, plan: PassagePlan, play: float, out: Tensor) -> None:
        """Begin a passage.

        Args:
            plan: which windows.
            play: seconds by which time stamps may be off.
            out: uint8 [W, T, H, W, 3], written.
        """
        self._plan, self._play, self._out = plan, play, out
        self.made = self.shots = 0
        self.following = self._shot = plan.start
        self._from = plan.origin  # what is shown before belongs to no window
        self._number = 0  # of the next window in its shot, among those of this passage
        self._goes_on = plan.since is not None
        self._spoken = plan.start  # until then windows of the shot have spoken
        if plan.since is not None:
            self._spoken = plan.since + plan.window / 2 + plan.reach
        self._open: deque[Window] = deque()
        self._kept: deque[tuple[float, Tensor]] = deque()
        self._shown: Frame | None = None
        self._view: Tensor | None = None
        self._places: list[list[float]] = []
        self._times = array("d")

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another window."""
        return self.made == self._plan.windows

    @property
    def frames(self) -> int:
        """Frames that began since the passage's origin."""
        return len(self._times)

    def show(self, frame: Frame, *, cut: bool) -> None:
        """A frame begins, and a shot with it where there is a ``cut``.

        Nothing more is taken once it is full.
        """
        self._pass(frame.time)
        parted = max(self._plan.clear, self._from + SHORTEST_SHOT_SECONDS)
        if cut and frame.time >= parted - self._play:
            self._end_shot(frame.time)
        if self.is_full:
            return
        if frame.time >= self._plan.origin - self._play:
            self._times.append(frame.time)
        self._shown, self._view = frame, None
        self._keep(frame)

    def end(self, time: float) -> bool:
        """No frame comes any more, or none is wanted; returns whether there was room for the last
        window."""
        if self._shown is None:
            return True
        self._pass(time, play=END_SHARE * self._plan.window)
        return self._end_shot(time)

    def write_places(self, places: Tensor) -> None:
        """Write where the windows lie, float64 [W, 9]; see :data:`video.passages.PLACE_VALUES`."""
        places.zero_()
        for number, place in enumerate(self._places):
            places[number] = torch.tensor(self._counted(place), dtype=torch.float64)

    def _counted(self, place: list[float]) -> list[float]:
        """A window's place with the frames that begin before each of its edges."""
        shot, *edges = place
        return [shot, *edges, *(bisect_left(self._times, edge - self._play) for edge in edges)]

    def _pass(self, time: float, play: float | None = None) -> None:
        """What is shown is shown until ``time``."""
        plan, play = self._plan, self._play if play is None else play
        while self.following < time - self._play and self._has_room():
            begin = self.following
            self._open.append(self._window(begin))
            self._number += 1
            self.following = self._shot + self._number * plan.stride
        for row, window in enumerate(self._open, start=self.made):
            self._write(self._row(row), window, time - self._play)
        while self._open and self._is_whole(self._open[0], time, play):
            self._write(self._row(self.made), self._open[0], math.inf)
            self._close(self._open.popleft())

    def _is_whole(self, window: "Window", time: float, play: float) -> bool:
        """Whether nothing can be added to a window when what is shown is known up to ``time``."""
        return window.end <= time + play

    def _has_room(self) -> bool:
        """Whether another window may begin."""
        return self.made + len(self._open) < self._plan.windows

    def _row(self, number: int) -> int:
        """Where a window is written, by its number."""
        return number

    def _window(self, begin: float) -> Window:
        plan = self._plan
        middle, end = begin + plan.window / 2, begin + plan.window
        first = max(begin, middle - plan.reach) if self._goes_on or self._number else begin
        return Window(begin, end, (first, min(end, middle + plan.reach)))

    def _write(self, row: int, window: Window, until: float) -> None:
        """Write what is shown wherever it is what the window sees at a time before ``until``."""
        frames = self._plan.frames
        step = (window.end - window.begin) / frames
        while window.next < frames and window.begin + (window.next + 0.5) * step < until:
            self._out[row, window.next] = self._cut_view()
            window.next += 1

    def _close(self, window: Window) -> None:
        self._places.append([self.shots, window.begin, *window.cell, window.end])
        self._spoken = window.cell[1]
        self.made += 1

    def _end_shot(self, end: float) -> bool:
        """A shot ends: its last window ends with it; returns whether there was room for that."""
        plan = self._plan
        last = self._places[-1] if self._places else None
        near = last is not None and end - last[4] <= END_SHARE * plan.window
        if last is not None and last[0] == self.shots and near:
            last[3] = end
            last[4] = min(last[4], end)
        elif self.is_full:
            return False
        elif end > self._spoken + self._play:
            begin = max(self._from, end - plan.window)
            self._open.clear()
            self._write_kept(begin, end)
            self._close(Window(begin, end, (max(begin, self._spoken), end)))
        self._open.clear()
        self.shots += 1
        self.following = self._shot = self._from = self._spoken = end
        self._number, self._goes_on = 0, False
        return True

    def _write_kept(self, begin: float, end: float) -> None:
        """Write a window of frames that were shown before."""
        frames, place = self._plan.frames, 0
        for number in range(frames):
            moment = begin + (end - begin) * (number + 0.5) / frames + self._play
            while place + 1 < len(self._kept) and self._kept[place + 1][0] <= moment:
                place += 1
            self._out[self._row(self.made), number] = self._kept[place][1]

    def _keep(self, frame: Frame) -> None:
        """Keep a frame for the window that will end with its shot."""
        plan = self._plan
        step = _KEPT_SHARE * plan.window / plan.frames
        if frame.time <= self._from + self._play:
            self._kept.clear()  # it is what is shown when the shot begins
        elif self._kept and frame.time < self._kept[-1][0] + step - self._play:
            return
        self._kept.append((frame.time, self._cut_view()))
        while len(self._kept) > 1 and self._kept[1][0] <= frame.time - plan.window - step:
            self._kept.popleft()

    def _cut_view(self) -> Tensor:
        assert self._shown is not None
        if self._view is None:
            plan = self._plan
            self._view = cut_views(self._shown, plan.size, plan.short_side, 1, plan.framing)[0]
        return self._view
