"""InternVideo2's single-modality network (arXiv 2403.15377)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import LayerScale, Mlp, PreNormBlock, SelfAttention, initialise
from networks.config import NetworkConfig
from networks.network import VideoNetwork, linear_head
from networks.pooling import MeanAsks, with_prefix

# LayerScale's start; published weights replace it.
_SCALE = 1e-5


class RmsNorm(nn.Module):
    """Root mean square norm, computed in float32 whatever the precision around it."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps)
        return self.weight * normed.to(x.dtype)


class NormedAttention(SelfAttention):
    """Self-attention without biases of q, k, v; q and k are normed over all heads together."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__(width, heads, bias=False)
        self.q_norm = RmsNorm(width, eps)
        self.k_norm = RmsNorm(width, eps)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (
            part.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for part in (self.q_norm(q), self.k_norm(k), v)
        )
        return q, k, v


class InternVideo2(VideoNetwork):
    """A class token in front, a learned table of places, attention pooling without a final norm."""

    def __init__(self, config: NetworkConfig, drop_path: float = 0.0) -> None:
        super().__init__(config)
        D = config.width
        self.class_token = nn.Parameter(torch.zeros(1, D))
        self.positions = nn.Parameter(position_table(config))
        # Stochastic depth grows linearly with depth, as in DeiT.
        deepest = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                RmsNorm(D, config.norm_eps),
                self.attention(),
                RmsNorm(D, config.norm_eps),
                Mlp(D, config.mlp_width),
                (LayerScale(D, _SCALE), LayerScale(D, _SCALE)),
                drop_path * i / deepest,
            )
            for i in range(config.depth)
        )
        self.add_pooling()
        self.norm = nn.LayerNorm(config.video_width, eps=config.pooler_eps)
        self.apply(initialise)
        nn.init.trunc_normal_(self.class_token, std=0.02)

    def attention(self) -> SelfAttention:
        """The attention of one block."""
        return NormedAttention(self.config.width, self.config.heads, self.config.norm_eps)

    def add_pooling(self) -> None:
        """Set ``pooler`` and ``head``."""
        config = self.config
        self.pooler: nn.Module = MeanAsks(
            config.width, config.pooler_heads, config.video_width, config.pooler_eps
        )
        self.head = linear_head(config.video_width, config.labels)

    def embed(self, patches: Tensor, positions: Tensor) -> Tensor:
        tokens = self.embedding(patches)
        prefix = self.class_token.expand(tokens.shape[0], -1, -1)
        # The class token's place is looked up like all others: an export that finds their sum
        # constant keeps only that, and the weights could not be told apart again.
        places = F.pad(positions + 1, (self.config.prefix, 0))
        return torch.cat([prefix, tokens], dim=1) + self.positions[places]

    def pool(self, x: Tensor, weight: Tensor | None) -> Tensor:
        pooled: Tensor = self.norm(self.pooler(x, with_prefix(weight, self.config.prefix)))
        return pooled


def position_table(config: NetworkConfig) -> Tensor:
    """Where the learned table starts: 3-D sines and cosines [1 + N, D], zero for the class token.

    Source: that it starts so is the authors'; a quarter of the width for time, the rest for rows
    and columns, is our choice: published weights replace it.
    """
    D = config.width
    widths = (D // 4, (D - D // 4) // 2, D - D // 4 - (D - D // 4) // 2)
    axes = torch.meshgrid(*(torch.arange(n) for n in config.grid), indexing="ij")
    parts = []
    for axis, width in zip(axes, widths, strict=True):
        pairs = math.ceil(width / 2)
        frequencies = 10000.0 ** (-torch.arange(pairs) / pairs)
        angles = axis.reshape(-1, 1) * frequencies
        parts.append(torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width])
    return torch.cat([torch.zeros(1, D), torch.cat(parts, dim=1)])
