"""What happens to the pixels of a view between decoding and the two graphs, on numpy.

Everything is uint8: normalisation lives inside the graphs, so that geometry is all there is.
"""

import numpy as np
from numpy.typing import NDArray


def downscale(frames: NDArray[np.uint8], time: int = 2, space: int = 2) -> NDArray[np.uint8]:
    """Make a clip smaller by averaging blocks of it: the selector's view of a clip.

    Args:
        frames: uint8 [B, T, H, W, 3]; T a multiple of ``time``, H and W of ``space``.
        time, space: 1 or 2: how many frames, and how many rows and columns, become one.

    Returns:
        uint8 [B, T/time, H/space, W/space, 3], rounded half up; the frames themselves where both
        are 1.

    Raises:
        ValueError: another shape, dtype or factor.

    Source: "2x in each dimension" is the paper's; the plain mean is our choice, because it is the
    antialiased 2x reduction and exact in integers.
    """
    if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 [B, T, H, W, 3], got {frames.dtype} {frames.shape}")
    if time not in (1, 2) or space not in (1, 2):
        raise ValueError(f"time and space are made 1 or 2 times smaller, got {time} and {space}")
    T, H, W = frames.shape[1:4]
    if T % time or H % space or W % space:
        raise ValueError(f"frames, height and width must be even, got {T}, {H}, {W}")
    if time == space == 1:
        return frames
    total = frames.astype(np.uint16) if time == 1 else frames[:, 0::2].astype(np.uint16)
    shift = 0
    if time == 2:
        total, shift = total + frames[:, 1::2], 1
    if space == 2:
        total = total[:, :, 0::2] + total[:, :, 1::2]
        total = total[:, :, :, 0::2] + total[:, :, :, 1::2]
        shift += 2
    return ((total + (1 << shift >> 1)) >> shift).astype(np.uint8)


def gather_patches(
    frames: NDArray[np.uint8], positions: NDArray[np.int64], patch: int, tubelet: int = 1
) -> NDArray[np.uint8]:
    """Cut the kept tokens' pixels out of the full-resolution views.

    Args:
        frames: uint8 [B, T, H, W, 3].
        positions: int64 [B, K], token positions: time-major, then row, then column.
        patch: side of a token in pixels; H and W are multiples of it.
        tubelet: frames of a token; T is a multiple of it.

    Returns:
        uint8 [B, K, tubelet * patch * patch * 3], each token's pixels in the order of frame, row,
        column and channel.

    Raises:
        ValueError: shapes that do not fit, or a position outside the grid.
    """
    if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 [B, T, H, W, 3], got {frames.dtype} {frames.shape}")
    B, T, H, W, C = frames.shape
    if H % patch or W % patch:
        raise ValueError(f"{H}x{W} pixels do not divide into patches of {patch}")
    if T % tubelet:
        raise ValueError(f"{T} frames do not divide into tubelets of {tubelet}")
    if positions.ndim != 2 or positions.shape[0] != B:
        raise ValueError(f"positions must be [{B}, K], got {positions.shape}")
    steps, rows, columns = T // tubelet, H // patch, W // patch
    if positions.size and not (positions.min() >= 0 and positions.max() < steps * rows * columns):
        raise ValueError(f"positions must lie in [0, {steps * rows * columns})")
    grid = frames.reshape(B, steps, tubelet, rows, patch, columns, patch, C)
    grid = grid.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    step, cell = np.divmod(positions, rows * columns)
    row, column = np.divmod(cell, columns)
    # `grid` is a strided view of the frames: only the kept tokens are ever copied.
    kept = grid[np.arange(B)[:, None], step, row, column]
    return np.ascontiguousarray(kept).reshape(B, positions.shape[1], tubelet * patch * patch * C)
