"""Multiply-accumulates, counted from the configuration.

The paper calls them FLOPs. Counted are all matrix products: patch embeddings, a stem's
convolutions, projections, the two products of attention, MLPs, heads. Not counted, as usual: norms,
activations, softmax, additions.
"""

import functools
from dataclasses import dataclass

import torch

from model.config import ModelConfig
from model.efficientnet import EFFICIENTNET_LITE, POOLED, EfficientNetLite, multiply_accumulates


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-accumulates of one view as a polynomial in K, exact.

    ``selector + fixed + per_token * K + per_token_pair * K * K``; the last three are the
    extractor's, head included.
    """

    selector: int
    fixed: int
    per_token: int
    per_token_pair: int

    def at(self, kept: int) -> int:
        return self.selector + self.extractor_at(kept)

    def extractor_at(self, kept: int) -> int:
        return self.fixed + self.per_token * kept + self.per_token_pair * kept * kept


def cost(config: ModelConfig) -> Cost:
    """Count one view of ``config``."""
    D, P, n = config.width, config.context, config.selector_tokens
    token = (4 + 2 * config.mlp_ratio) * D * D  # q, k, v, projection; both layers of the MLP
    pair = 2 * D  # q k^T and its product with v, over all heads
    embed = config.patch_values * D
    if config.stem is not None:
        embed = stem_cost(config.stem, config.patch) + POOLED * D
    summary = 2 * POOLED * D if config.stem_summary else 0
    head = config.mlp_ratio * D * (D + 8)

    length = P + n
    selector = config.selector_depth * (token * length + pair * length * length)
    selector += n * (config.selector_patch_values * D + head)

    depth = config.extractor_depth
    return Cost(
        selector=selector,
        fixed=depth * (token * P + pair * P * P) + summary + D * len(config.labels),
        per_token=depth * (token + 2 * pair * P) + embed,
        per_token_pair=depth * pair,
    )


@functools.cache
def stem_cost(name: str, side: int) -> int:
    """Of one patch of ``side`` x ``side`` pixels in the stem of that name."""
    with torch.device("meta"):  # shapes alone
        network = EfficientNetLite(EFFICIENTNET_LITE[name]).eval()
    return multiply_accumulates(network, side)
