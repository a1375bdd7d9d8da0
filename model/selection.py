"""Which tokens the extractor sees, in torch: the twin of ``bundle.tokens`` for training."""

import torch
from torch import Tensor


def select_top_k(scores: Tensor, k: int) -> Tensor:
    """Return the positions of the k highest scores of each row, ascending.

    Top-K is global over space-time; equal scores go to the lower position, exactly as
    :func:`bundle.tokens.select_top_k` decides it for serving (``torch.topk`` leaves ties open).

    Args:
        scores: [B, N].
        k: tokens to keep, 1 <= k <= N.

    Returns:
        int64 [B, k].

    Raises:
        ValueError: k out of range.
    """
    tokens = scores.shape[1]
    if not 1 <= k <= tokens:
        raise ValueError(f"k must be between 1 and the {tokens} tokens of a view, got {k}")
    order = torch.sort(scores.detach(), dim=1, descending=True, stable=True).indices
    return order[:, :k].sort(dim=1).values


def gather_tokens(patches: Tensor, positions: Tensor) -> Tensor:
    """Take the kept rows: [B, N, C] and int64 [B, K] -> [B, K, C]."""
    rows = torch.arange(patches.shape[0], device=patches.device)[:, None]
    return patches[rows, positions]
