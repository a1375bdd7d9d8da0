"""A selection target from pixels alone: it needs no teacher."""

import cv2
import numpy as np
from numpy.typing import NDArray


def pixel_change(frames: NDArray[np.uint8], patch: int) -> NDArray[np.float32]:
    """Score each token by how much its pixels change over time, camera motion taken out.

    Successive frames are aligned by the one shift that fits them best (phase correlation), so that
    a shaking camera does not light the whole picture up; what still differs, averaged over the
    patch, is the score. A token takes the larger of its differences to the frame before and to
    the frame after.

    Args:
        frames: uint8 [T, H, W, 3].
        patch: side of a token in pixels, even.

    Returns:
        float32 [N], mean absolute difference of grey values on a 0-1 scale, frame-major.

    Source: our choice, because it needs no teacher; the paper's target is the distance to the
    nearest neighbour in an image teacher's feature space.
    """
    T, H, W, _ = frames.shape
    # Half resolution: enough to see change, and it averages sensor noise out.
    grey = [_half_grey(frame) for frame in frames]
    window = np.asarray(cv2.createHanningWindow((W // 2, H // 2), cv2.CV_32F), np.float32)
    rows, columns = H // patch, W // patch
    change = np.zeros((T, rows, columns), np.float32)
    for t in range(1, T):
        before, after = _aligned(grey[t - 1], grey[t], window)
        # Lighting that drifts over the whole picture is no motion either.
        difference = np.abs((after - np.median(after)) - (before - np.median(before)))
        score = cv2.resize(difference, (columns, rows), interpolation=cv2.INTER_AREA)
        np.maximum(change[t - 1], score, out=change[t - 1])
        np.maximum(change[t], score, out=change[t])
    return change.reshape(-1)


def _half_grey(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(half, np.float32) / np.float32(255)


def _aligned(
    before: NDArray[np.float32], after: NDArray[np.float32], window: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Move ``before`` onto ``after`` by the best shift, where that makes them more alike."""
    # OpenCV applies the window to its inputs in place, so it gets copies.
    (dx, dy), _ = cv2.phaseCorrelate(before.copy(), after.copy(), window)
    height, width = before.shape
    # A shift of a quarter of the picture is a failed match, not a shaking camera.
    if abs(dx) > width / 4 or abs(dy) > height / 4:
        return before, after
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    moved = np.asarray(
        cv2.warpAffine(before, move, (width, height), borderMode=cv2.BORDER_REPLICATE), np.float32
    )
    better = np.median(np.abs(after - moved)) < np.median(np.abs(after - before))
    return (moved if better else before), after
