"""A selector with weights for any published network: a small ViT on the downscaled clip.

Source: the paper's selector, a shallow ViT on a clip that is 2x smaller in each dimension. Ours is
narrower, hands on no context, because published networks take none, and one of its tokens covers
up to 2 x 2 x 2 tokens of the network, so that it costs about a hundredth of what it saves: our
choice, for networks of any width.

Shape letters: B batch, N tokens of the network, n of the selector, D width of the selector.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.layers import (
    Mlp,
    PatchEmbedding,
    PositionEmbedding,
    PreNormBlock,
    SelfAttention,
    initialise,
    patchify,
)
from networks.backbone import BackboneConfig
from networks.selectors import ClipSelector, SelectorInput, selector_input

_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class LearnedSelectorConfig:
    """Shape of a learned selector.

    Attributes:
        grid: (steps, rows, columns) of the network's tokens.
        side: of a token's cell, in pixels of the small clip.
        width, depth, heads: of its blocks.
    """

    grid: tuple[int, int, int]
    side: int
    width: int
    depth: int = 3
    heads: int = 6

    def __post_init__(self) -> None:
        if min(*self.grid, self.side, self.width, self.depth, self.heads) < 1:
            raise ValueError("a selector's sizes are at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")

    @classmethod
    def of(cls, config: BackboneConfig) -> "LearnedSelectorConfig":
        """The selector of a network: half as wide, heads as wide, three blocks."""
        heads = max(1, config.width // config.head_width // 2)
        given = selector_input(config)
        return cls(given.grid, given.side, heads * config.head_width, heads=heads)

    @property
    def finer(self) -> tuple[int, int, int]:
        """How many of the network's tokens one token covers along each axis: 2 where they pair."""
        steps, rows, columns = (2 if count % 2 == 0 else 1 for count in self.grid)
        # Cells are cut out as squares.
        space = min(rows, columns)
        return steps, space, space

    @property
    def coarse(self) -> tuple[int, int, int]:
        """(steps, rows, columns) of its own tokens."""
        steps, rows, columns = (
            count // finer for count, finer in zip(self.grid, self.finer, strict=True)
        )
        return steps, rows, columns

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "LearnedSelectorConfig":
        """Read what ``dataclasses.asdict`` gave.

        Raises:
            ValueError: a field is missing, unknown, or has a value that no selector can have.
        """
        try:
            return cls(**{**fields, "grid": tuple(fields["grid"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"a selector's configuration is not usable ({error})") from None


class LearnedSelector(ClipSelector):
    """Scores for all N tokens of a network; its ``macs`` are all matrix products."""

    positions: Tensor

    def __init__(self, config: LearnedSelectorConfig) -> None:
        super().__init__(SelectorInput(config.grid, config.side))
        self.config = config
        D = config.width
        steps, space, _ = config.finer
        self.embedding = PatchEmbedding(space * config.side, D, steps)
        # Quiet: what makes a token unique is its content.
        self.position = PositionEmbedding(config.coarse, D, space=True, amplitude=0.5)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                nn.LayerNorm(D, eps=_EPS),
                SelfAttention(D, config.heads),
                nn.LayerNorm(D, eps=_EPS),
                Mlp(D, 4 * D),
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(D, eps=_EPS)
        outputs = steps * space * space
        self.head = Mlp(D, 4 * D, outputs)
        frames, rows, columns = config.coarse
        n = frames * rows * columns
        self.register_buffer("positions", torch.arange(n)[None], persistent=False)
        self.apply(initialise)
        block = 12 * D * D * n + 2 * D * n * n
        ends = steps * (space * config.side) ** 2 * 3 * D + 4 * D * (D + outputs)
        self.macs = config.depth * block + n * ends

    def forward(self, clip_small: Tensor) -> Tensor:
        """uint8 [B, t, H', W', 3], a small frame for each step of the grid -> float [B, N]."""
        steps, space, _ = self.config.finer
        x = self.embedding(patchify(clip_small, space * self.config.side, steps))
        # Looked up for each row: of a table that is the same for all, an export keeps only the sum
        # of its parts, and the weights could not be told apart again.
        x = x + self.position(self.positions.expand(x.shape[0], -1))
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(self.norm(x))
        scores = scores.reshape(-1, *self.config.coarse, steps, space, space)
        return scores.permute(0, 1, 4, 2, 5, 3, 6).flatten(1)

    def as_json(self) -> dict[str, Any]:
        """Its configuration; :meth:`LearnedSelectorConfig.from_json` reads it."""
        return dataclasses.asdict(self.config)
