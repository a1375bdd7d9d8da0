"""What is said of a long video while it is gone through."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.decoding.containers import Container
from service.pipeline.live_events import Change
from service.pipeline.segments import Segment
from video.live_facts import StreamBegun
from video.passages import PassageFacts


@dataclass(frozen=True, slots=True)
class Begun:
    """The first passage was decoded."""

    container: Container
    file_bytes: int
    facts: PassageFacts
    window_seconds: float
    stride_seconds: float
    thresholds: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CutFound:
    """A shot begins from one frame to the next; ``frame`` is its first, counted from 0."""

    start: float
    frame: int


@dataclass(frozen=True, slots=True)
class WindowFound:
    """A window was looked at."""

    start: float
    end: float
    scores: NDArray[np.float64]
    unknown: bool | None
    sparsity: float
    tokens: int


@dataclass(frozen=True, slots=True)
class SegmentFound:
    """A segment has ended."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class WindowsLost:
    """A worker died of these windows, or took too long: ``code`` is the problem's."""

    start: float
    end: float
    windows: int
    code: str


@dataclass(frozen=True, slots=True)
class Connected:
    """A stream's first frame came, for the first time or again.

    Attributes:
        seconds: when, after the first frame of all.
    """

    shown: str
    facts: StreamBegun
    seconds: float
    window_seconds: float
    stride_seconds: float


@dataclass(frozen=True, slots=True)
class Changed:
    """A label began or ended; ``latency_seconds`` are since the frame came with which it did."""

    change: Change
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What could not be decoded or looked at in time, since it was said last."""

    seconds: float
    frames: int
    windows: int


@dataclass(frozen=True, slots=True)
class Broke:
    """A stream broke; ``retry_seconds`` until it is connected to again."""

    seconds: float
    why: str
    retry_seconds: float


@dataclass(slots=True)
class Tally:
    """All of it, counted."""

    windows: int = 0
    skipped_windows: int = 0
    lost_windows: int = 0
    lost_packets: int = 0
    segments: int = 0
    cuts: int = 0
    tokens: int = 0
    macs: int = 0
    seconds: float = 0.0
    frames: int = 0
    frames_estimated: bool = False
    dropped_frames: int = 0
    breaks: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The video is over, or the stream; ``why`` says of a stream what ended it."""

    tally: Tally
    why: str = ""


Event = Begun | CutFound | WindowFound | SegmentFound | WindowsLost | Done
LiveEvent = Connected | Changed | CutFound | WindowFound | SegmentFound | LeftOut | Broke | Done
