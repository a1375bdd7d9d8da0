"""The same network for views of another size."""

import dataclasses

from torch import Tensor
from torch.nn import functional as F

from model.classifier import LookWhen


def at_size(parent: LookWhen, size: int) -> LookWhen:
    """The weights of ``parent`` in a network for views of ``size`` x ``size`` pixels.

    The learned tables of where a token is are resampled to the new grid, bicubic and smoothed
    where it is coarser; a rotary embedding needs nothing. Source: usual for vision transformers
    (as DINOv2 and timm do); the paper does not say.

    Raises:
        ValueError: the size is not a multiple of twice the patch.
    """
    config = dataclasses.replace(parent.config, size=size)
    child = LookWhen(config)
    weights = parent.state_dict()
    for part, (_, *before), (_, *after) in (
        ("selector", parent.config.selector_grid, config.selector_grid),
        ("extractor", parent.config.grid, config.grid),
    ):
        name = f"{part}.position.space"
        if name in weights:
            weights[name] = _resampled(weights[name], before, after)
    child.load_state_dict(weights)
    return child.train(parent.training)


def _resampled(table: Tensor, before: list[int], after: list[int]) -> Tensor:
    """One vector per cell of a (rows, columns) grid to another: [n, D] -> [rows * columns, D]."""
    picture = table.reshape(*before, -1).permute(2, 0, 1)[None]
    picture = F.interpolate(picture, after, mode="bicubic", align_corners=False, antialias=True)
    return picture[0].permute(1, 2, 0).flatten(0, 1)
