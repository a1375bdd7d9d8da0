"""Decoded frames to views: which part of the picture, and at which size.

A part is cut out of the decoded frame first and resized second. Resizing the whole frame first
would cost what its longer side asks for: a frame of 8192x2 pixels would become 524,288x128.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bundle.sampling import Framing, spatial_choices
from video.places import Box, padded_box, view_boxes


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame as it is to be shown, upright.

    Attributes:
        pixels: uint8 [1, 3, H, W].
        stretch: how many display pixels (high, wide) one of these pixels is. Pixels that are not
            square stay as they were decoded until a part is cut out.
        time: its own time stamp, in seconds after that of the first frame shown.
    """

    pixels: Tensor
    stretch: tuple[float, float] = (1.0, 1.0)
    time: float = 0.0

    @property
    def height(self) -> int:
        """Rows of the display."""
        return max(1, round(self.pixels.shape[-2] * self.stretch[0]))

    @property
    def width(self) -> int:
        """Columns of the display."""
        return max(1, round(self.pixels.shape[-1] * self.stretch[1]))


def cut(frame: Frame, box: Box, size: int) -> Tensor:
    """The part in the box, squeezed into a square: uint8 [3, size, size]."""
    rows, columns = frame.pixels.shape[-2:]
    (top, bottom), (left, right) = box.part(rows, columns, frame.stretch)
    return resize(frame.pixels[:, :, top:bottom, left:right], size, size)[0]


def cut_views(
    frame: Frame, size: int, short_side: int, spatial_views: int, framing: Framing = "crop"
) -> Tensor:
    """The views of one frame: uint8 [S, size, size, 3], on the device of the frame.

    Args:
        frame: the picture.
        size: side of a view in pixels.
        short_side: as in :func:`video.places.view_boxes`; of no meaning where the whole picture is
            shown.
        spatial_views: 1 or 3; a whole picture is one view.
        framing: ``crop`` shows squares of the picture; ``squash`` squeezes all of it into a square,
            ``pad`` keeps its shape and puts black bars beside it.

    Raises:
        ValueError: as :func:`video.places.view_boxes`, and for several views of a whole picture.
    """
    if spatial_views not in (allowed := spatial_choices(framing)):
        raise ValueError(
            f"spatial views are {' or '.join(map(str, allowed))} where framing is {framing}, got "
            f"{spatial_views}"
        )
    if framing == "crop":
        boxes = view_boxes(frame.height, frame.width, size, short_side, spatial_views)
        return torch.stack([cut(frame, box, size).permute(1, 2, 0) for box in boxes])
    whole = resize(frame.pixels, size, size) if framing == "squash" else _padded(frame, size)
    return whole.permute(0, 2, 3, 1)


def _padded(frame: Frame, size: int) -> Tensor:
    """All of a picture in the middle of a black square: uint8 [1, 3, size, size]."""
    top, left, height, width = padded_box(frame.height, frame.width, size)
    square = frame.pixels.new_zeros((1, 3, size, size))
    square[:, :, top : top + height, left : left + width] = resize(frame.pixels, height, width)
    return square


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
