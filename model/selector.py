"""The selector: a shallow ViT on the downscaled clip that scores every space-time token."""

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.layers import (
    AxialRope,
    Block,
    Mlp,
    PatchEmbedding,
    PositionEmbedding,
    initialise,
    patchify,
)

# Each selector token covers 2 x 2 x 2 tokens of the extractor's grid.
_FINER = 2


class Selector(nn.Module):
    """Where and when to look: scores for all N tokens, and context for the extractor.

    Source: depth, input and what is handed on are the paper's; the head (an MLP with eight outputs
    and a pixel shuffle in three dimensions) extends LookWhere's, and reproduces the paper's cost.
    """

    positions: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        _, rows, columns = config.selector_grid
        self.embedding = PatchEmbedding(config)
        # Quiet: what makes a token unique is its content.
        self.position = PositionEmbedding(
            config.selector_grid, config.width, space=not config.rope, amplitude=0.5
        )
        self.rope = (
            AxialRope(rows, columns, config.head_width, config.rope_base) if config.rope else None
        )
        self.prefix = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.selector_depth))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = Mlp(config.width, config.mlp_ratio * config.width, _FINER**3)
        self.register_buffer(
            "positions", torch.arange(config.selector_tokens)[None], persistent=False
        )
        self.apply(initialise)
        nn.init.trunc_normal_(self.prefix, std=0.02)

    def forward(self, clip_small: Tensor) -> tuple[Tensor, Tensor]:
        """Score a downscaled clip.

        Args:
            clip_small: uint8 [B, T/2, H/2, W/2, 3].

        Returns:
            scores [B, N] for the extractor's grid, and context [B, P, D]: registers first, then
            one frame token per selector time step.
        """
        P = self.config.context
        tokens = self.embedding(patchify(clip_small, self.config.patch))
        tokens = tokens + self.position(self.positions)
        rope = None if self.rope is None else self.rope(self.positions)
        prefix = self.prefix.expand(tokens.shape[0], -1, -1).to(tokens.dtype)
        x = torch.cat([prefix, tokens], dim=1)
        for block in self.blocks:
            x = block(x, rope)
        x = self.norm(x)
        return self._shuffle(self.head(x[:, P:])), x[:, :P]

    def _shuffle(self, x: Tensor) -> Tensor:
        """Eight scores per coarse token to one per fine token: [B, n, 8] -> [B, N]."""
        frames, rows, columns = self.config.selector_grid
        x = x.reshape(-1, frames, rows, columns, _FINER, _FINER, _FINER)
        return x.permute(0, 1, 4, 2, 5, 3, 6).flatten(1)
