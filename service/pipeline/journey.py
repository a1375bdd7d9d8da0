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
    frame is shown, and in frames that begin before.

    Attributes:
        shot: the number of its shot; those of shots that follow each other differ.
        cut: whether it is the first of a shot that begins with a cut.
        first_frame: of its shot, if it is the first there.
    """

    start: float
    end: float
    cell: tuple[float, float]
    frames: tuple[int, int]
    shot: int
    cut: bool
    first_frame: int


@dataclass(slots=True)
class Journey:
    """The passages of one video, one after the other.

    Attributes:
        window, stride: seconds.
        span: the part of the video that is gone through.
        cuts: whether hard cuts part shots.
        frames: that begin before what the next passage counts from.
        estimated: whether some were estimated, because nobody counted them: those before the span,
            and those of passages that were lost.
        seconds: of the video that were gone through.
    """

    manifest: Manifest
    window: float
    stride: float
    span: Span
    max_seconds: float
    cuts: bool = True
    frames: int = 0
    estimated: bool = False
    seconds: float = 0.0
    _zero: float | None = None
    _windows: int = 1
    _next: float = field(init=False)
    _since: float | None = None
    _shot: int = 0
    _fresh: bool = True  # nobody saw what comes before the next window
    _over: bool = False
    _last: WindowPlace | None = None

    def __post_init__(self) -> None:
        self._next = self.span.start

    @property
    def shown(self) -> int:
        """Frames of the video up to the end of what was gone through."""
        return self._last.frames[1] if self._last else 0

    def plan(self) -> PassagePlan | None:
        """What to decode next; None at the end.

        Raises:
            ClipTooLong: the video goes on beyond what it may have.
        """
        until = self.span.end
        if self._over or (until is not None and self._since is None and self._next >= until):
            return None
        most = max(1, math.ceil((self.max_seconds - self._next) / self.stride))
        plan = PassagePlan.of(
            self.manifest.geometry,
            self.manifest.sampling,
            start=self._next,
            window=self.window,
            stride=self.stride,
            windows=min(self._windows, most),
            since=self._since,
            until=until,
            cuts=self.cuts,
            zero=self._zero,
        )
        if plan.clear >= self.max_seconds:
            raise ClipTooLong(plan.clear, self.max_seconds)
        return plan

    def passed(
        self, plan: PassagePlan, facts: PassageFacts, places: NDArray[np.float64], seconds: float
    ) -> list[WindowPlace]:
        """A passage was decoded; the places of its windows.

        Args:
            places: float64 [W, 9], see :data:`video.passages.PLACE_VALUES`.
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
            if 0 < facts.end <= self.span.start:
                raise StartBeyondClip(self.span.start, facts.end)
            self._over = True
        found = self._places(places)
        self._shot += facts.shots
        self._next, self._since = facts.following, None
        if len(places):
            shot, begin, _, _, end, *before = places[-1].tolist()
            self.seconds = end - self.span.start
            goes_on = int(shot) == facts.shots
            self._since = begin if goes_on else None
            # What the next passage counts from is this window's beginning, or its shot's end.
            self.frames += int(before[0] if goes_on else before[3])
        self._resize(plan, seconds)
        return found

    def _places(self, places: NDArray[np.float64]) -> list[WindowPlace]:
        found = []
        for shot, begin, first, last, end, *before in places.tolist():
            frames = [self.frames + int(count) for count in before]
            number = self._shot + int(shot)
            cut = not self._fresh and self._last is not None and number != self._last.shot
            self._fresh = False
            self._last = WindowPlace(
                begin, end, (first, last), (frames[1], frames[2]), number, cut, frames[0]
            )
            found.append(self._last)
        return found

    def lost(self, plan: PassagePlan) -> tuple[float, float]:
        """A passage cannot be decoded, and the next one is gone to; from when to when it was."""
        seconds = plan.windows * self.stride
        rate = self.frames / plan.origin if self.frames and plan.origin else _USUAL_RATE
        self.frames += round(rate * (plan.start + seconds - plan.origin))
        self.estimated = True
        self._next, self._since, self._fresh = plan.start + seconds, None, True
        self._shot += 1
        self._windows = 1
        return plan.start, plan.start + seconds - self.stride + plan.window

    def _resize(self, plan: PassagePlan, seconds: float) -> None:
        geometry = self.manifest.geometry
        bytes_of_window = geometry.frames * geometry.size**2 * 3
        most = max(1, min(_MOST_WINDOWS, _MOST_WINDOW_BYTES // bytes_of_window))
        growth = min(_GROWTH, _PASSAGE_SECONDS / max(seconds, 1e-3))
        self._windows = min(most, max(1, int(plan.windows * growth)))
