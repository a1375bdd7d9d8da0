"""What is asked of a part of a long video, and what was found in it: plain values, without torch.

A long video is gone through forwards, a passage at a time. A passage has windows at even distances,
and each window is a view of the model.
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


@dataclass(frozen=True, slots=True)
class PassagePlan:
    """Which windows to make of a video, in seconds after its first frame is shown.

    Attributes:
        frames, size: T frames of size x size pixels in each window.
        short_side, framing: as in :class:`video.facts.ViewPlan`.
        start: when the first window begins.
        window: seconds of a window, over which its frames are spread evenly.
        stride: from the beginning of one window to that of the next.
        windows: how many, at most: those that the video ends in are not made.
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
            zero=zero,
        )

    @property
    def end(self) -> float:
        """When the next passage's first window begins."""
        return self.start + self.windows * self.stride

    def begin_of(self, window: int) -> float:
        """When a window begins."""
        return self.start + window * self.stride

    def cell_of(self, window: int) -> tuple[float, float]:
        """The time that is nearer to a window's middle than to those of its neighbours, and no
        longer than the window."""
        middle = self.begin_of(window) + self.window / 2
        reach = min(self.stride, self.window) / 2
        return middle - reach, middle + reach

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """[W, T, H, W, 3]."""
        return self.windows, self.frames, self.size, self.size, 3

    def edges_of(self, window: int) -> tuple[float, float, float, float]:
        """When a window begins, when its cell begins and ends, and when it ends."""
        begin = self.begin_of(window)
        return (begin, *self.cell_of(window), begin + self.window)

    @property
    def marks_shape(self) -> tuple[int, int]:
        """[W, 4]: how many of the passage's frames begin before each of a window's edges."""
        return self.windows, len(self.edges_of(0))

    @property
    def marks_bytes(self) -> int:
        """Of these numbers as float64, which come before the pixels in one block."""
        return 8 * math.prod(self.marks_shape)

    @property
    def block_bytes(self) -> int:
        """Of numbers and pixels together."""
        return self.marks_bytes + math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class PassageFacts:
    """What was found out about a passage.

    Attributes:
        codec, width, height: as in :class:`video.facts.ClipFacts`.
        zero: the time stamp of the video's first frame shown.
        windows: how many were made.
        frames: that begin in the passage, up to the next one's beginning or the video's end.
        end: when the video ends, in seconds after its first frame is shown; None while it goes on.
        said_seconds: how long the header says the video is; 0 where it does not.
        rate: frames per second as the header has it; 0 where it does not say.
        lost: how often no frame came of a packet.
    """

    codec: Word
    width: _Side
    height: _Side
    zero: _Stamp
    windows: _Count
    frames: _Count
    end: _Seconds | None
    said_seconds: _Seconds
    rate: Annotated[float, Interval(ge=0.0, le=1e9)]
    lost: _Count
