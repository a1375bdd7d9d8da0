"""The same network for views of another size."""

import dataclasses

from torch import Tensor
from torch.nn import functional as F

from model.classifier import LookWhen

_TABLE = "position.space"


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
    for part, (_, rows, columns) in (
        ("selector", config.selector_grid),
        ("extractor", config.grid),
    ):
        name = f"{part}.{_TABLE}"
        if name in weights:
            weights[name] = _resampled(weights[name], rows, columns)
    child.load_state_dict(weights)
    return child.train(parent.training)


def _resampled(table: Tensor, rows: int, columns: int) -> Tensor:
    """One vector per cell of a square grid to another grid: [n * n, D] -> [rows * columns, D]."""
    side = round(table.shape[0] ** 0.5)
    picture = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    picture = F.interpolate(
        picture, (rows, columns), mode="bicubic", align_corners=False, antialias=True
    )
    return picture[0].permute(1, 2, 0).reshape(rows * columns, -1)
