"""Multiply-accumulates of the published transformers, from the configuration alone.

Counted is what ``model.macs`` counts: all matrix products, and nothing else.
"""

from collections.abc import Sequence

from model.macs import Cost
from networks.backbone import layer_macs
from networks.config import Architecture, NetworkConfig


def cost(config: NetworkConfig) -> Cost:
    """Count one view as a polynomial in K, the tokens that are kept; there is no selector."""
    D, P = config.width, config.prefix
    token = 4 * D * D + 2 * D * config.mlp_width  # q, k, v, projection; both layers of the MLP
    pair = 2 * D  # q k^T and its product with v, over all heads
    fixed, each = _pooling(config)
    before = config.pooler_depth * _pooler_token(config)
    return Cost(
        selector=0,
        fixed=config.depth * (token * P + pair * P * P) + fixed,
        per_token=config.depth * (token + 2 * pair * P) + config.patch_values * D + before + each,
        per_token_pair=(config.depth + config.pooler_depth) * pair,
    )


def network_macs(config: NetworkConfig, counts: Sequence[int], *, matching_width: int = 0) -> int:
    """Count one view of which not every layer sees as many tokens.

    Arguments and errors are those of :func:`networks.backbone.layer_macs`.
    """
    total = layer_macs(config, counts, matching_width=matching_width)
    fixed, each = _pooling(config)
    last = counts[-1]
    block = _pooler_token(config) * last + 2 * config.width * last * last
    return total + config.pooler_depth * block + fixed + each * last


def _pooler_token(config: NetworkConfig) -> int:
    """What a token costs in a block in front of pooling, attention's pairs not counted."""
    return 4 * config.width**2 + 2 * config.width * config.pooler_mlp_width


def _pooling(config: NetworkConfig) -> tuple[int, int]:
    """(fixed, for each patch token) of pooling and head, without blocks that stand before it."""
    D, P, V = config.width, config.prefix, config.video_width
    head = V * len(config.labels)
    if not config.pooler_heads:
        return head, 0
    # One query asks all tokens. Keys and values are not made: the query goes through the matrix of
    # keys, and what it brings back through that of values, so that a token costs its products with
    # as many vectors as there are heads.
    each = 2 * config.pooler_heads * D
    query = 3 * D * D + each * P
    if config.architecture is Architecture.VJEPA2:
        return query + 2 * D * config.pooler_mlp_width + head, each
    poolers = max(1, len(config.budgets))
    return poolers * (query + D * V + head), poolers * each
