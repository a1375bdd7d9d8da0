"""VideoMAE, VideoMAEv2 and UMT: a plain ViT with a fixed table of places and mean pooling.

Sources: VideoMAE (arXiv 2203.12602), VideoMAEv2 (arXiv 2303.16727), UMT (arXiv 2303.16058), whose
network is VideoMAE's with tubelets of one frame.
"""

import torch
from torch import Tensor, nn

from model.layers import Mlp, PreNormBlock, SelfAttention, initialise
from networks.config import NetworkConfig
from networks.network import VideoNetwork, linear_head
from networks.pooling import weighted_mean


class VideoMAE(VideoNetwork):
    """Joint space-time attention over tubelets; no class token; norm after the mean.

    The table of places is a buffer that is saved: networks for another number of frames than the
    pre-training's bring a resized one.
    """

    positions: Tensor

    def __init__(self, config: NetworkConfig, drop_path: float = 0.0) -> None:
        super().__init__(config)
        D, eps = config.width, config.norm_eps
        self.register_buffer("positions", sinusoids(config.tokens, D))
        # Stochastic depth grows linearly with depth, as in DeiT.
        deepest = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                nn.LayerNorm(D, eps=eps),
                SelfAttention(D, config.heads),
                nn.LayerNorm(D, eps=eps),
                Mlp(D, config.mlp_width),
                drop_path=drop_path * i / deepest,
            )
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(D, eps=config.pooler_eps)
        self.head = linear_head(config.video_width, config.labels)
        self.apply(initialise)

    def embed(self, patches: Tensor, positions: Tensor) -> Tensor:
        tokens: Tensor = self.embedding(patches) + self.positions[positions]
        return tokens

    def pool(self, x: Tensor, weight: Tensor | None) -> Tensor:
        pooled: Tensor = self.norm(weighted_mean(x, weight))
        return pooled


def sinusoids(count: int, width: int) -> Tensor:
    """The fixed table over the flat index of a token: [count, width].

    Channel j of place p is the sine (j even) or cosine (j odd) of p / 10000^(2 * (j // 2) / width).
    Source: VideoMAE, after "Attention is all you need".
    """
    channel = torch.arange(width, dtype=torch.float64)
    rates = 10000.0 ** (-2.0 * torch.div(channel, 2, rounding_mode="floor") / width)
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    table = torch.where(channel % 2 == 0, angles.sin(), angles.cos())
    return table.to(torch.float32)
