"""How far each patch is from its nearest neighbours among all patches of the clip."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Metric = Literal["cosine", "l2"]
METRICS: tuple[Metric, ...] = get_args(Metric)

# Numbers in the largest table that is made: 16 MiB of float32, whatever the batch.
CHUNK = 1 << 22


@torch.no_grad()
def topk_distance(
    features: Tensor, k: int = 1, *, metric: Metric = "cosine", chunk: int = CHUNK
) -> Tensor:
    """Mean distance of each patch to its ``k`` nearest others, in feature space.

    A patch that looks like another one, in its own frame or at any other time, tells little and
    scores low; what occurs once scores high. All patches of the clip are searched, the patch itself
    is not.

    Exact but for rounding: neighbours are found from products of features, a few rows of the N x N
    table at a time; distances to them are then taken from differences, because products cancel
    where patches are nearly alike. Autocast does not reach in here.

    Args:
        features: [B, N, D] of any floating type, not zero where the metric is cosine.
        k: 1 to N - 1.
        metric: ``cosine`` (1 - cosine similarity, 0 to 2) or ``l2`` (Euclidean, in units of the
            features).
        chunk: numbers in the largest temporary table; it bounds memory and changes nothing else.

    Returns:
        float32 [B, N].

    Raises:
        ValueError: k out of range, or no such metric.

    Source: the paper's selection target is k = 1 on an image teacher's patches; it does not name
    its metric. Cosine as default is our choice, because it does not depend on the features' scale.
    """
    B, N, D = features.shape
    if not 1 <= k < N:
        raise ValueError(f"k must be between 1 and the {N - 1} other patches, got {k}")
    with torch.autocast(features.device.type, enabled=False):
        x = prepare(features, metric)
        half_norms = x.square().sum(dim=-1)[:, None, :] / 2
        clips = torch.arange(B, device=x.device)[:, None]
        distances = x.new_empty(B, N)
        rows = max(1, chunk // (B * max(N, D)))
        for start in range(0, N, rows):
            part = x[:, start : start + rows]
            # a b - |b|^2 / 2 orders all b as their distance to a does.
            closeness = torch.baddbmm(half_norms, part, x.mT, beta=-1)
            closeness.diagonal(offset=start, dim1=1, dim2=2).fill_(-torch.inf)
            if k == 1:
                nearest = closeness.argmax(dim=-1, keepdim=True)
            else:
                nearest = closeness.topk(k, dim=-1, sorted=False).indices
            total = x.new_zeros(part.shape[:2])
            for neighbour in nearest.unbind(dim=-1):
                squared = (part - x[clips, neighbour]).square().sum(dim=-1)
                # Between vectors of length one, |a - b|^2 = 2 - 2 cos.
                total += squared / 2 if metric == "cosine" else squared.sqrt()
            distances[:, start : start + rows] = total / k
    return distances


def prepare(features: Tensor, metric: Metric) -> Tensor:
    """float32 features between which L2 distances order as ``metric`` does: [B, N, D] -> the same.

    Raises:
        ValueError: no such metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    x = features.float()
    if metric == "cosine":
        return F.normalize(x, dim=-1)
    # What all patches share would only cost digits.
    return x - x.mean(dim=1, keepdim=True)
