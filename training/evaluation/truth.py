"""The renderer's truth about its own clips: which tokens really move."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bundle.sampling import Views, frame_indices
from model.config import ModelConfig
from training.data import moving_tokens
from training.datasets import DataSet, Entry
from training.moving_things.render import GRID
from training.moving_things.store import ClipStore


class MovingTokens:
    """Which tokens of a rendered clip's centre crops show something that moves."""

    def __init__(self, config: ModelConfig, views: Views) -> None:
        self.config, self.views = config, views
        self._stores: dict[Path, ClipStore] = {}

    def of(self, entry: Entry) -> Tensor:
        """bool [V, N], a row per temporal view.

        Raises:
            ValueError: the clip was not rendered.
        """
        if entry.stored is None:
            raise ValueError(f"{entry.name}: nobody knows what really moves in it")
        if entry.path not in self._stores:
            self._stores[entry.path] = ClipStore(entry.path)
        clip = self._stores[entry.path][entry.stored]
        chosen = frame_indices(clip.frames, self.config.frames, self.views.temporal)
        moving = np.stack([moving_tokens(clip.mask[view], self.config) for view in chosen])
        return torch.from_numpy(moving.reshape(len(chosen), -1))


def moving_truth(dataset: DataSet, config: ModelConfig, views: Views) -> MovingTokens | None:
    """The truth about a data set.

    None unless all its clips were rendered, the grid of tokens fits the renderer's, and the only
    crop is the centre one, which is what the renderer knows.
    """
    rendered = all(entry.stored is not None for entry in dataset.entries)
    if not rendered or GRID % config.grid[1] or views.spatial != 1:
        return None
    return MovingTokens(config, views)
