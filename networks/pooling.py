"""Attention pooling: one query asks all tokens of a view.

Shape letters as in ``network.py``. With a single query, keys and values need not be made: a key's
product with the query is the token's product with the query taken back through the keys' matrix,
and the weighted mean of values is the value of the weighted mean. The results are the same, at
``2 * h * D`` multiplications for a token instead of ``2 * D * D``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def weighted_mean(x: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over tokens: [B, L, D] and [B, L] -> [B, D]; what weighs 0 may be anything finite."""
    if weight is None:
        return x.mean(dim=1)
    share = (weight / weight.sum(dim=1, keepdim=True)).to(x.dtype)
    return (x * share[:, :, None]).sum(dim=1)


def key_bias(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the logits of keys: [B, L] -> [B, 1, 1, L].

    The logarithm of what a token counts: one that stands for s tokens is attended to as s would be
    (proportional attention, as in the blocks of ToMe), padding not at all.
    """
    lowest = torch.finfo(dtype).min
    return weight.log().clamp(min=lowest).to(dtype)[:, None, None, :]


class Asking(nn.Module):
    """Multi-head attention of one query to all tokens, without the projection that follows.

    Keys have no bias: it would add the same to all logits of a head.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)

    def forward(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Ask: [B, D], [B, L, D], [B, L, D] -> [B, D]; ``bias`` is that of :func:`key_bias`."""
        # Products of three axes: of four, with one of heads that keys have not, training would keep
        # a copy of all tokens for each head.
        mean = self.weights(query, keys, bias)[:, :, 0] @ values  # [B, h, D]
        matrices = self.value.weight.reshape(self.heads, -1, mean.shape[-1])  # [h, d, D]
        valued = mean.transpose(0, 1) @ matrices.transpose(-1, -2)  # [h, B, d]
        out: Tensor = valued.transpose(0, 1).flatten(1) + self.value.bias
        return out

    def weights(self, query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
        """How much of each token is taken: [B, h, 1, L]."""
        asked: Tensor = self.query(query).reshape(query.shape[0], self.heads, -1)  # [B, h, d]
        matrices = self.key.weight.reshape(self.heads, -1, keys.shape[-1])  # [h, d, D]
        looked = (asked * asked.shape[-1] ** -0.5).transpose(0, 1) @ matrices  # [h, B, D]
        logits = (looked.transpose(0, 1) @ keys.transpose(-1, -2))[:, :, None]
        weights: Tensor = (logits if bias is None else logits + bias).softmax(dim=-1)
        return weights


class MeanAsks(nn.Module):
    """The mean of all tokens asks all tokens: InternVideo2's pooling, without residual or MLP."""

    def __init__(self, width: int, heads: int, out: int, eps: float) -> None:
        super().__init__()
        self.norm_q = nn.LayerNorm(width, eps=eps)
        self.norm_k = nn.LayerNorm(width, eps=eps)
        self.norm_v = nn.LayerNorm(width, eps=eps)
        self.attn = Asking(width, heads)
        self.proj = nn.Linear(width, out)

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """[B, L, D], and what each token counts [B, L] -> [B, out]."""
        query, bias = self._query(x, weight)
        asked = self.attn(query, self.norm_k(x), self.norm_v(x), bias)
        pooled: Tensor = self.proj(asked)
        return pooled

    def weights(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """What it looks at, averaged over heads: [B, L, D] -> [B, L]."""
        query, bias = self._query(x, weight)
        return self.attn.weights(query, self.norm_k(x), bias).mean(dim=1)[:, 0]

    def _query(self, x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        bias = None if weight is None else key_bias(weight, x.dtype)
        return self.norm_q(weighted_mean(x, weight)), bias


def with_prefix(weight: Tensor | None, prefix: int) -> Tensor | None:
    """Let the leading tokens count 1 each: [B, K] -> [B, P + K]."""
    return None if weight is None else F.pad(weight, (prefix, 0), value=1.0)
