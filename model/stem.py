"""A published convolutional network that looks at each kept patch, in place of one matrix.

The network sees a patch alone, without its surroundings, so that tokens that are dropped cost
nothing. Source: our choice. The paper's extractor is a whole published vision transformer; where
there are few cores and few clips, a small network that knows pictures already is the better start.
"""

import torch
from torch import Tensor, nn

from model.efficientnet import EFFICIENTNET_LITE, MEAN, POOLED, STD, EfficientNetLite

# Keeps roots and their slopes finite.
_LEAST = 1e-6


class StemEmbedding(nn.Module):
    """Raw uint8 patches to tokens, as :class:`model.layers.PatchEmbedding` does.

    The network is frozen, and its norms keep the statistics that they were published with: a few
    hundred clips would spoil both. So what it says of a patch can be stored, and
    training goes on from what is stored.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, patch: int, width: int) -> None:
        """``name``: one of ``EFFICIENTNET_LITE``; ``patch``: pixels on a side."""
        super().__init__()
        self.patch = patch
        self.network = EfficientNetLite(EFFICIENTNET_LITE[name]).eval().requires_grad_(False)
        # Pooled features are 0 or more, and a few of them are many times as large as the rest.
        self.norm = nn.LayerNorm(POOLED)
        self.projection = nn.Linear(POOLED, width)
        self.register_buffer("mean", torch.tensor(MEAN).mul(255)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD).mul(255)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> "StemEmbedding":
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, patches: Tensor) -> Tensor:
        """uint8 [B, K, patch*patch*3], or what :meth:`look` says of them -> [B, K, D]."""
        return self.embed(self.seen(patches))

    def seen(self, patches: Tensor) -> Tensor:
        """What the network says of patches, or has said of them: either kind -> [B, K, 1280]."""
        seen = patches if patches.is_floating_point() else self.look(patches)
        return seen.to(self.projection.weight.dtype)

    def embed(self, seen: Tensor) -> Tensor:
        """Tokens of what the network says: [B, K, 1280] -> [B, K, D]."""
        embedded: Tensor = self.projection(self.norm(seen))
        return embedded

    def look(self, patches: Tensor) -> Tensor:
        """What the network says of each patch: uint8 [B, K, patch*patch*3] -> [B, K, 1280]."""
        B, K, _ = patches.shape
        pixels = patches.reshape(B * K, self.patch, self.patch, 3).permute(0, 3, 1, 2)
        pooled: Tensor
        with torch.no_grad():
            pooled, _ = self.network((pixels.to(self.mean.dtype) - self.mean) / self.std)
        return pooled.reshape(B, K, POOLED)


class StemSummary(nn.Module):
    """What a view holds as a whole, where and when left aside.

    The mean and the spread over the kept tokens of what the stem says, by one matrix. Of 21
    classes with 35 clips each it learns more than the transformer above the same tokens
    (docs/experiments.md). Source: our choice.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * POOLED)
        self.projection = nn.Linear(2 * POOLED, width)
        self.dropout = nn.Dropout(0.0)  # of what training sets

    def forward(self, seen: Tensor, kept: Tensor | None = None) -> Tensor:
        """[B, K, 1280] -> [B, D].

        Args:
            kept: bool [B, K], False where a row is padded; None where none is.
        """
        if kept is None:
            mean = seen.mean(dim=1)
            spread = (seen - mean[:, None]).square().mean(dim=1)
        else:
            counts = kept[:, :, None].to(seen.dtype)
            total = counts.sum(dim=1)
            mean = (seen * counts).sum(dim=1) / total
            spread = ((seen - mean[:, None]).square() * counts).sum(dim=1) / total
        # Roots bring the few features that are many times as large as the rest nearer to these.
        both = torch.cat([mean.clamp_min(0), (spread + _LEAST).sqrt()], dim=1)
        summary: Tensor = self.dropout(self.projection(self.norm((both + _LEAST).sqrt())))
        return summary
