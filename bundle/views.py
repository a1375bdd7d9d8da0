"""Decoded frames to views: resize of the short side and crops.

The only module of :mod:`bundle` that imports torch: decode workers and training use it, the
serving process never does.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from bundle.sampling import SPATIAL_VIEWS


def resized_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return (height, width) scaled so that the shorter one is ``short_side``, both at least that.

    Raises:
        ValueError: a side below 1 pixel.
    """
    if min(height, width, short_side) < 1:
        raise ValueError(f"sides must be at least 1 pixel, got {height}x{width} to {short_side}")
    scale = short_side / min(height, width)
    return max(short_side, round(height * scale)), max(short_side, round(width * scale))


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bilinear resize, uint8 in and out.

    Args:
        frames: uint8 [F, 3, H, W].
        height, width: the new size in pixels.

    Returns:
        uint8 [F, 3, height, width].
    """
    if frames.shape[-2:] == (height, width):
        return frames
    if frames.is_cuda:  # torch resizes no whole numbers there
        return resize_in_floats(frames, height, width)
    return F.interpolate(frames, size=(height, width), mode="bilinear", antialias=True)


def resize_in_floats(frames: Tensor, height: int, width: int) -> Tensor:
    """As :func:`resize`, at most one level apart from it, on whatever device."""
    resized = F.interpolate(frames.float(), (height, width), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def crop(frames: Tensor, size: int, spatial_views: int) -> Tensor:
    """Cut square views along the longer side: the centre, or both ends and the centre.

    Args:
        frames: uint8 [F, 3, h, w], both sides at least ``size``.
        size: side of a view in pixels.
        spatial_views: 1 or 3.

    Returns:
        uint8 [S, F, size, size, 3], contiguous, from left (or top) to right (or bottom).

    Raises:
        ValueError: frames smaller than a view, or another number of crops.
    """
    if spatial_views not in SPATIAL_VIEWS:
        raise ValueError(f"spatial views are 1 or 3, got {spatial_views}")
    height, width = frames.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"frames of {height}x{width} are smaller than a view of {size}")
    spare_rows, spare_columns = height - size, width - size
    shares = (0.5,) if spatial_views == 1 else (0.0, 0.5, 1.0)
    views = []
    for share in shares:
        # Only the longer side is travelled; the shorter one stays centred.
        along_rows = spare_rows > spare_columns
        top = round(spare_rows * (share if along_rows else 0.5))
        left = round(spare_columns * (0.5 if along_rows else share))
        views.append(frames[:, :, top : top + size, left : left + size].permute(0, 2, 3, 1))
    return torch.stack(views).contiguous()
