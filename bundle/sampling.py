"""Which frames of a clip make a view, and how many views there are."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPATIAL_VIEWS = (1, 3)


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
