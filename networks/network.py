"""What every published network has in common: tokens in, logits and a video token out.

Shape letters: B batch, N tokens of a view, K kept tokens, P leading tokens (a class token or none),
L = P + K, D width, V width of the video token, h heads, d head width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.layers import PatchEmbedding, PreNormBlock
from networks.backbone import Backbone
from networks.config import NetworkConfig
from networks.macs import network_macs


class Output(NamedTuple):
    """logits [B, classes]; video [B, V], the pooled token that the head read."""

    logits: Tensor
    video: Tensor


class VideoNetwork(Backbone):
    """A transformer over the tokens of a view, any subset of which it can be shown.

    Its blocks are :class:`model.layers.PreNormBlock`, whatever they consist of, so that methods
    that drop or merge tokens between them run on all networks alike. A row's result depends on
    that row's tokens alone, not on what it is batched or padded with.
    """

    config: NetworkConfig
    head: nn.Module

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = PatchEmbedding(
            config.patch, config.width, config.tubelet, config.mean, config.std
        )

    def pool(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Pool what the last block gave: [B, P + K, D] -> [B, V]; ``weight`` as in ``classify``."""
        raise NotImplementedError

    def answer(self, x: Tensor, weight: Tensor | None) -> Output:
        """Pool and classify what the last block gave; arguments are those of ``classify``."""
        video = self.pool(x, weight)
        return Output(self.head(video), video)

    def classify(self, x: Tensor, weight: Tensor | None) -> Tensor:
        return self.answer(x, weight).logits

    def macs(self, counts: Sequence[int], *, matching_width: int = 0) -> int:
        return network_macs(self.config, counts, matching_width=matching_width)

    def forward(self, patches: Tensor, positions: Tensor, lengths: Tensor | None = None) -> Output:
        """Classify views by the tokens that are kept of them.

        Args:
            patches: uint8 [B, K, tubelet*patch*patch*3], as of :meth:`tubelets`.
            positions: int64 [B, K], each token's place in the view's grid; padding may hold any
                place of the grid.
            lengths: int64 [B], at least 1: kept tokens of each row; the rest is padding, which no
                token can see and no mean counts. None means that every row keeps all K.
        """
        P = self.config.prefix
        x = self.embed(patches, positions)
        rope = self.rotation(positions)
        mask = weight = None
        if lengths is not None:
            places = torch.arange(x.shape[1], device=x.device)
            seen = places[None, :] < lengths[:, None] + P
            mask, weight = seen[:, None, None, :], seen[:, P:].to(torch.float32)
        for block in self.blocks:
            assert isinstance(block, PreNormBlock)
            x = block(x, rope, mask)
        return self.answer(x, weight)


def linear_head(width: int, labels: Sequence[str]) -> nn.Module:
    """One row for each label on a token of ``width``; without labels, the identity."""
    return nn.Linear(width, len(labels)) if labels else nn.Identity()
