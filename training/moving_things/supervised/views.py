"""Training views of rendered clips: what is known of what happens in them, and no more.

The renderer's labels say what becomes of an event that is mirrored, played backwards or turned, so
that views may be altered in ways in which other clips' must not be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.sampling import frame_indices
from model.config import ModelConfig
from training.datasets import Batch, Batches, DataSet, Entry, training_batches
from training.datasets.augment import View
from training.datasets.close_ups import close_up_box
from training.datasets.decoding import open_clip
from training.datasets.errors import UnreadableClip
from training.datasets.loading import StepShare
from training.datasets.shapes import ViewConfig
from training.datasets.stores import moving_tokens, open_store
from training.moving_things.labels import BACKWARDS, ONE_WAY, TURNING
from training.targets import pixel_change
from video.framing import Frame, cut, cut_views

# Temporal views that training draws from; evaluation takes the single one in the middle.
_SHIFTS = 5


class Sample(NamedTuple):
    """A batch on its way to the network.

    frames uint8 [B, T, H, W, 3]; clip_small uint8 [B, T/2, H/2, W/2, 3]; change float [B, N], the
    selection target; moving bool [B, N], the renderer's truth; label int64 [B]; entry int64 [B],
    the clip's number among those shown; lost, the clips that could not be read.
    """

    frames: Tensor
    clip_small: Tensor
    change: Tensor
    moving: Tensor
    label: Tensor
    entry: Tensor
    lost: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class CloseUps:
    """Clips of turning things shown more often, and from nearer. Our choice, because at the view's
    own size training never got beyond guessing which way.

    Attributes:
        repeat: how many times as often as others such a clip is shown.
        others: whether others are shown at all.
        share: of these views that are cut out around what changes, square; of the views of other
            clips a quarter as many, so that nearness alone tells nothing.
        side: least and most of the view that is cut out.
    """

    repeat: int = 1
    others: bool = True
    share: float = 0.0
    side: tuple[float, float] = (0.4, 0.75)

    def shown(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The clips of these labels, int64 [clips], with repetitions: int64 [shown]."""
        turning = np.isin(labels, sorted(TURNING))
        return np.repeat(np.arange(len(labels)), np.where(turning, self.repeat, int(self.others)))

    def share_of(self, label: int) -> float:
        return self.share if label in TURNING else self.share / 4


@dataclass(frozen=True, slots=True)
class RenderedAugmentation:
    """Mirrors, reverses and shifts views of rendered clips; see also :class:`CloseUps`."""

    close_ups: CloseUps | None = None

    def view(
        self,
        entry: Entry,
        config: ViewConfig,
        mirror: Mapping[int, int] | None,
        rng: np.random.Generator,
    ) -> View:
        """See :meth:`training.datasets.augment.Augmenting.view`.

        Raises:
            ValueError: the clip is of no store.
        """
        if entry.store is None or entry.stored is None:
            raise ValueError(f"{entry.name}: was not rendered")
        clip, mask = open_clip(entry), open_store(entry.store, entry.path).mask(entry.stored)
        if clip.count != len(mask):
            raise UnreadableClip(
                entry.name, f"it has {clip.count} frames, and its store says {len(mask)}"
            )
        (label,) = entry.labels
        flip = bool(rng.integers(2))
        backwards = bool(rng.integers(2)) and label not in ONE_WAY
        chosen = frame_indices(clip.count, config.frames, _SHIFTS)[rng.integers(_SHIFTS)]
        cut = [cut_views(clip.frame(i), config.size, config.size, 1)[0] for i in chosen.tolist()]
        frames: NDArray[np.uint8] = torch.stack(cut).numpy()
        moving = moving_tokens(mask[chosen], config)
        if flip:
            frames, moving = frames[:, :, ::-1], moving[:, :, ::-1]
            label = (mirror or {}).get(label, label)
        if backwards:
            frames, moving = frames[::-1], moving[::-1]
            label = int(BACKWARDS[label])
        if self.close_ups is not None:
            if label in TURNING:
                quarters = int(rng.integers(4))
                frames = np.rot90(frames, quarters, (1, 2))
                moving = np.rot90(moving, quarters, (1, 2))
            if rng.random() < self.close_ups.share_of(label):
                frames = close_up(
                    np.ascontiguousarray(frames), config.patch, self.close_ups.side, rng
                )
                moving = np.zeros_like(moving)  # the renderer's mask is of the whole view
        return View(np.ascontiguousarray(frames), (label,), moving.reshape(-1).copy())


def close_up(
    frames: NDArray[np.uint8],
    patch: int,
    side: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """A square part of a view around what changes in it, as large as the view: [T, H, W, 3]."""
    size = frames.shape[1]
    box = close_up_box(frames, patch, size, size, side, rng)
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)[:, None]  # [T, 1, 3, H, W]
    parts = torch.stack([cut(Frame(picture), box, size) for picture in pictures])
    return np.ascontiguousarray(parts.permute(0, 2, 3, 1).numpy())


@dataclass(frozen=True, slots=True)
class _FindChange:
    """Makes a batch a :class:`Sample`, in the process that decoded it."""

    patch: int

    def __call__(self, batch: Batch) -> Sample:
        change = [pixel_change(view, self.patch) for view in batch.frames.numpy()]
        assert batch.moving is not None
        return Sample(
            batch.frames,
            batch.clip_small,
            torch.from_numpy(np.stack(change)),
            batch.moving,
            batch.target,
            batch.entry,
            batch.lost,
        )


def supervised_batches(
    dataset: DataSet,
    config: ModelConfig,
    close_ups: CloseUps | None = None,
    **share: Unpack[StepShare],
) -> Batches:
    """Batches of :class:`Sample` of a store's clips, which appear as often as ``close_ups`` says.

    Raises:
        ValueError: the batch does not divide among the processes.
    """
    labels = np.array([entry.labels[0] for entry in dataset.entries])
    shown = dataset.subset((close_ups or CloseUps()).shown(labels).tolist())
    return training_batches(
        shown,
        config,
        **share,
        augmentation=RenderedAugmentation(close_ups),
        finish=_FindChange(config.patch),
    )
