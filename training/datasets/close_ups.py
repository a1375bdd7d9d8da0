"""The part of a picture in which a clip changes most."""

import numpy as np
from numpy.typing import NDArray

from training.targets.pixels import pixel_change
from video.places import Box


def close_up_box(
    frames: NDArray[np.uint8],
    cell: int,
    height: int,
    width: int,
    side: tuple[float, float],
    rng: np.random.Generator,
) -> Box:
    """A square around where a clip changes most.

    Args:
        frames: uint8 [T, size, size, 3], all of the clip's picture, however squeezed.
        cell: side of the squares of that in which change is looked for, even, in pixels.
        height, width: of the picture that the box is for, in pixels.
        side: least and most of the picture's short side that the box covers.

    Its centre is the mean place of the twentieth of the cells that change most, off by up to a
    sixth of its side, and it lies within the picture.
    """
    length = max(1, round(rng.uniform(*side) * min(height, width)))
    cells = frames.shape[1] // cell
    change = pixel_change(frames, cell).reshape(len(frames), cells, cells)
    weight = np.maximum(change - np.quantile(change, 0.95), 0).sum(axis=0) + 1e-9
    middles = (np.arange(cells) + 0.5) / cells
    y = float((weight.sum(axis=1) * middles).sum() / weight.sum()) * height
    x = float((weight.sum(axis=0) * middles).sum() / weight.sum()) * width
    top, left = (
        min(max(round(centre + rng.uniform(-1, 1) * length / 6 - length / 2), 0), room - length)
        for centre, room in ((y, height), (x, width))
    )
    return Box(top, left, length, length)
