"""Mixup: two clips shown as one, with the targets of both.

The frames are mixed before either network sees them, so that the selector chooses tokens of the
clip that the extractor is then shown. Mixing kept patches instead would mix tokens of different
places.

Source: mixup is Zhang et al.'s, on inputs and targets; that a frozen selector may choose within a
mixed clip, where it scores what moves in either, is our choice.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Beta


class Mixture(NamedTuple):
    """Which rows are mixed: partner int64 [B]; weight float32 [B], each row's own share."""

    partner: Tensor
    weight: Tensor


def draw_mixture(rows: int, alpha: float, share: float) -> Mixture:
    """Pair each row with the next; chance is torch's global generator.

    Args:
        rows: B.
        alpha: of the Beta distribution that each row's weight is drawn from: 0.2 mostly leaves one
            of the two barely visible, 1 makes every weight as likely.
        share: of the rows that are mixed at all.

    Raises:
        ValueError: alpha not above 0.
    """
    if alpha <= 0:
        raise ValueError(f"mixup needs an alpha above 0, got {alpha}")
    weight = Beta(alpha, alpha).sample((rows,))
    weight = torch.where(torch.rand(rows) < share, weight, 1.0)
    return Mixture((torch.arange(rows) + 1) % rows, weight)


def mix(values: Tensor, mixture: Mixture) -> Tensor:
    """Mix rows: [B, ...], of the same type; integers are rounded.

    Mixed frames, downscaled, are the downscaled frames mixed, to within one grey level.
    """
    partner = mixture.partner.tolist()
    mixed = torch.empty_like(values)
    # Row by row: whole batches of frames as floats would take as much memory as the network.
    for row, weight in enumerate(mixture.weight.tolist()):
        if weight == 1.0:
            mixed[row] = values[row]
            continue
        value = values[row].float() * weight + values[partner[row]].float() * (1 - weight)
        mixed[row] = value if values.is_floating_point() else value.round()
    return mixed
