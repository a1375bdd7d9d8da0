"""What is asked of a clip, what it may be, and what was found out about it: plain values."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from annotated_types import Interval, Predicate
from numpy.typing import NDArray

from bundle.sampling import WHOLE, Framing, Span, Views, dense_shares, frame_shares
from bundle.schema import Geometry, Sampling

# What decoded a clip: FFmpeg on the CPU, or an NVIDIA GPU's video engine.
Decoder = Literal["ffmpeg", "nvdec"]
DECODERS: tuple[Decoder, ...] = get_args(Decoder)

# What a picture or a video of what was kept may be.
PictureFormat = Literal["png", "jpeg"]

# No clock of any container ticks faster than in nanoseconds.
MOST_FPS = 1e9

# What libraries call a codec or a version of theirs: it may stand in a log, a header and a label.
Word = Annotated[str, Predicate(re.compile(r"[A-Za-z0-9_.+~:-]{1,64}").fullmatch)]
_Count = Annotated[int, Interval(ge=0, le=1 << 31)]
_Positive = Annotated[int, Interval(ge=1, le=1 << 31)]
# An aspect is a fraction of two whole numbers of 32 bits.
_Stretch = Annotated[float, Interval(gt=0.0, le=float(1 << 32))]


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
    """Which views to make of a clip.

    Attributes:
        temporal, spatial: how many views.
        frames, size: T frames of size x size pixels each.
        short_side: pixels of the picture's shorter side before a crop is cut out of it.
        stride: None spreads a view's frames over all of the clip; else source frames from one frame
            of a view to the next.
        framing: which part of the picture a view shows.
        start: seconds after the first frame shown from which on frames are taken,
        end: and until when; None is the clip's own end.
    """

    temporal: int
    spatial: int
    frames: int
    size: int
    short_side: int
    stride: int | None = None
    framing: Framing = "crop"
    start: float = 0.0
    end: float | None = None

    @classmethod
    def of(
        cls, geometry: Geometry, sampling: Sampling, views: Views, span: Span = WHOLE
    ) -> "ViewPlan":
        """The views that a bundle takes of a part of a clip."""
        return cls(
            temporal=views.temporal,
            spatial=views.spatial,
            frames=geometry.frames,
            size=geometry.size,
            short_side=sampling.short_side,
            stride=sampling.stride,
            framing=sampling.framing,
            start=span.start,
            end=span.end,
        )

    def span(self, seconds: float) -> tuple[float, float]:
        """The beginning and the end of what is looked at in a clip of that length."""
        return Span(self.start, self.end).within(seconds)

    def shares(self, clip_frames: int) -> NDArray[np.float64]:
        """When the frames are taken: shares of what is looked at, float64 [temporal, T].

        Args:
            clip_frames: how many frames that has.
        """
        if self.stride is None:
            return frame_shares(self.frames, self.temporal)
        return dense_shares(clip_frames, self.frames, self.stride, self.temporal)

    def moments(self, clip_frames: int, seconds: float) -> NDArray[np.float64]:
        """When the frames are taken, in seconds after the first frame shown, [temporal, T].

        Args:
            clip_frames: how many frames the clip has.
            seconds: how long it lasts.
        """
        start, end = self.span(seconds)
        share = (end - start) / seconds if seconds > 0 else 1.0
        return start + self.shares(max(1, round(share * clip_frames))) * (end - start)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """[V, T, H, W, 3]; views are temporal-major, then spatial."""
        return self.temporal * self.spatial, self.frames, self.size, self.size, 3

    @property
    def times_shape(self) -> tuple[int, int]:
        """[temporal views, T]: each sampled frame's own time stamp, in seconds."""
        return self.temporal, self.frames

    @property
    def times_bytes(self) -> int:
        """Of the time stamps as float64, which come before the pixels where both are one block."""
        return 8 * self.temporal * self.frames

    @property
    def block_bytes(self) -> int:
        """Of time stamps and pixels together."""
        return self.times_bytes + math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What the decoder found out about a clip.

    width, height: pixels as a player shows them: turned, mirrored, and with square pixels.
    fps: at most ``MOST_FPS``; 0 when the clip does not say how long it is.
    rotation_degrees: by how much the stored frames were turned counter-clockwise.
    mirrored: whether they were mirrored left-right after that.
    substituted_frames: sampled frames that could not be decoded and were replaced by others.
    stored_width, stored_height: pixels of a decoded frame, turned.
    stretch_x, stretch_y: display pixels that one of these is wide and high.
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
    stored_width: _Positive
    stored_height: _Positive
    stretch_x: _Stretch
    stretch_y: _Stretch

    @property
    def stretch(self) -> tuple[float, float]:
        """Display pixels (high, wide) of a decoded one."""
        return self.stretch_y, self.stretch_x
