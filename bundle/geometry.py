"""What happens to the pixels of a view between decoding and the two graphs, on numpy.

Everything is uint8: normalisation lives inside the graphs, so that geometry is all there is.
"""

import numpy as np
from numpy.typing import NDArray


def downscale(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve time, height and width by averaging 2x2x2 blocks: the selector's view of a clip.

    Args:
        frames: uint8 [B, T, H, W, 3]; T, H and W even.

    Returns:
        uint8 [B, T/2, H/2, W/2, 3], rounded half up.

    Raises:
        ValueError: another shape or dtype.

    Source: "2x in each dimension" is the paper's; the plain mean is our choice, because it is the
    antialiased 2x reduction and exact in integers.
    """
    if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 [B, T, H, W, 3], got {frames.dtype} {frames.shape}")
    T, H, W = frames.shape[1:4]
    if T % 2 or H % 2 or W % 2:
        raise ValueError(f"frames, height and width must be even, got {T}, {H}, {W}")
    total = frames[:, 0::2].astype(np.uint16) + frames[:, 1::2]
    total = total[:, :, 0::2] + total[:, :, 1::2]
    total = total[:, :, :, 0::2] + total[:, :, :, 1::2]
    return ((total + 4) >> 3).astype(np.uint8)


def gather_patches(
    frames: NDArray[np.uint8], positions: NDArray[np.int64], patch: int
) -> NDArray[np.uint8]:
    """Cut the kept tokens' pixels out of the full-resolution views.

    Args:
        frames: uint8 [B, T, H, W, 3].
        positions: int64 [B, K], token positions: frame-major, then row, then column.
        patch: side of a token in pixels; H and W are multiples of it.

    Returns:
        uint8 [B, K, patch * patch * 3], each token's pixels in row, column, channel order.

    Raises:
        ValueError: shapes that do not fit, or a position outside the grid.
    """
    if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 [B, T, H, W, 3], got {frames.dtype} {frames.shape}")
    B, T, H, W, C = frames.shape
    if H % patch or W % patch:
        raise ValueError(f"{H}x{W} pixels do not divide into patches of {patch}")
    if positions.ndim != 2 or positions.shape[0] != B:
        raise ValueError(f"positions must be [{B}, K], got {positions.shape}")
    rows, columns = H // patch, W // patch
    if positions.size and not (positions.min() >= 0 and positions.max() < T * rows * columns):
        raise ValueError(f"positions must lie in [0, {T * rows * columns})")
    grid = frames.reshape(B, T, rows, patch, columns, patch, C).transpose(0, 1, 2, 4, 3, 5, 6)
    frame, cell = np.divmod(positions, rows * columns)
    row, column = np.divmod(cell, columns)
    # `grid` is a strided view of the frames: only the kept tokens are ever copied.
    kept = grid[np.arange(B)[:, None], frame, row, column]
    return np.ascontiguousarray(kept).reshape(B, positions.shape[1], patch * patch * C)
