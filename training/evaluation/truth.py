"""What a store knows of its own clips: which tokens really move."""

import numpy as np
import torch
from torch import Tensor

from bundle.sampling import Views, dense_indices, frame_indices
from training.datasets import DataSet, Entry
from training.datasets.shapes import ViewConfig, plan_of
from training.datasets.stores import moving_tokens, open_store


class MovingTokens:
    """Which tokens of a stored clip's centre crops show something that moves."""

    def __init__(self, config: ViewConfig, views: Views) -> None:
        self.config, self.views = config, views
        self._plan = plan_of(config, views)

    def of(self, entry: Entry) -> Tensor:
        """bool [V, N], a row per temporal view.

        Raises:
            ValueError: the clip is of no store.
        """
        if entry.store is None or entry.stored is None:
            raise ValueError(f"{entry.name}: nobody knows what really moves in it")
        mask = open_store(entry.store, entry.path).mask(entry.stored)
        plan, temporal = self._plan, self.views.temporal
        if plan.stride is None:
            chosen = frame_indices(len(mask), plan.frames, temporal)
        else:
            chosen = dense_indices(len(mask), plan.frames, plan.stride, temporal)
        moving = np.stack([moving_tokens(mask[view], self.config) for view in chosen])
        return torch.from_numpy(moving.reshape(len(chosen), -1))


def moving_truth(dataset: DataSet, config: ViewConfig, views: Views) -> MovingTokens | None:
    """The truth about a data set.

    None unless all its clips lie in stores, the grid of tokens fits that of the masks, and the only
    crop is the centre one, which is what masks are of.
    """
    stores = {(entry.store, entry.path) for entry in dataset.entries}
    for opener, path in stores:
        if opener is None or open_store(opener, path).cells % config.grid[1]:
            return None
    plan = plan_of(config, views)
    if views.spatial != 1 or plan.framing != "crop" or plan.short_side != plan.size:
        return None
    return MovingTokens(config, views)
