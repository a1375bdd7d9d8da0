"""Which frames of a clip make a view, and how many views there are."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SPATIAL_VIEWS = (1, 3)

# Frames spread over all of a clip, or windows of frames that follow each other closely.
SamplingKind = Literal["uniform", "dense"]
# A square cut out of the picture, or the whole of it: squeezed into a square, or with black bars.
Framing = Literal["crop", "squash", "pad"]


def spatial_choices(framing: Framing) -> tuple[int, ...]:
    """How many spatial views there may be: of a whole picture there is only one."""
    return SPATIAL_VIEWS if framing == "crop" else (1,)


@dataclass(frozen=True, slots=True)
class Views:
    """Temporal times spatial views of one clip, written ``4x3``.

    Spatial is 1 (the centre crop) or 3 (crops along the long side), as in InternVideo2's test
    protocol: 4x3 for Kinetics-400, 2x3 for Something-Something V2.
    """

    temporal: int
    spatial: int

    def __post_init__(self) -> None:
        if self.temporal < 1:
            raise ValueError(f"views need at least one temporal view, got {self.temporal}")
        if self.spatial not in SPATIAL_VIEWS:
            raise ValueError(f"spatial views are 1 or 3, got {self.spatial}")

    @classmethod
    def parse(cls, text: str) -> "Views":
        """Read ``TxS``, for instance ``1x1`` or ``4x3``; ValueError says what is wrong."""
        match = re.fullmatch(r"([0-9]{1,3})x([0-9]{1,3})", text, flags=re.ASCII)
        if match is None:
            raise ValueError(
                f"views are written TEMPORALxSPATIAL, such as 1x1 or 4x3, got {text!r}"
            )
        return cls(temporal=int(match[1]), spatial=int(match[2]))

    @property
    def count(self) -> int:
        return self.temporal * self.spatial

    def __str__(self) -> str:
        return f"{self.temporal}x{self.spatial}"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a clip in seconds after the first frame shown; without an end, to the clip's."""

    start: float = 0.0
    end: float | None = None

    def within(self, seconds: float) -> tuple[float, float]:
        """Its beginning and its end in a clip of that length."""
        return self.start, seconds if self.end is None else min(self.end, seconds)


WHOLE = Span()


def frame_indices(frames: int, view_frames: int, temporal_views: int) -> NDArray[np.int64]:
    """Uniform sparse sampling: each view takes one frame from each of ``view_frames`` segments.

    The clip is cut into equal segments; view c reads each segment at (c + 1) / (views + 1) of its
    length, so that a single view reads the middles. A clip with fewer frames than a view repeats
    frames in order.

    Args:
        frames: decodable frames of the clip, at least 1.
        view_frames: T, frames of one view.
        temporal_views: views spread over time, at least 1.

    Returns:
        int64 [temporal_views, view_frames], ascending within a view, each in [0, frames).

    Raises:
        ValueError: any argument below 1.

    Source: InternVideo2's test protocol.
    """
    if min(frames, view_frames, temporal_views) < 1:
        raise ValueError(
            f"frames, view_frames and temporal_views must be at least 1, "
            f"got {frames}, {view_frames}, {temporal_views}"
        )
    segment = frames / view_frames
    starts = np.arange(view_frames, dtype=np.float64) * segment
    shifts = np.arange(1, temporal_views + 1, dtype=np.float64) * segment / (temporal_views + 1)
    indices = np.floor(starts[None, :] + shifts[:, None]).astype(np.int64)
    return np.minimum(indices, frames - 1)


def frame_shares(view_frames: int, temporal_views: int) -> NDArray[np.float64]:
    """Uniform sparse sampling by time: :func:`frame_indices` for frames that have time stamps.

    Args:
        view_frames: T, frames of one view.
        temporal_views: views spread over time, at least 1.

    Returns:
        float64 [temporal_views, view_frames], ascending within a view, each the share of the clip's
        duration, within (0, 1), at which a frame is taken.

    Raises:
        ValueError: any argument below 1.
    """
    if min(view_frames, temporal_views) < 1:
        raise ValueError(
            "view_frames and temporal_views must be at least 1, "
            f"got {view_frames}, {temporal_views}"
        )
    starts = np.arange(view_frames, dtype=np.float64)
    shifts = np.arange(1, temporal_views + 1, dtype=np.float64) / (temporal_views + 1)
    return (starts[None, :] + shifts[:, None]) / view_frames


def dense_indices(
    frames: int, view_frames: int, stride: int, temporal_views: int
) -> NDArray[np.int64]:
    """Dense sampling: a view is a window of frames that are ``stride`` apart.

    A single view is the middle of the clip; several begin at even distances, the first with the
    clip and the last so that it ends with it. A clip shorter than a window holds its last frame.

    Args:
        frames: frames of the clip, at least 1.
        view_frames: T, frames of one view.
        stride: source frames from one frame of the view to the next.
        temporal_views: windows, at least 1.

    Returns:
        int64 [temporal_views, view_frames], ascending within a view, each in [0, frames).

    Raises:
        ValueError: any argument below 1.

    Source: the test protocols of VideoMAE and V-JEPA 2, which spread 5, 2 or 8 windows so; that a
    single one is the middle is our choice, because the ends of a clip tell least of it.
    """
    if min(frames, view_frames, stride, temporal_views) < 1:
        raise ValueError(
            "frames, view_frames, stride and temporal_views must be at least 1, "
            f"got {frames}, {view_frames}, {stride}, {temporal_views}"
        )
    room = max(0, frames - ((view_frames - 1) * stride + 1))
    shares = np.linspace(0.0, 1.0, temporal_views) if temporal_views > 1 else np.array([0.5])
    starts = np.floor(shares * room).astype(np.int64)
    steps = np.arange(view_frames, dtype=np.int64) * stride
    indices: NDArray[np.int64] = np.minimum(starts[:, None] + steps[None, :], frames - 1)
    return indices


def dense_shares(
    frames: int, view_frames: int, stride: int, temporal_views: int
) -> NDArray[np.float64]:
    """Dense sampling by time: :func:`dense_indices` for frames that have time stamps.

    Where frames follow each other evenly, each is met in the middle of the time that it is shown;
    where they do not, a view's frames are ``stride`` times the mean distance of two frames apart.

    Args:
        frames, view_frames, stride, temporal_views: as in :func:`dense_indices`.

    Returns:
        float64 [temporal_views, view_frames], ascending within a view, each the share of the clip's
        duration, within (0, 1), at which a frame is taken.

    Raises:
        ValueError: any argument below 1.
    """
    return (dense_indices(frames, view_frames, stride, temporal_views) + 0.5) / frames
