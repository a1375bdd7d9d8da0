"""What is asked of a clip, what it may be, and what was found out about it: plain values."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from annotated_types import Interval, Predicate

# What decoded a clip: FFmpeg on the CPU, or an NVIDIA GPU's video engine.
Decoder = Literal["ffmpeg", "nvdec"]
DECODERS: tuple[Decoder, ...] = get_args(Decoder)

# No clock of any container ticks faster than in nanoseconds.
MOST_FPS = 1e9

# What libraries call a codec or a version of theirs: it may stand in a log, a header and a label.
Word = Annotated[str, Predicate(re.compile(r"[A-Za-z0-9_.+~:-]{1,64}").fullmatch)]
_Count = Annotated[int, Interval(ge=0, le=1 << 31)]
_Positive = Annotated[int, Interval(ge=1, le=1 << 31)]


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """What a clip may be; see the settings of the same names."""

    max_streams: int
    max_frame_pixels: int
    max_clip_seconds: float
    max_clip_frames: int
    max_frames_per_second: float
    max_decoded_pixels: int


# For clips of one's own, such as those of a training set.
NO_LIMITS = ClipLimits(1 << 30, 1 << 40, 1e12, 1 << 40, 1e12, 1 << 60)


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """Which views to make of a clip."""

    temporal: int
    spatial: int
    frames: int
    size: int
    short_side: int

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """[V, T, H, W, 3]; views are temporal-major, then spatial."""
        return self.temporal * self.spatial, self.frames, self.size, self.size, 3


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What the decoder found out about a clip.

    width, height: pixels as a player shows them: turned, mirrored, and with square pixels.
    fps: at most ``MOST_FPS``; 0 when the clip does not say how long it is.
    rotation_degrees: by how much the stored frames were turned counter-clockwise.
    mirrored: whether they were mirrored left-right after that.
    substituted_frames: sampled frames that could not be decoded and were replaced by others.
    """

    codec: Word
    width: _Positive
    height: _Positive
    frames: _Positive
    fps: Annotated[float, Interval(ge=0.0, le=MOST_FPS)]
    duration_seconds: Annotated[float, Interval(ge=0.0, le=1e9)]
    rotation_degrees: Annotated[int, Interval(ge=0, le=359)]
    mirrored: bool
    substituted_frames: _Count
    decoder: Decoder
