"""FluxViT (arXiv 2503.14237): InternVideo2 trained for any number of tokens."""

import torch
from torch import Tensor, nn

from model.layers import PatchEmbedding, SelfAttention
from networks.config import NetworkConfig
from networks.internvideo2 import InternVideo2, NormedAttention, RmsNorm
from networks.network import Output, linear_head
from networks.pooling import MeanAsks, with_prefix


class TwiceNormed(PatchEmbedding):
    """Patches normed before and after they are embedded."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config.patch, config.width, config.tubelet, config.mean, config.std)
        self.norm_before = RmsNorm(config.patch_values, config.norm_eps)
        self.norm = RmsNorm(config.width, config.norm_eps)

    def forward(self, patches: Tensor) -> Tensor:
        pixels = self.norm_before(self.normalise(patches))
        embedded: Tensor = self.norm(self.projection(pixels))
        return embedded


class ValueAddingAttention(NormedAttention):
    """Adds to what a token gathered its own value, scaled and shifted channel by channel."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__(width, heads, eps)
        self.own_scale = nn.Parameter(torch.ones(width))
        self.own_shift = nn.Parameter(torch.zeros(width))

    def join(self, attended: Tensor, values: Tensor) -> Tensor:
        gathered, own = (part.transpose(1, 2).flatten(2) for part in (attended, values))
        out: Tensor = self.proj(gathered + own * self.own_scale + self.own_shift)
        return out


class FluxViT(InternVideo2):
    """One pooler and one head for each of ``config.budgets``; the nearest one answers.

    All of them are computed, and each row takes the one for its own number of tokens, because the
    rows of a batch may differ in it: with one query a pooler costs next to nothing, so that this
    is cheaper than to fetch another set of weights for each row.

    The published table of places covers a larger grid and goes through an affine map first; both
    are applied when a checkpoint is read, since neither depends on the clip.
    """

    def __init__(self, config: NetworkConfig, drop_path: float = 0.0) -> None:
        super().__init__(config, drop_path)
        self.embedding = TwiceNormed(config)
        self.register_buffer("budgets", torch.tensor(config.budgets), persistent=False)

    budgets: Tensor

    def attention(self) -> SelfAttention:
        return ValueAddingAttention(self.config.width, self.config.heads, self.config.norm_eps)

    def add_pooling(self) -> None:
        config = self.config
        self.pooler = nn.ModuleList(
            MeanAsks(config.width, config.pooler_heads, config.video_width, config.pooler_eps)
            for _ in config.budgets
        )
        self.head = nn.ModuleList(
            linear_head(config.video_width, config.labels) for _ in config.budgets
        )

    def pool(self, x: Tensor, weight: Tensor | None) -> Tensor:
        return self.answer(x, weight).video

    def answer(self, x: Tensor, weight: Tensor | None) -> Output:
        P = self.config.prefix
        counted = with_prefix(weight, P)
        assert isinstance(self.pooler, nn.ModuleList)
        assert isinstance(self.head, nn.ModuleList)
        videos = [self.norm(pooler(x, counted)) for pooler in self.pooler]
        logits = [head(video) for head, video in zip(self.head, videos, strict=True)]
        if weight is None:
            kept = torch.full_like(x[:, 0, 0], x.shape[1] - P, dtype=torch.int64)
        else:
            kept = (weight > 0).sum(dim=1)
        chosen = (kept[:, None] - self.budgets).abs().argmin(dim=1)
        return Output(_rows_of(logits, chosen), _rows_of(videos, chosen))


def _rows_of(choices: list[Tensor], chosen: Tensor) -> Tensor:
    """Row b of choice ``chosen[b]``: n of [B, C] and int64 [B] -> [B, C]."""
    stacked = torch.stack(choices, dim=1)
    index = chosen[:, None, None].expand(-1, 1, stacked.shape[-1])
    return stacked.gather(1, index)[:, 0]
