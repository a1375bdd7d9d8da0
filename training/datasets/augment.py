"""What training does to a view besides decoding it: time, crop, flip, colour."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bundle.sampling import Views
from training.datasets.close_ups import close_up_box
from training.datasets.decoding import open_clip
from training.datasets.entries import Entry
from training.datasets.shapes import ViewConfig, plan_of
from video.framing import Frame, cut, resize
from video.places import Box

# What red, green and blue count in a grey: ITU-R BT.601, as in every decoder's conversion.
_GREY = (0.299, 0.587, 0.114)


class View(NamedTuple):
    """What training sees of a clip.

    frames uint8 [T, H, W, 3]; labels, of what the view shows; moving bool [N], the tokens that
    really move, None where nobody knows.
    """

    frames: NDArray[np.uint8]
    labels: tuple[int, ...]
    moving: NDArray[np.bool_] | None = None


class Augmenting(Protocol):
    """What draws training views of clips; it is sent to worker processes."""

    def view(
        self,
        entry: Entry,
        config: ViewConfig,
        mirror: Mapping[int, int] | None,
        rng: np.random.Generator,
    ) -> View:
        """One view of a clip, a pure function of its arguments.

        Args:
            config: of the network, whose views these are.
            mirror: as of the data set, see :class:`~training.datasets.entries.DataSet`.

        Raises:
            UnreadableClip: it cannot be had.
        """


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much a training view may differ from the one that a service would take.

    The defaults are our choice. Crops take more of the picture than is usual for photographs,
    because what moves in a clip is small and must stay in; colours change little, because colour
    may tell the label.

    jitter: take each frame from anywhere in its segment of the clip, not from its middle; of
        networks that look at windows, any window, not the middle one.
    area: least and most of the picture that a crop covers.
    aspect: least and most width over height of a crop, before it is made square.
    flip: flip every other view left-right, if the data set allows it.
    brightness, contrast, saturation: largest change, as a share; 0 for none.
    close_ups: share of the views that are cut out around where the clip changes most, square; for
        what is too fine to be found out at the size at which it must be known.
    close_up: least and most of the picture's short side that such a view covers.

    Raises:
        ValueError: ranges the wrong way round or outside what makes sense.
    """

    jitter: bool = True
    area: tuple[float, float] = (0.4, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    close_ups: float = 0.0
    close_up: tuple[float, float] = (0.35, 0.75)

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must be a range within (0, 1], got {self.area}")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"aspect must be a range above 0, got {self.aspect}")
        if not 0 < self.close_up[0] <= self.close_up[1] <= 1:
            raise ValueError(f"close_up must be a range within (0, 1], got {self.close_up}")
        if not 0 <= self.close_ups <= 1:
            raise ValueError(f"close_ups must lie in [0, 1], got {self.close_ups}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")

    def view(
        self,
        entry: Entry,
        config: ViewConfig,
        mirror: Mapping[int, int] | None,
        rng: np.random.Generator,
    ) -> View:
        """See :meth:`Augmenting.view`."""
        clip = open_clip(entry)
        frames = [clip.at(share) for share in self.times(clip.count, config, rng).tolist()]
        first = frames[0]
        height, width = first.height, first.width
        close = self.close_ups > 0 and rng.random() < self.close_ups

        def view_of(box: Box) -> NDArray[np.uint8]:
            cuts = [
                cut(_as_large_as(first, frame), box, config.size).permute(1, 2, 0)
                for frame in frames
            ]
            view: NDArray[np.uint8] = torch.stack(cuts).numpy()
            return view

        if close:
            whole = view_of(Box(0, 0, height, width))
            box = close_up_box(whole, config.patch, height, width, self.close_up, rng)
        else:
            box = random_box(height, width, self, rng)
        view = view_of(box)
        labels = entry.labels
        if self.flip and mirror is not None and rng.integers(2):
            view = view[:, :, ::-1]
            labels = tuple(mirror.get(label, label) for label in labels)
        return View(jitter_colours(np.ascontiguousarray(view), self, rng), labels)

    def times(
        self, clip_frames: int, config: ViewConfig, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """When a view's frames are taken: ascending shares of the clip's duration, float64 [T]."""
        plan = plan_of(config, Views(1, 1))
        if not self.jitter:
            middles: NDArray[np.float64] = plan.shares(clip_frames)[0]
            return middles
        if plan.stride is None:
            return jittered_shares(plan.frames, rng)
        room = max(0, clip_frames - ((plan.frames - 1) * plan.stride + 1))
        start = int(rng.integers(room + 1))
        window = np.minimum(start + np.arange(plan.frames) * plan.stride, clip_frames - 1)
        shares: NDArray[np.float64] = (window + 0.5) / clip_frames
        return shares


def _as_large_as(first: Frame, frame: Frame) -> Frame:
    """Streams may change their size on the way; all frames are taken as large as the first."""
    height, width = first.pixels.shape[-2:]
    return Frame(resize(frame.pixels, height, width), first.stretch)


def jittered_shares(view_frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A time from anywhere in each of ``view_frames`` equal segments: float64 [view_frames].

    Ascending shares of a clip's duration, in [0, 1).

    Source: temporal segment networks, and InternVideo2's training.
    """
    return (np.arange(view_frames) + rng.random(view_frames)) / view_frames


def random_box(
    height: int, width: int, augmentation: Augmentation, rng: np.random.Generator
) -> Box:
    """A box of random area and aspect; of ten draws the first that fits, else the whole middle."""
    low, high = (math.log(bound) for bound in augmentation.aspect)
    for _ in range(10):
        area = rng.uniform(*augmentation.area) * height * width
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return Box(int(top), int(left), h, w)
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def jitter_colours(
    frames: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change brightness, contrast and saturation, alike in all frames: uint8 [T, H, W, 3]."""
    brightness, contrast, saturation = (
        1 + rng.uniform(-most, most)
        for most in (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    )
    if brightness == contrast == saturation == 1:
        return frames
    # All three are linear, so they are one matrix and one offset: brightness, then saturation
    # (towards each pixel's grey), then contrast (towards the mean grey, which the other two leave
    # where brightness has put it).
    weights = np.array(_GREY)
    turned = saturation * np.eye(3) + (1 - saturation) * weights
    mean = brightness * float(weights @ frames.mean(axis=(0, 1, 2)))
    offset = np.full((3, 1), (1 - contrast) * mean)
    matrix = np.hstack([contrast * brightness * turned, offset])
    flat = frames.reshape(-1, frames.shape[2], 3)
    return np.asarray(cv2.transform(flat, matrix), np.uint8).reshape(frames.shape)
