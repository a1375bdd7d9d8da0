"""Hard cuts: where one shot ends and the next begins from one frame to the next.

A cut is a change that stands out among those around it, as PySceneDetect's adaptive detector takes
it (https://www.scenedetect.com/docs/latest/api/detectors.html: three times the mean change of two
frames on either side, above a floor), and after which the picture does not come back. The measure
here is the mean difference of small pictures, and the rest is our choice:

- A fast pan, a shake or a film of few pictures a second changes much with many frames: a cut also
  changes twice as much as any frame around it.
- A flash changes much with one frame and back with another: before and after a cut the pictures
  differ, whichever frames of the two sides are held against each other.

A dissolve or a fade is none.
"""

from collections import deque
from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional as F

from video.framing import Frame

# A picture is sampled at about so many points, and these are averaged to its small picture.
_POINTS, _MEAN = (72, 128), 8
# Of 255.
_FLOOR = 12.0
_NEIGHBOURS, _RATIO = 2, 3.0
_AROUND_RATIO = 2.0
# Of a change, what is left of it whichever frames are held against each other.
_STAYS = 0.5
# Frames that are known behind the one that is judged: so long may a flash be.
_BEHIND = 3
_BEFORE = 12


class CutFinder:
    """Says of each frame whether a shot begins with it: at once of one that changes little, of
    others when those behind it are known.

    Args:
        finds: False says of none.
    """

    def __init__(self, finds: bool = True) -> None:
        self._finds = finds
        self._waiting: deque[Frame] = deque()
        self._small: deque[Tensor] = deque()  # from some frames before those that wait
        self._changes: deque[float] = deque()  # likewise: of each from the one before

    def push(self, frame: Frame) -> Iterator[tuple[Frame, bool]]:
        """Take a frame; the frames that are known about now."""
        if not self._finds:
            yield frame, False
            return
        small = small_picture(frame.pixels)
        change = _difference(small, self._small[-1]) if self._small else 0.0
        self._small.append(small)
        self._changes.append(change)
        self._waiting.append(frame)
        # What changes too little is no cut, whatever comes behind it.
        while self._waiting and (
            len(self._waiting) > _BEHIND or self._changes[-len(self._waiting)] < _FLOOR
        ):
            yield self._judged()

    @property
    def waits_from(self) -> float | None:
        """When the first frame that waits is shown; None where none waits."""
        return self._waiting[0].time if self._waiting else None

    def finish(self) -> Iterator[tuple[Frame, bool]]:
        """No more frames come; those that wait."""
        while self._waiting:
            yield self._judged()

    def _judged(self) -> tuple[Frame, bool]:
        place = len(self._small) - len(self._waiting)
        frame = self._waiting.popleft()
        cut = self._is_cut(place)
        if cut:
            self._changes[place] = 0.0  # it says nothing of the motion around
        while place > _BEFORE:
            self._small.popleft()
            self._changes.popleft()
            place -= 1
        return frame, cut

    def _is_cut(self, place: int) -> bool:
        change, changes = self._changes[place], list(self._changes)
        if not place or change < _FLOOR or place + 1 == len(changes):
            return False
        # The first change of all is no change.
        before, after = changes[max(1, place - _NEIGHBOURS) : place], changes[place + 1 :]
        beside = before + after[:_NEIGHBOURS]
        if change * len(beside) < _RATIO * sum(beside):
            return False
        if change < _AROUND_RATIO * max(changes[:place] + after):
            return False
        return all(
            _difference(self._small[after], self._small[before]) >= _STAYS * change
            for after in range(place, len(self._small))
            for before in range(max(0, place - _BEHIND - 1), place)
        )


def small_picture(pixels: Tensor) -> Tensor:
    """A frame, uint8 [1, 3, H, W], as a picture of few pixels: float32 [1, 3, h, w]."""
    down, across = (
        max(1, side // points) for side, points in zip(pixels.shape[-2:], _POINTS, strict=True)
    )
    height, width = (
        max(1, min(side, points) // _MEAN)
        for side, points in zip(pixels.shape[-2:], _POINTS, strict=True)
    )
    return F.adaptive_avg_pool2d(pixels[:, :, ::down, ::across].float(), (height, width))


def _difference(one: Tensor, other: Tensor) -> float:
    """The mean, of 255; all of it where a frame has another shape."""
    return 255.0 if one.shape != other.shape else float((one - other).abs().mean())
