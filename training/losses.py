"""Losses on the selector's map."""

import torch
from torch import Tensor
from torch.nn import functional as F


def map_loss(scores: Tensor, target: Tensor, temperature: float) -> Tensor:
    """KL(softmax(target) || softmax(scores)) over all positions of a view, averaged over views.

    Args:
        scores: [B, N], the selector's.
        target: [B, N].
        temperature: what the target is divided by, in its own units.

    Source: LookWhere's map loss. Standardising the target within its view before the temperature
    is our choice, because a pixel target's scale depends on contrast and noise.
    """
    centred = target - target.mean(dim=1, keepdim=True)
    scaled = centred / (centred.std(dim=1, keepdim=True) + 1e-6) / temperature
    return F.kl_div(
        torch.log_softmax(scores.float(), dim=1),
        torch.log_softmax(scaled, dim=1),
        reduction="batchmean",
        log_target=True,
    )
