"""What is said of a long video while it is gone through."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.decoding.containers import Container
from service.pipeline.segments import Segment
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


@dataclass(frozen=True, slots=True)
class Done:
    """The video is over."""

    tally: Tally


Event = Begun | CutFound | WindowFound | SegmentFound | WindowsLost | Done
