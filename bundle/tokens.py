"""How many tokens a sparsity keeps, and which: the one place for both, on numpy."""

import math

import numpy as np
from numpy.typing import NDArray

# (1 - 0.9) * 1005 is 100.49999999999997 in binary; a hair on top makes the half that the caller
# wrote round as a half.
_REPRESENTATION_ERROR = 1e-9


def tokens_to_keep(sparsity: float, tokens: int) -> int:
    """Return K = round((1 - sparsity) * tokens), halves rounded up, and at least 1.

    Args:
        sparsity: share of the tokens to drop, 0 <= sparsity < 1.
        tokens: tokens of one view (frames * rows * columns).

    Raises:
        ValueError: sparsity outside [0, 1), or no tokens at all.

    Source: the paper's K = round((1 - s) * 3136); rounding halves up and keeping at least one
    token are our choice, because Python's rounding to even would make K jump unevenly.
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity must be at least 0 and below 1, got {sparsity}")
    if tokens < 1:
        raise ValueError(f"a view has at least one token, got {tokens}")
    return max(1, math.floor((1.0 - sparsity) * tokens + 0.5 + _REPRESENTATION_ERROR))


def rank(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the positions of each row from its highest score to its lowest.

    Equal scores go to the lower position, so that the selection is the same on every machine.

    Args:
        scores: [B, N], one score per token; frame-major, then row, then column.

    Returns:
        int64 [B, N]; the first K of a row, sorted, are what :func:`select_top_k` gives.

    Raises:
        ValueError: scores are not [B, N], or hold NaN.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be [B, N], got shape {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN: the selector's output cannot be ranked")
    return np.argsort(-scores, axis=1, kind="stable").astype(np.int64, copy=False)


def select_top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the positions of the k highest scores of each row, in ascending order.

    The k are drawn from all of space-time at once, not per frame (paper, figure of selections).
    Equal scores go to the lower position, as in :func:`rank`.

    Args:
        scores: [B, N], one score per token; frame-major, then row, then column.
        k: tokens to keep, 1 <= k <= N.

    Returns:
        int64 [B, k], each row strictly ascending.

    Raises:
        ValueError: scores are not [B, N], hold NaN, or k is out of range.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be [B, N], got shape {scores.shape}")
    tokens = scores.shape[1]
    if not 1 <= k <= tokens:
        raise ValueError(f"k must be between 1 and the {tokens} tokens of a view, got {k}")
    return np.sort(rank(scores)[:, :k], axis=1)
