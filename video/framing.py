"""Decoded frames to views: which part of the picture, and at which size.

A part is cut out of the decoded frame first and resized second. Resizing the whole frame first
would cost what its longer side asks for: a frame of 8192x2 pixels would become 524,288x128.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bundle.sampling import SPATIAL_VIEWS, Framing, spatial_choices


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame as it is to be shown, upright.

    Attributes:
        pixels: uint8 [1, 3, H, W].
        stretch: how many display pixels (high, wide) one of these pixels is. Pixels that are not
            square stay as they were decoded until a part is cut out.
    """

    pixels: Tensor
    stretch: tuple[float, float] = (1.0, 1.0)

    @property
    def height(self) -> int:
        """Rows of the display."""
        return max(1, round(self.pixels.shape[-2] * self.stretch[0]))

    @property
    def width(self) -> int:
        """Columns of the display."""
        return max(1, round(self.pixels.shape[-1] * self.stretch[1]))


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in display pixels, which need not be whole."""

    top: float
    left: float
    height: float
    width: float

    def cut(self, frame: Frame, size: int) -> Tensor:
        """The part, squeezed into a square: uint8 [3, size, size].

        Its edges are rounded to whole decoded pixels, and it is one pixel at the least.
        """
        rows, columns = frame.pixels.shape[-2:]
        top, bottom = _span(self.top, self.height, frame.stretch[0], rows)
        left, right = _span(self.left, self.width, frame.stretch[1], columns)
        return resize(frame.pixels[:, :, top:bottom, left:right], size, size)[0]


def _span(start: float, length: float, stretch: float, room: int) -> tuple[int, int]:
    """Display pixels to decoded ones: the first, and the one after the last."""
    first = min(max(0, round(start / stretch)), room - 1)
    return first, min(max(first + 1, round((start + length) / stretch)), room)


def view_boxes(
    height: int, width: int, size: int, short_side: int, spatial_views: int
) -> list[Box]:
    """Square parts along the longer side of a picture: the centre, or both ends and the centre.

    Args:
        height, width: of the picture, in display pixels.
        size: side of a view in pixels.
        short_side: what the picture's shorter side would become if all of it was resized, in
            pixels; at least ``size``. The part covers ``size / short_side`` of that side.
        spatial_views: 1 or 3.

    Returns:
        Boxes from left (or top) to right (or bottom).

    Raises:
        ValueError: a side below 1 pixel, a view larger than the short side, or another number of
            crops.

    Source: InternVideo2's test protocol.
    """
    if spatial_views not in SPATIAL_VIEWS:
        raise ValueError(f"spatial views are 1 or 3, got {spatial_views}")
    if min(height, width, size) < 1:
        raise ValueError(f"sides must be at least 1 pixel, got {height}x{width} to {size}")
    if size > short_side:
        raise ValueError(f"a view of {size} is larger than a short side of {short_side}")
    side = min(height, width) * size / short_side
    shares = (0.5,) if spatial_views == 1 else (0.0, 0.5, 1.0)
    tall = height > width
    # Only the longer side is travelled; the shorter one stays centred.
    return [
        Box(
            top=(height - side) * (share if tall else 0.5),
            left=(width - side) * (0.5 if tall else share),
            height=side,
            width=side,
        )
        for share in shares
    ]


def cut_views(
    frame: Frame, size: int, short_side: int, spatial_views: int, framing: Framing = "crop"
) -> Tensor:
    """The views of one frame: uint8 [S, size, size, 3], on the device of the frame.

    Args:
        frame: the picture.
        size: side of a view in pixels.
        short_side: as in :func:`view_boxes`; of no meaning where the whole picture is shown.
        spatial_views: 1 or 3; a whole picture is one view.
        framing: ``crop`` shows squares of the picture; ``squash`` squeezes all of it into a square,
            ``pad`` keeps its shape and puts black bars beside it.

    Raises:
        ValueError: as :func:`view_boxes`, and for several views of a whole picture.
    """
    if spatial_views not in (allowed := spatial_choices(framing)):
        raise ValueError(
            f"spatial views are {' or '.join(map(str, allowed))} where framing is {framing}, got "
            f"{spatial_views}"
        )
    if framing == "crop":
        boxes = view_boxes(frame.height, frame.width, size, short_side, spatial_views)
        return torch.stack([box.cut(frame, size).permute(1, 2, 0) for box in boxes])
    whole = resize(frame.pixels, size, size) if framing == "squash" else _padded(frame, size)
    return whole.permute(0, 2, 3, 1)


def _padded(frame: Frame, size: int) -> Tensor:
    """All of a picture in the middle of a black square: uint8 [1, 3, size, size]."""
    longer = max(frame.height, frame.width)
    height, width = (max(1, round(size * side / longer)) for side in (frame.height, frame.width))
    top, left = (size - height) // 2, (size - width) // 2
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
