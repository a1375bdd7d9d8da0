"""Single frames of clips, cropped in several ways, in worker processes.

Shape letters: B pictures, G and L global and local crops of each, S and s their sides in pixels, N
patches of a global crop.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from training.datasets import LOST_SHARE, Augmentation, Batches, DataSet, Ledger, UnreadableClip
from training.datasets.augment import jitter_colours, random_box
from training.datasets.decoding import open_clip
from training.datasets.loading import Steps, spawned_loader
from training.datasets.sharing import SharedEntries
from video.framing import Frame, cut

# How many other clips are tried in the place of an unreadable one.
_STAND_INS = 8

GLOBAL_CROPS = 2


@dataclass(frozen=True, slots=True)
class Crops:
    """How pictures are cropped and altered.

    Source: DINO and DINOv2, for crops, colour, grey and blur. Areas are larger than theirs, our
    choice, because a frame is smaller than a photograph and what moves in it smaller still.

    Attributes:
        size, local_size: sides of global and local crops in pixels.
        locals: local crops of each picture; there are always two global ones.
        area, local_area: least and most of the picture that a crop covers.
        colour: largest change of brightness, contrast and saturation, as a share.
        grey, blur: shares of the crops that lose their colour, and their detail.
        flip: shares of pictures that are flipped left-right, of each crop.
        masked: share of the patches that are masked in the first global crop. Source: iBOT masks
            half of the crops by 10 to 50 %; always one of the two, by as much, is our choice,
            because then every step has the same shapes.
    """

    size: int = 128
    local_size: int = 64
    locals: int = 4
    area: tuple[float, float] = (0.4, 1.0)
    local_area: tuple[float, float] = (0.1, 0.4)
    colour: float = 0.3
    grey: float = 0.1
    blur: float = 0.3
    flip: float = 0.5
    masked: float = 0.3


class CropBatch(NamedTuple):
    """Crops of pictures on their way to the network.

    whole uint8 [B, G, S, S, 3]; small uint8 [B, L, s, s, 3]; mask bool [B, N], the patches of
    ``whole[:, 0]`` that the student must not see, as many in each row; entry int64 [B]; lost, the
    clips that could not be read, as (name, reason).
    """

    whole: Tensor
    small: Tensor
    mask: Tensor
    entry: Tensor
    lost: list[tuple[str, str]]


class FrameCrops(Dataset[CropBatch]):
    """Crops of one frame of each entry; items, rows of a CropBatch, are asked for by (entry, draw).

    Labels are not looked at. Another clip stands in for an unreadable one.
    """

    def __init__(self, dataset: DataSet, crops: Crops, patch: int, seed: int) -> None:
        self.entries = SharedEntries(dataset.entries)
        self.crops, self.patch, self.seed = crops, patch, seed

    def __getitem__(self, item: tuple[int, int]) -> CropBatch:
        index, draw = item
        rng = np.random.default_rng((self.seed, index, draw))
        lost: list[tuple[str, str]] = []
        for _ in range(1 + _STAND_INS):
            try:
                clip = open_clip(self.entries[index])
                frame = clip.frame(int(rng.integers(clip.count)))
            except UnreadableClip as error:
                lost.append((error.clip, error.reason))
                index = int(rng.integers(len(self.entries)))
                continue
            return self._crop(frame, index, lost, rng)
        empty = torch.empty(0)
        return CropBatch(empty, empty, empty, torch.empty(0, dtype=torch.int64), lost)

    def _crop(
        self, frame: Frame, index: int, lost: list[tuple[str, str]], rng: np.random.Generator
    ) -> CropBatch:
        crops = self.crops
        side = crops.size // self.patch
        # Views, flips and colours are drawn apart for each crop: what they share is the picture.
        whole = [_altered(frame, crops.size, crops.area, crops, rng) for _ in range(GLOBAL_CROPS)]
        small = [
            _altered(frame, crops.local_size, crops.local_area, crops, rng)
            for _ in range(crops.locals)
        ]
        shape = (0, crops.local_size, crops.local_size, 3)
        mask = block_mask(side, side, round(crops.masked * side * side), rng)
        return CropBatch(
            torch.from_numpy(np.stack(whole))[None],
            torch.from_numpy(np.stack(small) if small else np.zeros(shape, np.uint8))[None],
            torch.from_numpy(mask.reshape(1, -1)),
            torch.tensor([index]),
            lost,
        )


def _altered(
    frame: Frame,
    size: int,
    area: tuple[float, float],
    crops: Crops,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """One crop of a frame: uint8 [size, size, 3]."""
    colour = Augmentation(
        area=area, brightness=crops.colour, contrast=crops.colour, saturation=crops.colour
    )
    box = random_box(frame.height, frame.width, colour, rng)
    part = cut(frame, box, size).permute(1, 2, 0).numpy()
    if rng.random() < crops.flip:
        part = part[:, ::-1]
    picture: NDArray[np.uint8] = jitter_colours(np.ascontiguousarray(part)[None], colour, rng)[0]
    if rng.random() < crops.grey:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        picture = np.repeat(np.asarray(grey, np.uint8)[:, :, None], 3, axis=2)
    if rng.random() < crops.blur:
        sigma = rng.uniform(0.1, 2.0) * size / 224  # DINO's radii are for 224 pixels
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)
    return picture


def block_mask(rows: int, columns: int, masked: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mask exactly ``masked`` cells of a grid, in rectangles: bool [rows, columns].

    Rectangles of up to the cells that are still missing, their aspect between 0.3 and 1 / 0.3, are
    laid at random; cells too many are given back at random. Source: BEiT's and iBOT's block masks;
    the exact number is our choice.

    Raises:
        ValueError: more cells than there are.
    """
    if not 0 <= masked <= rows * columns:
        raise ValueError(f"{masked} of {rows} x {columns} cells cannot be masked")
    mask = np.zeros((rows, columns), np.bool_)
    while (missing := masked - int(mask.sum())) > 0:
        area = rng.uniform(1, missing + 1)
        aspect = np.exp(rng.uniform(np.log(0.3), -np.log(0.3)))
        height = min(rows, max(1, round(np.sqrt(area * aspect))))
        width = min(columns, max(1, round(np.sqrt(area / aspect))))
        top = rng.integers(rows - height + 1)
        left = rng.integers(columns - width + 1)
        mask[top : top + height, left : left + width] = True
    extra = rng.permutation(np.flatnonzero(mask))[masked:]
    mask.reshape(-1)[extra] = False
    return mask


def crop_batches(
    dataset: DataSet,
    crops: Crops,
    patch: int,
    *,
    batch: int,
    seed: int,
    first: int,
    last: int,
    workers: int,
    lost_share: float = LOST_SHARE,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Batches:
    """Batches of :class:`CropBatch` for steps ``first`` to ``last``, the same ones each time.

    Args:
        batch: pictures per step, of all processes together; each clip gives one at a time.
        workers: processes that decode; 0 decodes in this one.
        lost_share: how many of the clips may be unreadable.
        rank, world: this process takes every ``world``-th picture of each step, from ``rank`` on.
        pin: put batches into page-locked memory.

    Raises:
        ValueError: the batch does not divide among the processes, or crops into patches.
    """
    if batch % world:
        raise ValueError(f"a batch of {batch} does not divide among {world} processes")
    if crops.size % patch or crops.local_size % patch:
        raise ValueError(
            f"crops of {crops.size} and {crops.local_size} do not divide into patches of {patch}"
        )
    steps = Steps(len(dataset), batch, seed, first, last, rank, world)
    views = FrameCrops(dataset, crops, patch, seed)
    return Batches(
        spawned_loader(views, steps, workers, _collate, pin),
        # Of several processes each sees, and counts, its part.
        Ledger(dataset.name, max(1, len(dataset) // world), lost_share),
        batch // world,
    )


def _collate(items: list[CropBatch]) -> CropBatch:
    there = [item for item in items if len(item.entry)]
    lost = [clip for item in items for clip in item.lost]
    if not there:
        return items[0]._replace(lost=lost)
    return CropBatch(
        torch.cat([item.whole for item in there]),
        torch.cat([item.small for item in there]),
        torch.cat([item.mask for item in there]),
        torch.cat([item.entry for item in there]),
        lost,
    )
