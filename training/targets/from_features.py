"""Selection targets from a teacher's patches or attention."""

import torch
from torch import Tensor

from training.targets.centers import default_centers, k_center
from training.targets.definition import Definition, Evidence
from training.targets.grids import resample_map
from training.targets.nearest import topk_distance


def change(attention: Tensor) -> Tensor:
    """How much each patch's attention differs from the frame before: [B, t, h, w] -> the same.

    Raises:
        ValueError: there is only one frame.

    Source: the paper compares with the change of attention between successive frames. Absolute
    values, and that the first frame takes the difference to the second, are our choice.
    """
    if attention.shape[1] < 2:
        raise ValueError("change of attention needs at least two frames")
    differences = attention.diff(dim=1).abs()
    return torch.cat([differences[:, :1], differences], dim=1)


def _attention(given: Evidence) -> Tensor:
    assert given.features.attention is not None
    return given.features.attention


def _patches(given: Evidence) -> Tensor:
    assert given.features.patches is not None
    return given.features.patches


def _topk_distance(given: Evidence) -> Tensor:
    patches = _patches(given)
    distances = topk_distance(patches.flatten(1, 3), given.number, metric=given.metric)
    return resample_map(distances.reshape(patches.shape[:4]), given.grid)


def _k_center(given: Evidence) -> Tensor:
    patches = _patches(given)
    features = patches.flatten(1, 3)
    scores = k_center(features, default_centers(features), metric=given.metric)
    return resample_map(scores.reshape(patches.shape[:4]), given.grid)


TOPK_DISTANCE = Definition(_topk_distance, frozenset({"patches"}))
K_CENTER = Definition(_k_center, frozenset({"patches"}))
ATTENTION = Definition(
    lambda given: resample_map(_attention(given), given.grid), frozenset({"attention"})
)
ATTENTION_CHANGE = Definition(
    lambda given: resample_map(change(_attention(given)), given.grid), frozenset({"attention"})
)
