"""Where and when a view, and each of its tokens, lies in its clip: arithmetic without pixels.

:mod:`video.framing` cuts the parts out that are computed here, so that a token's rectangle is what
the network saw and no estimate of it. The serving process imports this module; it is free of torch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.sampling import SPATIAL_VIEWS
from video.facts import ClipFacts, ViewPlan

# Decoded pixels of a frame: the first and the one after the last, of rows and of columns.
Part = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in display pixels, which need not be whole."""

    top: float
    left: float
    height: float
    width: float

    def part(self, rows: int, columns: int, stretch: tuple[float, float]) -> Part:
        """The decoded pixels of the box: its edges are rounded, and it is one pixel at the least.

        Args:
            rows, columns: of the decoded frame.
            stretch: display pixels (high, wide) of one decoded pixel.
        """
        return (
            _span(self.top, self.height, stretch[0], rows),
            _span(self.left, self.width, stretch[1], columns),
        )


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


def padded_box(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a whole picture in the middle of a square of ``size`` pixels.

    Args:
        height, width: of the picture, in display pixels.
    """
    longer = max(height, width)
    high, wide = (max(1, round(size * side / longer)) for side in (height, width))
    return (size - high) // 2, (size - wide) // 2, high, wide


def view_rectangles(facts: ClipFacts, plan: ViewPlan) -> NDArray[np.float64]:
    """Where the spatial views lie in their clip, float64 [S, 4]: x, y, width and height.

    In display pixels of the clip: upright, and square. The black bars of a padded picture lie
    outside of it. A frame whose size is not that of the clip's header is shown at that size.
    """
    if plan.framing == "squash":
        return np.array([[0.0, 0.0, facts.width, facts.height]])
    if plan.framing == "pad":
        top, left, high, wide = padded_box(facts.height, facts.width, plan.size)
        x, y = facts.width / wide, facts.height / high  # display pixels of one of the view's
        return np.array([[-left * x, -top * y, plan.size * x, plan.size * y]])
    rows, columns = facts.stored_height, facts.stored_width
    x, y = facts.width / columns, facts.height / rows  # display pixels of one decoded pixel
    found = []
    for box in view_boxes(facts.height, facts.width, plan.size, plan.short_side, plan.spatial):
        (top, bottom), (left, right) = box.part(rows, columns, facts.stretch)
        found.append([left * x, top * y, (right - left) * x, (bottom - top) * y])
    return np.array(found)


def token_rectangles(facts: ClipFacts, plan: ViewPlan, patch: int) -> NDArray[np.float64]:
    """Where a frame's tokens lie in their clip, float64 [S, rows, columns, 4].

    Args:
        patch: side of a token in pixels of the view.

    Returns:
        x, y, width and height in display pixels of the clip, without what lies outside of the
        picture: a token in a black bar has no width or no height.
    """
    count = plan.size // patch
    shares = np.arange(count + 1) / count
    views = view_rectangles(facts, plan)  # [S, 4]
    x = np.clip(views[:, 0:1] + shares * views[:, 2:3], 0, facts.width)  # [S, columns + 1]
    y = np.clip(views[:, 1:2] + shares * views[:, 3:4], 0, facts.height)
    found = np.empty((len(views), count, count, 4))
    found[..., 0], found[..., 1] = x[:, None, :-1], y[:, :-1, None]
    found[..., 2], found[..., 3] = np.diff(x)[:, None, :], np.diff(y)[:, :, None]
    return found


def step_spans(moments: NDArray[np.float64], tubelet: int, seconds: float) -> NDArray[np.float64]:
    """Which part of a clip each step of a view stands for, float64 [temporal views, steps, 2].

    A sampled frame stands for the time that is nearer to it than to its neighbours; the first and
    the last reach as far outwards as inwards. So frames that are spread over a clip stand for all
    of it, and those of a dense window for no more than the window.

    Args:
        moments: float64 [temporal views, T], ascending: when the frames were taken, in seconds.
        tubelet: frames of a step; T is a multiple of it.
        seconds: how long the clip lasts.

    Returns:
        The beginning and the end of each, in seconds from the first frame shown.

    Source: our choice; the paper's figure shows the sampled frames alone.
    """
    between = (moments[:, 1:] + moments[:, :-1]) / 2
    first = 2 * moments[:, :1] - between[:, :1]
    last = 2 * moments[:, -1:] - between[:, -1:]
    edges = np.clip(np.concatenate([first, between, last], axis=1), 0, seconds)[:, ::tubelet]
    return np.stack([edges[:, :-1], edges[:, 1:]], axis=-1)
