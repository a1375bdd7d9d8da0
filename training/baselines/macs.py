"""Multiply-accumulates of the dense backbone for any number of tokens in each layer.

Counted is what ``model.macs`` counts for LookWhen: all matrix products, and nothing else.
"""

import itertools
from collections.abc import Sequence

from training.baselines.config import DenseConfig


def macs(config: DenseConfig, counts: Sequence[int], *, matching_width: int = 0) -> int:
    """Count one view.

    Args:
        config: the backbone.
        counts: patch tokens at each of the ``depth + 1`` places between layers. Layer i attends
            over ``counts[i]`` tokens; what is merged there is gone before its MLP, which sees
            ``counts[i + 1]``. Tokens that never enter the first layer are not embedded either.
        matching_width: channels of the features that merging compares, 0 without merging: a layer
            that merges computes the similarity of every second token with every other.

    Raises:
        ValueError: not one count for each place, or more tokens after a layer than before it.
    """
    if len(counts) != config.depth + 1:
        raise ValueError(
            f"{config.name} has {config.depth} layers and needs {config.depth + 1} token counts, "
            f"got {len(counts)}"
        )
    D, P, ratio = config.twin.width, config.prefix, config.twin.mlp_ratio
    total = counts[0] * config.patch_values * D + D * len(config.twin.labels)
    for before, after in itertools.pairwise(counts):
        if not 1 <= after <= before:
            raise ValueError(f"a layer cannot turn {before} tokens into {after}")
        length = P + before
        total += 4 * D * D * length  # q, k, v, projection
        total += 2 * D * length * length  # q k^T and its product with v, over all heads
        total += 2 * ratio * D * D * (P + after)
        if after < before:
            total += (before // 2) * (before - before // 2) * matching_width
    return total
