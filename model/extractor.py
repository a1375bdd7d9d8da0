"""The extractor: a deep ViT that sees only the kept tokens and the selector's context."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.layers import AxialRope, Block, PatchEmbedding, PositionEmbedding, initialise
from model.stem import StemEmbedding, StemSummary


class Features(NamedTuple):
    """What the extractor knows of a view.

    video [B, D]; registers [B, R - 1, D], those after the video token; frames [B, T/2, D];
    patches [B, K, D], in the order the kept tokens came.
    """

    video: Tensor
    registers: Tensor
    frames: Tensor
    patches: Tensor


class Extractor(nn.Module):
    """What happens: the selector's context takes the place of class and frame tokens.

    Source: replacing the prefix without a projection is LookWhere's; depth and outputs the paper's.
    """

    def __init__(self, config: ModelConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.config = config
        _, rows, columns = config.grid
        self.embedding: PatchEmbedding | StemEmbedding = (
            PatchEmbedding(config.patch, config.width)
            if config.stem is None
            else StemEmbedding(config.stem, config.patch, config.width)
        )
        # Loud: where and when the kept tokens are says more about an event than what they look
        # like, and a network from scratch whose patches drown that does not find it out for
        # thousands of steps.
        self.position = PositionEmbedding(
            config.grid, config.width, space=not config.rope, amplitude=2.5
        )
        self.rope = (
            AxialRope(rows, columns, config.head_width, config.rope_base) if config.rope else None
        )
        # Stochastic depth grows linearly with depth, as in DeiT.
        deepest = max(1, config.extractor_depth - 1)
        self.blocks = nn.ModuleList(
            Block(config, drop_path * i / deepest) for i in range(config.extractor_depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.summary = StemSummary(config.width) if config.stem_summary else None
        self.apply(initialise)

    def forward(
        self,
        patches: Tensor,
        positions: Tensor,
        context: Tensor,
        lengths: Tensor | None = None,
    ) -> Features:
        """Extract features from kept tokens.

        Args:
            patches: uint8 [B, K, patch*patch*3]; with a stem also float [B, K, 1280], what the stem
                says of them.
            positions: int64 [B, K], each token's place in the view's grid; padding may hold any
                place of the grid.
            context: [B, P, D], the selector's.
            lengths: int64 [B], kept tokens of each row; the rest is padding, which no token can
                see. None means that every row keeps all K.
        """
        P, R = self.config.context, self.config.registers
        if isinstance(self.embedding, StemEmbedding):
            patches = self.embedding.seen(patches)
            embedded = self.embedding.embed(patches)
        else:
            embedded = self.embedding(patches)
        tokens = embedded + self.position(positions)
        rope = None if self.rope is None else self.rope(positions)
        x = torch.cat([context.to(tokens.dtype), tokens], dim=1)
        mask = kept = None
        if lengths is not None:
            places = torch.arange(x.shape[1], device=x.device)
            sees = places[None, :] < lengths[:, None] + P
            mask, kept = sees[:, None, None, :], sees[:, P:]
        for block in self.blocks:
            x = block(x, rope, mask)
        x = self.norm(x)
        video = x[:, 0]
        if self.summary is not None:
            video = video + self.summary(patches, kept)
        return Features(video, x[:, 1:R], x[:, R:P], x[:, P:])
