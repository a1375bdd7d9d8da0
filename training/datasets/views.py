"""Entries to batches of views, in worker processes, with the service's own preprocessing."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bundle.geometry import downscale
from bundle.sampling import Views
from training.datasets.augment import Augmentation, Augmenting
from training.datasets.decoding import OpenClip, open_clip
from training.datasets.entries import DataSet
from training.datasets.errors import TooManyLost, UnreadableClip
from training.datasets.ledger import LOST_SHARE, Ledger
from training.datasets.loading import Steps, spawned_loader
from training.datasets.shapes import ViewConfig, plan_of, small_clip_of
from training.datasets.sharing import SharedEntries
from video.facts import ViewPlan
from video.framing import cut_views

# How many other clips are tried in the place of an unreadable one before the batch goes without.
_STAND_INS = 8


class Batch(NamedTuple):
    """Views on their way to the network; a row is a view, the views of a clip follow each other.

    frames uint8 [B, T, H, W, 3]; clip_small uint8 [B, t, H', W', 3], what the network's selector
    sees of them; target, one per row, as the task stacks them; entry int64 [B], the clip's number
    in the data set; lost, the clips that could not be read on the way, as (name, reason); moving
    bool [B, N], the tokens that really move, None where the augmentation does not say.
    """

    frames: Tensor
    clip_small: Tensor
    target: Tensor
    entry: Tensor
    lost: list[tuple[str, str]]
    moving: Tensor | None = None


class _Item(NamedTuple):
    """The views of one clip: uint8 [V, T, H, W, 3], or None if there is none to be had.

    moving as in :class:`~training.datasets.augment.View`.
    """

    frames: NDArray[np.uint8] | None
    target: Tensor
    entry: int
    lost: list[tuple[str, str]]
    moving: NDArray[np.bool_] | None = None


class EntryViews(Dataset[_Item]):
    """The views of each entry; items are asked for by (entry, draw).

    ``draw`` seeds the augmentation; -1 means none: the views that a service would take (``plan``,
    or else ``views`` as the network has them). In training, another clip stands in for an
    unreadable one, so that every step has its whole batch; in evaluation it is left out.
    """

    def __init__(
        self,
        dataset: DataSet,
        config: ViewConfig,
        *,
        views: Views = Views(1, 1),  # noqa: B008, frozen
        augmentation: Augmenting = Augmentation(),  # noqa: B008, frozen
        seed: int = 0,
        plan: ViewPlan | None = None,
    ) -> None:
        self.name, self.task, self.mirror = dataset.name, dataset.task, dataset.mirror
        self.entries, self.config = SharedEntries(dataset.entries), config
        self.augmentation, self.seed = augmentation, seed
        self.plan = plan or plan_of(config, views)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, item: tuple[int, int]) -> _Item:
        index, draw = item
        lost: list[tuple[str, str]] = []
        rng = np.random.default_rng((self.seed, index, max(0, draw)))
        for _ in range(1 if draw < 0 else 1 + _STAND_INS):
            entry = self.entries[index]
            try:
                if draw < 0:
                    frames, target = self._plain(open_clip(entry)), self.task.target(entry.labels)
                    return _Item(frames, target, index, lost)
                view = self.augmentation.view(entry, self.config, self.mirror, rng)
            except UnreadableClip as error:
                lost.append((error.clip, error.reason))
                index = int(rng.integers(len(self)))
                continue
            target = self.task.target(view.labels)
            return _Item(view.frames[None], target, index, lost, view.moving)
        return _Item(None, torch.empty(0), index, lost)

    def _plain(self, clip: OpenClip) -> NDArray[np.uint8]:
        """Views over time and along the long side: uint8 [V, T, H, W, 3], temporal-major."""
        plan = self.plan
        chosen = plan.shares(clip.count)
        crops = {
            share: cut_views(  # [S, H, W, 3]
                clip.at(share), plan.size, plan.short_side, plan.spatial, plan.framing
            )
            for share in np.unique(chosen).tolist()
        }
        views = [torch.stack([crops[share] for share in view], dim=1) for view in chosen.tolist()]
        frames: NDArray[np.uint8] = torch.cat(views).numpy()
        return frames


class Batches:
    """Iterates over batches and keeps account of the clips that could not be read.

    Iterating raises TooManyLost when there are more than the set share of them; and, where every
    batch has to have ``rows`` of them, because steps must stay in step, when one has
    fewer.
    """

    def __init__(self, loader: DataLoader[Batch], ledger: Ledger, rows: int | None = None) -> None:
        self._loader = loader
        self.ledger = ledger
        self.rows = rows

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            for clip, reason in batch.lost:
                self.ledger.add(clip, reason)
            self.ledger.check()
            if self.rows is not None and len(batch.entry) < self.rows:
                missing = self.rows - len(batch.entry)
                raise TooManyLost(
                    f"{self.ledger.what}: a step is {missing} of its {self.rows} clips short, and "
                    "nothing could stand in: " + "; ".join(f"{c}: {why}" for c, why in batch.lost)
                )
            if len(batch.entry):
                yield batch


def training_batches(
    dataset: DataSet,
    config: ViewConfig,
    *,
    batch: int,
    seed: int,
    first: int,
    last: int,
    workers: int,
    augmentation: Augmenting | None = Augmentation(),  # noqa: B008, frozen
    lost_share: float = LOST_SHARE,
    rank: int = 0,
    world: int = 1,
    finish: Callable[[Batch], Any] | None = None,
    pin: bool = False,
) -> Batches:
    """Batches for steps ``first`` to ``last``, the same ones whenever they are asked for.

    Args:
        batch: views per step, of all processes together.
        workers: processes that decode; 0 decodes in this one.
        augmentation: None takes the views that a service would take; then no clip stands in for
            an unreadable one.
        lost_share: how many of the clips may be unreadable.
        rank, world: this process takes every ``world``-th view of each step, from ``rank`` on.
        finish: called with each batch in the process that decoded it; what it returns, a named
            tuple that has ``entry`` and ``lost`` too, takes the batch's place.
        pin: put batches into page-locked memory, from which copies to a GPU need not be waited for.

    Raises:
        ValueError: the batch does not divide among the processes.
    """
    if batch % world:
        raise ValueError(f"a batch of {batch} does not divide among {world} processes")
    steps = Steps(len(dataset), batch, seed, first, last, rank, world)
    if augmentation is None:
        views = EntryViews(dataset, config)
        items: Iterable[list[tuple[int, int]]] = _Plain(steps)
    else:
        views = EntryViews(dataset, config, augmentation=augmentation, seed=seed)
        items = steps
    return _batches(views, items, workers, lost_share, finish, batch // world, world, pin)


def evaluation_batches(
    dataset: DataSet,
    config: ViewConfig,
    *,
    batch: int,
    workers: int,
    views: Views = Views(1, 1),  # noqa: B008, frozen
    plan: ViewPlan | None = None,
    lost_share: float = LOST_SHARE,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Batches:
    """Every clip once, in order, in the views that a service would take; unreadable ones are left
    out.

    Args:
        batch: clips, not views, at a time.
        views: temporal times spatial views of each clip, such as 4x3.
        plan: other views than those that ``config`` says, in the place of ``views``.
        lost_share: how many of the clips may be unreadable.
        rank, world: this process takes every ``world``-th clip, from ``rank`` on.
        pin: see :func:`training_batches`.
    """
    items = [(index, -1) for index in range(rank, len(dataset), world)]
    batches = [items[i : i + batch] for i in range(0, len(items), batch)]
    chosen = EntryViews(dataset, config, views=views, plan=plan)
    return _batches(chosen, batches, workers, lost_share, pin=pin)


class _Plain:
    """The same clips at each step, without a draw."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for items in self.steps:
            yield [(index, -1) for index, _ in items]


def _batches(
    views: EntryViews,
    items: Iterable[list[tuple[int, int]]],
    workers: int,
    lost_share: float,
    finish: Callable[[Batch], Any] | None = None,
    rows: int | None = None,
    world: int = 1,
    pin: bool = False,
) -> Batches:
    # Of several processes each sees, and counts, its part.
    ledger = Ledger(views.name, max(1, len(views) // world), lost_share)
    collate = partial(_finished, small_clip_of(views.config), finish)
    return Batches(spawned_loader(views, items, workers, collate, pin), ledger, rows)


def _finished(
    smaller: tuple[int, int], finish: Callable[[Batch], Any] | None, items: list[_Item]
) -> Any:
    batch = _collate(items, smaller)
    return batch if finish is None or not len(batch.entry) else finish(batch)


def _collate(items: list[_Item], smaller: tuple[int, int]) -> Batch:
    lost = [clip for item in items for clip in item.lost]
    there = [item for item in items if item.frames is not None]
    if not there:
        empty = torch.empty(0)
        return Batch(empty, empty, empty, empty, lost)
    clips = [item.frames for item in there if item.frames is not None]
    counts = torch.tensor([len(clip) for clip in clips])
    frames = np.concatenate(clips)
    moving = [torch.from_numpy(item.moving) for item in there if item.moving is not None]
    return Batch(
        torch.from_numpy(frames),
        torch.from_numpy(downscale(frames, *smaller)),
        torch.stack([item.target for item in there]).repeat_interleave(counts, dim=0),
        torch.tensor([item.entry for item in there]).repeat_interleave(counts),
        lost,
        torch.stack(moving) if moving else None,
    )
