"""V-JEPA 2 (arXiv 2506.09985) and 2.1: rotary places in three dimensions, attentive pooling."""

import torch
from torch import Tensor, nn

from model.layers import Mlp, PreNormBlock, SelfAttention, initialise
from networks.config import NetworkConfig
from networks.network import VideoNetwork, linear_head
from networks.pooling import Asking, key_bias, weighted_mean


class NeighbourRotatedAttention(SelfAttention):
    """Self-attention whose rotation turns neighbouring channels against each other."""

    def rotate(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        cos, sin = rope
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return x * cos.to(x.dtype) + turned * sin.to(x.dtype)


class LearnedQueryAsks(nn.Module):
    """One learned query asks all tokens, then goes through an MLP."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        D, eps = config.width, config.pooler_eps
        self.query = nn.Parameter(torch.empty(1, D))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.norm1 = nn.LayerNorm(D, eps=eps)
        self.attn = Asking(D, config.pooler_heads)
        self.norm2 = nn.LayerNorm(D, eps=eps)
        self.mlp = Mlp(D, config.pooler_mlp_width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """[B, L, D], and what is added to the logits of keys -> [B, D]."""
        normed = self.norm1(x)
        # One query a row: of a query that is the same for all, an export keeps only its product
        # with the keys' matrix, and the weights could not be told apart again.
        query = self.query.expand(x.shape[0], -1)
        video = query + self.attn(query, normed, normed, bias)
        out: Tensor = video + self.mlp(self.norm2(video))
        return out


class VJepa2(VideoNetwork):
    """No class token and no table of places; a norm after the last block.

    Without pooler heads in the configuration (backbones that are published without a classifier)
    the video token is the mean of the normed tokens, which is our choice.
    """

    rates: Tensor

    def __init__(self, config: NetworkConfig, drop_path: float = 0.0) -> None:
        super().__init__(config)
        D, heads = config.width, config.heads
        # Stochastic depth grows linearly with depth, as in DeiT.
        deepest = max(1, config.depth - 1)

        def block(attn: SelfAttention, eps: float, mlp: int, drop: float = 0.0) -> PreNormBlock:
            norms = nn.LayerNorm(D, eps=eps), nn.LayerNorm(D, eps=eps)
            return PreNormBlock(norms[0], attn, norms[1], Mlp(D, mlp), None, drop)

        self.blocks = nn.ModuleList(
            block(
                NeighbourRotatedAttention(D, heads),
                config.norm_eps,
                config.mlp_width,
                drop_path * i / deepest,
            )
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(D, eps=config.norm_eps)
        self.pooler_blocks = nn.ModuleList(
            block(SelfAttention(D, config.pooler_heads), config.pooler_eps, config.pooler_mlp_width)
            for _ in range(config.pooler_depth)
        )
        self.pooler = LearnedQueryAsks(config) if config.pooler_heads else None
        self.head = linear_head(config.video_width, config.labels)
        part = rotated_part(config.head_width) // 2
        steps = torch.arange(part, dtype=torch.float32)
        self.register_buffer("rates", 10000.0 ** (-steps / max(1, part)), persistent=False)
        self.apply(initialise)

    def embed(self, patches: Tensor, positions: Tensor) -> Tensor:
        tokens: Tensor = self.embedding(patches)
        return tokens

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """int64 [B, K] -> cos and sin, each [B, 1, K, d].

        A head's channels are three parts of the same width for frame, row and column, and a rest
        that is not rotated. V-JEPA 2's rates of a part are laid side by side twice, although
        neighbouring channels are the pairs that turn; the published weights were trained with that.
        V-JEPA 2.1's stand in pairs, and its rows and columns count as those of a grid of 16.
        """
        _, rows, columns = self.config.grid
        frame, cell = positions // (rows * columns), positions % (rows * columns)
        axes = (
            frame.to(torch.float32),
            (cell // columns) * self._stretch(rows),
            (cell % columns) * self._stretch(columns),
        )
        parts = [axis[:, :, None] * self.rates for axis in axes]
        if self.config.paired_rates:
            parts = [torch.stack([part, part], dim=-1).flatten(-2) for part in parts]
        else:
            parts = [part.repeat(1, 1, 2) for part in parts]
        angles = torch.cat(parts, dim=-1)
        rest = self.config.head_width - angles.shape[-1]
        angles = nn.functional.pad(angles, (0, rest))[:, None]
        return angles.cos(), angles.sin()

    def _stretch(self, cells: int) -> float:
        """What a row's or column's number is multiplied by."""
        side = self.config.rotated_side
        return (side - 1) / (cells - 1) if side and cells > 1 else 1.0

    def pool(self, x: Tensor, weight: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.pooler is None:
            return weighted_mean(x, weight)
        bias = None if weight is None else key_bias(weight, x.dtype)
        for block in self.pooler_blocks:
            x = block(x, None, bias)
        pooled: Tensor = self.pooler(x, bias)
        return pooled


def rotated_part(head_width: int) -> int:
    """Channels of a head that turn with each of frame, row and column: 20 of 64."""
    return 2 * (head_width // 3 // 2)
