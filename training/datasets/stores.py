"""Stores: folders that hold many clips in a format of their own, such as the renderer's."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.datasets.shapes import ViewConfig


class Store(Protocol):
    """What reading, measuring and provenance ask of a store; clips are numbered from 0.

    Attributes:
        meta: what the store is, as JSON, for provenance.
        origin: what its clips follow from, wherever the folder lies, as JSON.
        cells: rows and columns of the masks.
    """

    meta: dict[str, Any]
    cells: int

    @property
    def origin(self) -> list[Any]: ...

    def video(self, number: int) -> bytes:
        """The compressed video of a clip."""

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Where things really move: bool [frames, cells, cells] over the central square."""


# Opens the store in a folder. It is sent to worker processes by its name.
StoreOpener = Callable[[Path], Store]


@lru_cache(maxsize=4)
def open_store(opener: StoreOpener, path: Path) -> Store:
    """The store in a folder, opened once in each process that reads."""
    return opener(path)


def moving_tokens(mask: NDArray[np.bool_], config: ViewConfig) -> NDArray[np.bool_]:
    """A store's mask on the grid of tokens: bool [T, cells, cells] -> [steps, rows, columns].

    A token moves where the thing covers at least an eighth of it, in any of its frames.
    """
    steps, rows, columns = config.grid
    frames, cells, _ = mask.shape
    share = mask.reshape(frames, rows, cells // rows, columns, cells // columns).mean(axis=(2, 4))
    moving: NDArray[np.bool_] = (share >= 1 / 8).reshape(steps, -1, rows, columns).any(axis=1)
    return moving
