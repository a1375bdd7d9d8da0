"""Which part of the picture the network sees, decided by looking at the clips.

A square cut out of the middle (``crop``) keeps shapes and loses the ends of the long side. The
whole picture squeezed into a square (``squash``) keeps what happens there and changes shapes. The
whole picture with black bars (``pad``) keeps both and has fewer pixels for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.sampling import Framing
from training.datasets import DataSet, DataSetError, UnreadableClip
from training.datasets.decoding import open_clip
from training.targets import pixel_change
from video.framing import Frame, cut, cut_views, resize
from video.places import Box

# Share of what changes that a square out of the middle may lose. Our choice: on clips of 4:3 that
# are framed by people it loses about a tenth.
_MAY_LOSE = 0.12
# Width over height from which a squeezed picture is no longer recognised well.
_LONG = 2.2
# Share of the clips that must be of the other orientation for both to count.
_MIXED = 0.1
# Frames of a clip that are looked at, and the square that they are squeezed into.
_FRAMES, _SIDE, _CELL = 6, 64, 4


@dataclass(frozen=True, slots=True)
class FramingChoice:
    """name; why, in a sentence."""

    name: Framing
    why: str


@dataclass(frozen=True, slots=True)
class Looked:
    """One clip's display, width over height, and the share of what changes in it that lies outside
    the square in its middle."""

    aspect: float
    outside: float


def look(dataset: DataSet, clips: int, seed: int) -> list[Looked]:
    """Look at some of the clips, drawn by chance; those that cannot be read are passed over.

    Raises:
        DataSetError: none of them can be read.
    """
    drawn = np.random.default_rng(seed).permutation(len(dataset))[:clips]
    seen = []
    for number in drawn.tolist():
        try:
            clip = open_clip(dataset.entries[number])
            frames = [clip.at((step + 0.5) / _FRAMES) for step in range(_FRAMES)]
        except UnreadableClip:
            continue
        height, width = frames[0].height, frames[0].width
        whole = Box(0, 0, height, width)
        small = torch.stack([cut(frame, whole, _SIDE).permute(1, 2, 0) for frame in frames])
        seen.append(Looked(width / height, _outside(small.numpy(), width / height)))
    if not seen:
        raise DataSetError(f"{dataset.name}: none of {len(drawn)} clips can be read")
    return seen


def _outside(frames: NDArray[np.uint8], aspect: float) -> float:
    """Share of the change that a square out of the middle does not show."""
    cells = _SIDE // _CELL
    change = pixel_change(frames, _CELL).reshape(-1, cells, cells)
    # What is everywhere, such as noise, is no event.
    event = np.maximum(change - np.median(change), 0).sum(axis=0)
    along = event.sum(axis=0 if aspect >= 1 else 1)
    if along.sum() <= 0:
        return 0.0
    shown = min(aspect, 1 / aspect)
    edges = np.linspace(0, 1, cells + 1)
    low, high = (1 - shown) / 2, (1 + shown) / 2
    inside = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * cells
    return float(1 - (along * inside).sum() / along.sum())


def choose_framing(seen: Sequence[Looked]) -> FramingChoice:
    """The rule, on what was seen of some clips.

    Source: our choice; ``docs/training.md`` has it in words.
    """
    aspects = np.array([one.aspect for one in seen])
    lost = float(np.mean([one.outside for one in seen]))
    longer = float(np.median(np.maximum(aspects, 1 / aspects)))
    wide, tall = float((aspects > 1.1).mean()), float((aspects < 1 / 1.1).mean())
    said = f"a square out of the middle would miss {lost:.0%} of what changes"
    if lost <= _MAY_LOSE:
        return FramingChoice("crop", f"{said}, which is little")
    if min(wide, tall) >= _MIXED:
        return FramingChoice(
            "pad", f"{said}, and some clips are wide and some tall: squeezed, shapes would differ"
        )
    if longer > _LONG:
        return FramingChoice(
            "pad", f"{said}, and at {longer:.1f} to 1 a squeezed picture is not recognised well"
        )
    return FramingChoice("squash", f"{said}; at {longer:.2f} to 1 it can be squeezed into a square")


def frame_whole(frame: Frame, framing: Framing, side: int) -> Tensor:
    """A decoded frame as it is kept: uint8 [3, h, w].

    ``squash`` and ``pad`` give squares of ``side`` pixels; ``crop`` the picture, its short side of
    ``side`` pixels and its long one three times that at the most.
    """
    if framing != "crop":
        return cut_views(frame, side, side, 1, framing)[0].permute(2, 0, 1)
    height, width = frame.height, frame.width
    pixels = frame.pixels
    most = 3 * min(height, width)
    rows, columns = pixels.shape[-2:]
    keep_rows = round(rows * min(1, most / height))
    keep_columns = round(columns * min(1, most / width))
    top, left = (rows - keep_rows) // 2, (columns - keep_columns) // 2
    pixels = pixels[:, :, top : top + keep_rows, left : left + keep_columns]
    height, width = min(height, most), min(width, most)
    scale = side / min(height, width)
    return resize(pixels, max(side, round(height * scale)), max(side, round(width * scale)))[0]
