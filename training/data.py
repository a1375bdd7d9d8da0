"""Stored clips to views, through the service's own preprocessing, in worker processes."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchcodec.decoders import VideoDecoder

from bundle.geometry import downscale
from bundle.sampling import frame_indices
from model.config import ModelConfig
from startup.path import spawn_context
from training.close_ups import close_up_box
from training.moving_things.labels import LABELS
from training.moving_things.store import ClipStore
from training.targets import pixel_change
from video.framing import Frame, cut_views

# What a left-right flip makes of an event.
_MIRRORED = {
    "moving left": "moving right",
    "moving right": "moving left",
    "turning clockwise": "turning counter-clockwise",
    "turning counter-clockwise": "turning clockwise",
}
MIRROR = np.array([LABELS.index(_MIRRORED.get(label, label)) for label in LABELS])

# What playing it backwards makes of an event; a fall and a bounce played backwards are neither.
_BACKWARDS = {
    "moving left": "moving right",
    "moving right": "moving left",
    "moving up": "moving down",
    "moving down": "moving up",
    "approaching": "receding",
    "receding": "approaching",
    "turning clockwise": "turning counter-clockwise",
    "turning counter-clockwise": "turning clockwise",
    "appearing": "disappearing",
    "disappearing": "appearing",
    "two things meeting": "two things parting",
    "two things parting": "two things meeting",
}
BACKWARDS = np.array([LABELS.index(_BACKWARDS.get(label, label)) for label in LABELS])
_ONE_WAY = frozenset(LABELS.index(label) for label in ("bouncing", "falling"))

# Which way a thing turns stays the same on a picture that is turned by a quarter, and no other
# event does: left becomes up, and what falls must fall downwards.
TURNING = frozenset(
    LABELS.index(label) for label in ("turning clockwise", "turning counter-clockwise")
)

# Temporal views that training draws from; evaluation takes the single one in the middle.
_SHIFTS = 5


class Sample(NamedTuple):
    """A batch (or, without the leading B, one view) on its way to the network.

    frames uint8 [B, T, H, W, 3]; clip_small uint8 [B, T/2, H/2, W/2, 3]; target float [B, N], the
    selection target; moving bool [B, N], the renderer's truth; label int64 [B].
    """

    frames: Tensor
    clip_small: Tensor
    target: Tensor
    moving: Tensor
    label: Tensor


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


class StoreViews(Dataset[Sample]):
    """One view of each clip of a store; items are asked for by (clip, draw).

    ``draw`` seeds the augmentation; -1 means none, the view that a service would take. With
    close-ups, items are numbers of :meth:`CloseUps.shown`, and a repeated clip is augmented anew.
    """

    def __init__(
        self, path: Path, config: ModelConfig, seed: int, close_ups: CloseUps | None = None
    ) -> None:
        self.path = path
        self.config = config
        self.seed = seed
        self.close_ups = close_ups
        self._store: ClipStore | None = None
        self._shown: NDArray[np.int64] | None = None

    @property
    def store(self) -> ClipStore:
        # Opened by each worker for itself.
        if self._store is None:
            self._store = ClipStore(self.path)
        return self._store

    @property
    def shown(self) -> NDArray[np.int64]:
        """The clip of each item: int64 [items]."""
        if self._shown is None:
            self._shown = (self.close_ups or CloseUps()).shown(self.store.labels)
        return self._shown

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        index, draw = item
        clip = self.store[int(self.shown[index])]
        T = self.config.frames
        if draw < 0:
            flip, backwards, chosen = False, False, frame_indices(clip.frames, T, 1)[0]
        else:
            rng = np.random.default_rng((self.seed, index, draw))
            flip = bool(rng.integers(2))
            backwards = bool(rng.integers(2)) and clip.label not in _ONE_WAY
            chosen = frame_indices(clip.frames, T, _SHIFTS)[rng.integers(_SHIFTS)]
        frames = decode_view(clip.video, chosen, self.config.size)
        moving = moving_tokens(clip.mask[chosen], self.config)
        label = clip.label
        if flip:
            frames = np.ascontiguousarray(frames[:, :, ::-1])
            moving = moving[:, :, ::-1]
            label = int(MIRROR[label])
        if backwards:
            frames = np.ascontiguousarray(frames[::-1])
            moving = moving[::-1]
            label = int(BACKWARDS[label])
        if draw >= 0 and self.close_ups is not None:
            if label in TURNING:
                quarters = int(rng.integers(4))
                frames = np.ascontiguousarray(np.rot90(frames, quarters, (1, 2)))
                moving = np.rot90(moving, quarters, (1, 2))
            if rng.random() < self.close_ups.share_of(label):
                frames = close_up(frames, self.config.patch, self.close_ups.side, rng)
                moving = np.zeros_like(moving)  # the renderer's mask is of the whole view
        return Sample(
            torch.from_numpy(frames),
            torch.from_numpy(downscale(frames[None])[0]),
            torch.from_numpy(pixel_change(frames, self.config.patch)),
            torch.from_numpy(moving.reshape(-1).copy()),
            torch.tensor(label),
        )


def decode_view(video: bytes, chosen: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Decode the chosen frames of a compressed clip to one centre view: uint8 [T, H, W, 3]."""
    decoded = VideoDecoder(video, seek_mode="approximate").get_frames_at(chosen.tolist()).data
    rows = [cut_views(Frame(pixels[None]), size, size, 1)[0] for pixels in decoded]
    view: NDArray[np.uint8] = torch.stack(rows).numpy()
    return view


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
    cut = torch.stack([box.cut(Frame(picture), size) for picture in pictures])
    return np.ascontiguousarray(cut.permute(0, 2, 3, 1).numpy())


def moving_tokens(mask: NDArray[np.bool_], config: ModelConfig) -> NDArray[np.bool_]:
    """The renderer's mask on the grid of tokens: bool [T, cells, cells] -> [T, rows, columns].

    A token moves where the thing covers at least an eighth of it.
    """
    T, rows, columns = config.grid
    cells = mask.shape[1]
    share = mask.reshape(T, rows, cells // rows, columns, cells // columns).mean(axis=(2, 4))
    moving: NDArray[np.bool_] = share >= 1 / 8
    return moving


class Steps(Sampler[list[tuple[int, int]]]):
    """Batches as a pure function of the step: a resumed run sees what it would have seen.

    Of several processes each takes every ``world``-th item of a batch, from ``rank`` on.
    """

    def __init__(
        self,
        clips: int,
        batch: int,
        seed: int,
        first: int,
        last: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.clips, self.batch, self.seed = clips, batch, seed
        self.first, self.last = first, last
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.first, self.last):
            items = []
            for sample in range(step * self.batch, (step + 1) * self.batch):
                if sample // self.clips != epoch:
                    epoch = sample // self.clips
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.clips)
                items.append((int(order[sample % self.clips]), epoch))
            yield items[self.rank :: self.world]


def train_loader(
    path: Path,
    config: ModelConfig,
    *,
    batch: int,
    seed: int,
    first: int,
    last: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    close_ups: CloseUps | None = None,
    pin: bool = False,
) -> DataLoader[Sample]:
    """Augmented batches for steps ``first`` to ``last``; of several processes, this one's part."""
    views = StoreViews(path, config, seed, close_ups)
    steps = Steps(len(views.shown), batch, seed, first, last, rank, world)
    return spawned_loader(views, steps, workers, pin=pin)


def spawned_loader(
    views: Dataset[Any],
    batches: Iterable[list[tuple[int, int]]],
    workers: int,
    collate: Callable[[list[Any]], Any] | None = None,
    pin: bool = False,
) -> DataLoader[Any]:
    """Load batches of (clip, draw) in worker processes; 0 workers load in this one.

    ``views`` is sent to each worker: what is large in it belongs into shared memory. ``pin`` puts
    batches into page-locked memory, which a thread of this process does.
    """
    return DataLoader(
        views,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        # Spawned: FFmpeg's and OpenMP's threads do not survive a fork.
        multiprocessing_context=spawn_context() if workers else None,
        worker_init_fn=_begin_worker if workers else None,
        # Twice what is being learnt: batches of frames wait in shared memory.
        prefetch_factor=2 if workers else None,
    )


def _begin_worker(_worker: int) -> None:
    # A signal to the process group is for those who have a state to save; this one ends with them.
    os.setpgrp()
    # The training step needs the cores more than a decoder does.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
