"""Which clips a step is shown, and the worker processes that decode them."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypedDict

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from startup.path import spawn_context


class StepShare(TypedDict):
    """What a process loads of some steps, as every loader of batches takes it.

    batch: rows per step, of all processes together. seed: of order and augmentation. first, last:
    the steps. workers: processes that decode; 0 decodes in this one. rank, world: this process
    takes every ``world``-th row of each step, from ``rank`` on. pin: put batches into page-locked
    memory, from which copies to a GPU need not be waited for.
    """

    batch: int
    seed: int
    first: int
    last: int
    workers: int
    rank: int
    world: int
    pin: bool


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
