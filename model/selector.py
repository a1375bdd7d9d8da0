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

# Each selector token covers 2 x 2 x 2 tokens of the extractor's grid, or of a finer one where the
# selector has patches of its own.
_FINER = 2
# How loud a frame token's time is beside the class token that it starts as. Loud enough that frame
# tokens go different ways from the first block on, and quiet enough that the blocks still find the
# class token in them: our choice.
_TIME_SHARE = 0.5
# Root mean square of a random prefix; a class token that is quieter still gets a time as loud.
_PREFIX_STD = 0.02


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
        self.patch = config.selector_patch or config.patch
        self.embedding = PatchEmbedding(self.patch, config.width)
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
        nn.init.trunc_normal_(self.prefix, std=_PREFIX_STD)

    def forward(self, clip_small: Tensor) -> tuple[Tensor, Tensor]:
        """Score a downscaled clip.

        Args:
            clip_small: uint8 [B, T/2, H/2, W/2, 3].

        Returns:
            scores [B, N] for the extractor's grid, and context [B, P, D]: registers first, then
            one frame token per selector time step.
        """
        P = self.config.context
        tokens = self.embedding(patchify(clip_small, self.patch))
        tokens = tokens + self.position(self.positions)
        rope = None if self.rope is None else self.rope(self.positions)
        prefix = self.prefix.expand(tokens.shape[0], -1, -1).to(tokens.dtype)
        x = torch.cat([prefix, tokens], dim=1)
        for block in self.blocks:
            x = block(x, rope)
        x = self.norm(x)
        return self._shuffle(self.head(x[:, P:])), x[:, :P]

    @torch.no_grad()
    def start_context(self, registers: Tensor, class_token: Tensor) -> None:
        """Start the prefix as the tokens of a network that has one class token and no frame tokens.

        Each frame token becomes the class token plus the place in time of its own step: the row of
        the time table that the patch tokens of that step add, scaled to the class token's loudness.
        Without it frame tokens would be copies of one another. Attention treats copies alike and
        their gradients are equal, so that no training parts them.

        Source: our choice; neither paper says. Time is part of the start rather than a sum in
        :meth:`forward`, because each frame token's row is learned, and can hold whatever that sum
        could be. So trained networks answer as before, and the arithmetic stays the same.

        Args:
            registers: [r, D] for the first r registers, 1 <= r <= R; the others keep what chance
                gave them.
            class_token: [D].

        Raises:
            ValueError: the time table is the same at every step, so that it tells no time.
        """
        time = self.position.time
        if len(torch.unique(time, dim=0)) < len(time):
            raise ValueError("the selector's time table does not tell its steps apart")
        loudness = class_token.square().mean().sqrt().clamp(min=_PREFIX_STD)
        place = time * (_TIME_SHARE * loudness / time.square().mean().sqrt())
        self.prefix[: len(registers)] = registers
        self.prefix[self.config.registers :] = class_token + place

    def context_has_copies(self) -> bool:
        """Whether tokens of the prefix are copies of one another, which no training parts."""
        return len(torch.unique(self.prefix.detach(), dim=0)) < self.config.context

    def _shuffle(self, x: Tensor) -> Tensor:
        """Eight scores per coarse token to one per fine token: [B, n, 8] -> [B, N]."""
        frames, rows, columns = self.config.selector_grid
        x = x.reshape(-1, frames, rows, columns, _FINER, _FINER, _FINER)
        x = x.permute(0, 1, 4, 2, 5, 3, 6)
        _, wanted, _ = self.config.grid
        within = rows * _FINER // wanted
        if within > 1:  # patches of its own, finer than the extractor's: a token gets their mean
            x = x.reshape(-1, self.config.frames, wanted, within, wanted, within).mean(dim=(3, 5))
        return x.flatten(1)
