"""Merging tokens between attention and MLP: what ToMe and vid-TLDR share."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from model.layers import PreNormBlock
from networks.backbone import Backbone
from training.baselines.dense import Baseline, State


class Matching(NamedTuple):
    """Which of n tokens stay, which r go, and where they go.

    stay int64 [B, n - r]: indices of the tokens that stay, sources that were not matched first,
    then all destinations. go int64 [B, r]: indices of those merged. into int64 [B, r]: for each of
    these its destination, as an index into ``stay``.
    """

    stay: Tensor
    go: Tensor
    into: Tensor


@torch.no_grad()
def match(features: Tensor, r: int) -> Matching:
    """Bipartite soft matching: find the r tokens that resemble another one most.

    Every second token, from the second on, is a source, the others are destinations. Each source
    looks for its most similar destination by cosine; the r best pairs are taken. Several sources
    may go into one destination; a source never goes into a source.

    Args:
        features: [B, n, c].
        r: 0 <= r <= n // 2.

    Source: "Token Merging: Your ViT But Faster" (ICLR 2023).
    """
    n = features.shape[1]
    unit = F.normalize(features, dim=-1)
    similarity = unit[:, 1::2] @ unit[:, ::2].transpose(1, 2)  # [B, sources, destinations]
    best, destination = similarity.max(dim=-1)
    # Stable, so that equal pairs are taken in the order of their sources on every machine.
    order = best.argsort(dim=1, descending=True, stable=True)
    go, unmatched = order[:, :r], order[:, r:].sort(dim=1).values
    destinations = torch.arange(0, n, 2, device=features.device).expand(len(features), -1)
    return Matching(
        stay=torch.cat([2 * unmatched + 1, destinations], dim=1),
        go=2 * go + 1,
        into=unmatched.shape[1] + destination.gather(1, go),
    )


def merge(x: Tensor, weight: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """Replace each destination by the weighted mean of itself and what goes into it.

    The sum of the weights, and the weighted sum of the tokens, are what they were.

    Args:
        x: [B, n, D].
        weight: [B, n], positive.

    Returns:
        [B, n - r, D], and the weights [B, n - r], each the sum of what was merged.
    """
    total = add_up(weight[:, :, None], matching)
    merged = add_up(x * weight[:, :, None], matching) / total
    return merged.to(x.dtype), total[:, :, 0]


def add_up(values: Tensor, matching: Matching) -> Tensor:
    """Add the tokens that go to their destinations: [B, n, c] -> [B, n - r, c]."""
    channels = values.shape[-1]

    def spread(index: Tensor) -> Tensor:
        return index[:, :, None].expand(-1, -1, channels)

    stay = values.gather(1, spread(matching.stay))
    return stay.scatter_add(1, spread(matching.into), values.gather(1, spread(matching.go)))


def merge_schedule(r: int | Sequence[int], depth: int, tokens: int) -> tuple[int, ...]:
    """Tokens to merge in each layer, checked.

    Args:
        r: one number for all layers, or one for each of the first layers; the rest merge none.
        depth: layers.
        tokens: N, patch tokens that enter the first layer.

    Raises:
        ValueError: more numbers than layers, a negative number, or more than half of the tokens
            that reach a layer: each source can go only once, and sources are half of them.
    """
    given = (r,) * depth if isinstance(r, int) else tuple(r)
    if len(given) > depth:
        raise ValueError(f"the schedule has {len(given)} entries, the network {depth} layers")
    schedule = given + (0,) * (depth - len(given))
    for layer, merged in enumerate(schedule):
        if merged < 0:
            raise ValueError(f"layer {layer} cannot merge {merged} tokens")
        if merged > tokens // 2:
            raise ValueError(
                f"layer {layer} sees {tokens} tokens and can merge {tokens // 2} of them at most, "
                f"not {merged}"
            )
        tokens -= merged
    return schedule


class Merging(Baseline):
    """A method that merges ``schedule[i]`` tokens in layer i, between attention and MLP.

    Attention is proportional: a token that stands for s tokens is attended to as s tokens would
    be, by adding log s to the logits of its key; and it counts as s in mean pooling, which is our
    choice. The class token is never merged. A merged token keeps the place of its destination for
    the rotary embedding: our choice as well, since the methods were published for networks without
    one; the mean of the places would be the alternative.
    """

    def __init__(self, backbone: Backbone, r: int | Sequence[int]) -> None:
        """Merge tokens of ``backbone`` by the schedule ``r``, see :func:`merge_schedule`."""
        super().__init__(backbone)
        self.schedule = merge_schedule(r, self.config.depth, self.config.tokens)

    def run_layer(self, layer: int, block: PreNormBlock, state: State) -> State:
        r, P = self.schedule[layer], self.config.prefix
        rope = self.backbone.rotation(state.positions)
        # Without a merged token yet, None leaves attention its fastest way.
        bias = None if state.size is None else _log_size(state.size, P, state.x.dtype)
        if r == 0:
            return State(block(state.x, rope, bias), state.positions, state.size, None)

        q, k, v = block.attn.split(block.norm1(state.x))
        keys = k.mean(dim=1)[:, P:]
        if rope is not None:
            q, k = block.attn.rotate(q, rope), block.attn.rotate(k, rope)
        attended, saliency = self.attend(q, k, v, bias)
        x = state.x + block.drop_path(block.ls1(block.attn.join(attended, v)))

        matching = match(self.compared(keys, x[:, P:]), r)
        size = x.new_ones(len(x), x.shape[1] - P, dtype=torch.float32)
        if state.size is not None:
            size = state.size
        merged, _ = merge(x[:, P:], size if saliency is None else size * saliency, matching)
        x = torch.cat([x[:, :P], merged], dim=1)
        x = x + block.drop_path(block.ls2(block.mlp(block.norm2(x))))
        return State(
            x=x,
            positions=state.positions.gather(1, matching.stay),
            size=add_up(size[:, :, None], matching)[:, :, 0],
            mask=None,
        )

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Attention [B, h, P + n, d], and how salient each token is [B, n], where that counts."""
        raise NotImplementedError

    def compared(self, keys: Tensor, x: Tensor) -> Tensor:
        """What tokens are compared by: keys [B, n, d] (mean over heads) or x [B, n, D]."""
        raise NotImplementedError

    def counts(self, kept: int | None = None) -> tuple[int, ...]:
        places = list(super().counts(kept))
        for layer, merged in enumerate(self.schedule):
            places[layer + 1] = places[layer] - merged
        return tuple(places)


def _log_size(size: Tensor, prefix: int, dtype: torch.dtype) -> Tensor:
    """What proportional attention adds to the logits: [B, n] -> [B, 1, 1, P + n]."""
    return F.pad(size.log(), (prefix, 0)).to(dtype)[:, None, None, :]
