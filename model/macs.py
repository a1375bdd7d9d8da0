"""Multiply-accumulates, counted from the configuration.

The paper calls them FLOPs. Counted are all matrix products: patch embeddings, projections, the two
products of attention, MLPs, heads. Not counted, as usual: norms, activations, softmax, additions.
"""

from dataclasses import dataclass

from model.config import ModelConfig


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
    head = config.mlp_ratio * D * (D + 8)

    length = P + n
    selector = config.selector_depth * (token * length + pair * length * length)
    selector += n * (embed + head)

    depth = config.extractor_depth
    return Cost(
        selector=selector,
        fixed=depth * (token * P + pair * P * P) + D * len(config.labels),
        per_token=depth * (token + 2 * pair * P) + embed,
        per_token_pair=depth * pair,
    )
