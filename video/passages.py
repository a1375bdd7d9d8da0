"""What is asked of a part of a long video, and what was found in it: plain values, without torch.

A long video is gone through forwards, a passage at a time. A passage has windows at even distances
within each shot, and each window is a view of the model.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from bundle.sampling import Framing
from bundle.schema import Geometry, Sampling
from video.facts import Word

_Count = Annotated[int, Interval(ge=0, le=1 << 40)]
_Side = Annotated[int, Interval(ge=1, le=1 << 31)]
_Seconds = Annotated[float, Interval(ge=0.0, le=1e9)]
# Of a stream's own clock, which may begin anywhere.
_Stamp = Annotated[float, Interval(ge=-1e12, le=1e12)]


# Of each window: how many shots of its passage end before it, when it begins, when the time that
# it speaks for begins and ends, when it ends, and how many frames begin before each of these four.
PLACE_VALUES = 9
# A shot that is shorter shows nothing that a model could name, and a video may have many of them.
SHORTEST_SHOT_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class PassagePlan:
    """Which windows to make of a video, in seconds after its first frame is shown.

    Attributes:
        frames, size: T frames of size x size pixels in each window.
        short_side, framing: as in :class:`video.facts.ViewPlan`.
        start: when the first window begins.
        window: seconds of a window, over which its frames are spread evenly.
        stride: from the beginning of one window to that of the next in the same shot.
        windows: how many, at most.
        since: when the window before these began, if it lies in the same shot; None where a shot
            begins with ``start``.
        until: when the part of the video that is wanted ends; None for its own end.
        cuts: whether hard cuts part shots, so that no window has one inside.
        zero: the time stamp of the first frame shown, on the stream's own clock; None if that is
            to be found out.
    """

    frames: int
    size: int
    short_side: int
    framing: Framing
    start: float
    window: float
    stride: float
    windows: int
    since: float | None = None
    until: float | None = None
    cuts: bool = True
    zero: float | None = None

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        sampling: Sampling,
        *,
        start: float,
        window: float,
        stride: float,
        windows: int,
        since: float | None,
        until: float | None,
        cuts: bool,
        zero: float | None,
    ) -> "PassagePlan":
        """The windows that a bundle takes."""
        return cls(
            frames=geometry.frames,
            size=geometry.size,
            short_side=sampling.short_side,
            framing=sampling.framing,
            start=start,
            window=window,
            stride=stride,
            windows=windows,
            since=since,
            until=until,
            cuts=cuts,
            zero=zero,
        )

    @property
    def origin(self) -> float:
        """From when on frames are counted, and how far back a window may reach: the last one of a
        shot ends with it, wherever that leaves its beginning."""
        return self.start if self.since is None else self.since

    @property
    def clear(self) -> float:
        """Until when it is known that no shot ends."""
        return self.start if self.since is None else self.since + self.window

    @property
    def reach(self) -> float:
        """Seconds on each side of a window's middle that it speaks for."""
        return min(self.stride, self.window) / 2

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """[W, T, H, W, 3]."""
        return self.windows, self.frames, self.size, self.size, 3

    @property
    def places_shape(self) -> tuple[int, int]:
        """[W, 9]: see ``PLACE_VALUES``."""
        return self.windows, PLACE_VALUES

    @property
    def places_bytes(self) -> int:
        """Of these numbers as float64, which come before the pixels in one block."""
        return 8 * math.prod(self.places_shape)

    @property
    def block_bytes(self) -> int:
        """Of numbers and pixels together."""
        return self.places_bytes + math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class PassageFacts:
    """What was found out about a passage.

    Attributes:
        codec, width, height: as in :class:`video.facts.ClipFacts`.
        zero: the time stamp of the video's first frame shown.
        windows: how many were made.
        shots: how many ended in the passage.
        following: when the next passage's first window begins.
        frames: that begin between the passage's origin and where decoding ended.
        end: when the video, or the part of it that is wanted, ends, in seconds after its first
            frame is shown; None while it goes on.
        said_seconds: how long the header says the video is; 0 where it does not.
        rate: frames per second as the header has it; 0 where it does not say.
        lost: how often no frame came of a packet.
    """

    codec: Word
    width: _Side
    height: _Side
    zero: _Stamp
    windows: _Count
    shots: _Count
    following: _Seconds
    frames: _Count
    end: _Seconds | None
    said_seconds: _Seconds
    rate: Annotated[float, Interval(ge=0.0, le=1e9)]
    lost: _Count
