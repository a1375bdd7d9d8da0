"""How far each patch is from its nearest neighbours among all patches of the clip."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Metric = Literal["cosine", "l2"]
METRICS: tuple[Metric, ...] = get_args(Metric)

# Numbers in the largest table that is made, whatever the batch: 64 MiB of float32 on a CPU, 1 GiB
# on a GPU, where a table of a few rows is over before the next call has come.
CHUNK, GPU_CHUNK = 1 << 24, 1 << 28


def chunk_of(device: torch.device) -> int:
    """Numbers in the largest temporary table on a device."""
    return GPU_CHUNK if device.type == "cuda" else CHUNK


@torch.no_grad()
def topk_distance(
    features: Tensor, k: int = 1, *, metric: Metric = "cosine", chunk: int | None = None
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
        chunk: numbers in the largest temporary table, by default :func:`chunk_of` the device; it
            bounds memory and changes nothing else.

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
    chunk = chunk or chunk_of(features.device)
    with torch.autocast(features.device.type, enabled=False), exact_products():
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
            for some in torch.split(nearest, max(1, chunk // part.numel()), dim=-1):
                gaps = part[:, :, None] - x[clips[:, :, None], some]
                squared = gaps.square_().sum(dim=-1)
                # Between vectors of length one, |a - b|^2 = 2 - 2 cos.
                total += (squared / 2 if metric == "cosine" else squared.sqrt()).sum(dim=-1)
            distances[:, start : start + rows] = total / k
    return distances


@contextmanager
def exact_products() -> Iterator[None]:
    """Multiply in float32 even where TF32 is allowed, whose ten bits mistake near neighbours."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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
