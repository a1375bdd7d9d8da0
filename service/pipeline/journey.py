"""Through a long video a passage at a time: where each begins, how long it is, where it all ends.

Pure arithmetic: it is told what was found, and says what to decode next.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bundle.sampling import Span
from bundle.schema import Manifest
from service.errors import ClipTooLong, StartBeyondClip
from video.passages import PassageFacts, PassagePlan

# A passage is sized to keep a worker busy for so long: others wait no longer for their turn, and
# entering the file anew for each is little beside it. Our choice.
_PASSAGE_SECONDS = 2.0
_GROWTH = 2.0
_MOST_WINDOW_BYTES = 48 << 20
_MOST_WINDOWS = 64
# Of a frame's rate that nobody has told.
_USUAL_RATE = 25.0
# What is left of a video behind the last whole window is a window if it is half of one.
_LEAST_SHARE = 0.5
_TOLERANCE = 0.02


def usual_window(manifest: Manifest, spread_seconds: float) -> float:
    """Seconds of a window where nobody says: those of the clips that the model was made for.

    Args:
        spread_seconds: for a bundle that spreads a view's frames over all of a clip.
    """
    stride = manifest.sampling.stride
    return spread_seconds if stride is None else manifest.geometry.frames * stride / _USUAL_RATE


@dataclass(frozen=True, slots=True)
class WindowPlace:
    """Where a window lies, and the time that it speaks for: in seconds after the video's first
    frame is shown, and in frames that begin before."""

    start: float
    end: float
    cell: tuple[float, float]
    frames: tuple[int, int]


@dataclass(slots=True)
class Journey:
    """The passages of one video, one after the other.

    Attributes:
        window, stride: seconds.
        span: the part of the video that is gone through.
        frames: that begin before the next passage.
        estimated: whether some were estimated, because nobody counted them: those before the span,
            and those of passages that were lost.
        end: where the video, or the span, ends; None while nobody knows.
        seconds: of the video that were gone through.
    """

    manifest: Manifest
    window: float
    stride: float
    span: Span
    max_seconds: float
    frames: int = 0
    estimated: bool = False
    end: float | None = None
    seconds: float = 0.0
    made: int = 0
    _zero: float | None = None
    _windows: int = 1
    _next: float = field(init=False)
    _ended: bool = False  # the video did, before the last passage was full
    _over: bool = False
    _last: WindowPlace | None = None

    def __post_init__(self) -> None:
        self._next = self.span.start
        self.end = self.span.end

    @property
    def shown(self) -> int:
        """Frames of the video up to the end of what was gone through."""
        return self._last.frames[1] if self._last else 0

    def plan(self) -> PassagePlan | None:
        """What to decode next; None at the end.

        Raises:
            ClipTooLong: the video goes on beyond what it may have.
        """
        if self._over:
            return None
        window, windows = self.window, self._windows
        if self.end is not None:
            whole = 0 if self._ended else self._whole_windows(self.end)
            if whole < 1:
                self._over = True
                window, windows = self.end - self._next, 1
                if window <= 0 or (self.made and self._covers(self.end)):
                    return None
            else:
                windows = min(windows, whole)
        if self._next >= self.max_seconds:
            raise ClipTooLong(self._next, self.max_seconds)
        windows = min(windows, math.ceil((self.max_seconds - self._next) / self.stride))
        return PassagePlan.of(
            self.manifest.geometry,
            self.manifest.sampling,
            start=self._next,
            window=window,
            stride=self.stride,
            windows=windows,
            zero=self._zero,
        )

    def _covers(self, end: float) -> bool:
        """Whether too little is left for a window that is cut short."""
        if end - self._next < _LEAST_SHARE * self.window or self._last is None:
            return True
        # The last whole window may not have been known to be the last, and speak for its middle.
        return end - self._last.cell[1] <= _TOLERANCE * self.window

    def _whole_windows(self, end: float) -> int:
        room = end - self._next - self.window + _TOLERANCE * self.window
        return 0 if room < 0 else int(room / self.stride) + 1

    def passed(
        self, plan: PassagePlan, facts: PassageFacts, marks: NDArray[np.int64], seconds: float
    ) -> list[WindowPlace]:
        """A passage was decoded; the places of its windows.

        Args:
            seconds: that it took.

        Raises:
            ClipTooLong: the header says so.
            StartBeyondClip: there is nothing where it should begin.
        """
        if facts.said_seconds > self.max_seconds:
            raise ClipTooLong(facts.said_seconds, self.max_seconds)
        if self._zero is None and self.span.start > 0:
            # Nobody has looked at what lies before.
            self.frames, self.estimated = round(self.span.start * (facts.rate or _USUAL_RATE)), True
        self._zero = facts.zero
        if facts.end is not None:
            if self.span.start > 0 and facts.end <= self.span.start:
                raise StartBeyondClip(self.span.start, facts.end)
            self.end = facts.end if self.end is None else min(self.end, facts.end)
        places = self._places(plan, facts.windows, marks)
        self.made += facts.windows
        self._ended = facts.windows < plan.windows
        if self._ended:
            self.frames += int(marks[facts.windows, 0])
        else:
            self.frames += facts.frames
        self._next = plan.begin_of(facts.windows)
        if places:
            self.seconds = places[-1].end - self.span.start
        self._resize(plan, seconds)
        return places

    def _places(
        self, plan: PassagePlan, windows: int, marks: NDArray[np.int64]
    ) -> list[WindowPlace]:
        places = []
        for number in range(windows):
            begin, first, last, end = plan.edges_of(number)
            before = (self.frames + marks[number]).tolist()
            cell, frames = [first, last], before[1:3]
            # The first window speaks for what comes before its middle, the last for what follows.
            if not self.made and not number:
                cell[0], frames[0] = begin, before[0]
            elif plan.window != self.window and self._last is not None:
                cell[0], frames[0] = self._last.cell[1], self._last.frames[1]
            if self.end is not None and end >= self.end - _TOLERANCE * self.window:
                end = min(end, self.end) if self.end > begin else end
                cell[1], frames[1] = end, before[3]
            self._last = WindowPlace(begin, end, (cell[0], cell[1]), (frames[0], frames[1]))
            places.append(self._last)
        return places

    def lost(self, plan: PassagePlan) -> tuple[float, float]:
        """A passage cannot be decoded, and the next one is gone to; from when to when it was."""
        rate = self.frames / self._next if self.frames else _USUAL_RATE
        self.frames += round(rate * plan.windows * self.stride)
        self.estimated = True
        self._next = plan.end
        self._windows = 1
        return plan.start, plan.begin_of(plan.windows - 1) + plan.window

    def _resize(self, plan: PassagePlan, seconds: float) -> None:
        geometry = self.manifest.geometry
        bytes_of_window = geometry.frames * geometry.size**2 * 3
        most = max(1, min(_MOST_WINDOWS, _MOST_WINDOW_BYTES // bytes_of_window))
        growth = min(_GROWTH, _PASSAGE_SECONDS / max(seconds, 1e-3))
        self._windows = min(most, max(1, int(plan.windows * growth)))
