"""vid-TLDR: merge early, and let what attention finds salient weigh more in what is merged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from networks.backbone import Backbone
from training.baselines.merging import Merging

# Of 1568 tokens, in the first four of twelve layers.
PUBLISHED_SCHEDULE = (200, 200, 200, 100)

# What the background weighs: little enough to leave a merged token to its salient members, and
# enough that tokens of background alone merge to their plain mean.
_BACKGROUND = 1e-4


class VidTLDR(Merging):
    """Saliency-aware token merging in the first layers, without any training.

    Tokens are compared by the cosine of their features; a merged token is the mean of its members
    weighted by saliency times size. Layers that merge keep all attention weights, [B, h, L, L].

    Source: "vid-TLDR: Training Free Token merging for Light-weight Video Transformer" (CVPR 2024).
    That merging takes place between attention and MLP (as in ToMe), that proportional attention
    enters the saliency, the weight of the background, and no gradient through saliency are our
    choices.
    """

    def __init__(self, backbone: Backbone, r: int | Sequence[int]) -> None:
        super().__init__(backbone, r)
        self.matching_width = self.config.width

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        weights = (logits if bias is None else logits + bias).softmax(dim=-1)
        P = self.config.prefix
        return weights @ v, saliency(weights.detach().mean(dim=1)[:, P:])

    def compared(self, keys: Tensor, x: Tensor) -> Tensor:
        return x


def saliency(attention: Tensor) -> Tensor:
    """How sharply each token attends: [B, n, L], rows that sum to one -> [B, n], positive.

    A token of the background looks everywhere, one of an object looks at the object: the negative
    entropy of a token's attention, shifted to a lowest of 0 and scaled to a highest of 1. Tokens
    below the mean are background, and next to nothing is left of their weight; the others keep
    theirs. Last, weights are scaled to a mean of one, which means and orders do not depend on.
    """
    attention = attention.to(torch.float32)
    sharpness = torch.xlogy(attention, attention).sum(dim=-1)
    sharpness = sharpness - sharpness.amin(dim=1, keepdim=True)
    tiny = torch.finfo(torch.float32).tiny
    sharpness = sharpness / sharpness.amax(dim=1, keepdim=True).clamp(min=tiny)
    salient = sharpness >= sharpness.mean(dim=1, keepdim=True)
    weight = torch.where(salient, sharpness, 0.0) + _BACKGROUND
    return weight / weight.mean(dim=1, keepdim=True)
