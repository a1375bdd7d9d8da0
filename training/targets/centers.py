"""K-center: the patches that cover a clip's feature space best, by farthest point sampling."""

import torch
from torch import Tensor

from bundle.tokens import tokens_to_keep
from training.targets.nearest import Metric, exact_products, prepare

# As many centers as tokens are kept at the lowest sparsity of training.
_SPARSITY = 0.70


def default_centers(features: Tensor) -> int:
    """How many of the patches of features [B, N, D] become centers."""
    return max(2, tokens_to_keep(_SPARSITY, features.shape[1]))


@torch.no_grad()
def k_center(features: Tensor, centers: int, *, metric: Metric = "cosine") -> Tensor:
    """Score patches by the order in which farthest point sampling takes them.

    Each next center is the patch farthest from all centers so far, and its score is that distance;
    the first gets the score of the second. Patches that are no centers score their distance to the
    nearest center. Scores fall with the order, so that for K up to ``centers`` the top K are the
    first K centers, and beyond that those that are worst covered.

    Args:
        features: [B, N, D] of any floating type.
        centers: 2 to N.
        metric: ``cosine`` or ``l2``.

    Returns:
        float32 [B, N], the L2 distance between features, for ``cosine`` after they were scaled to
        length one.

    Raises:
        ValueError: centers out of range, or no such metric.

    Source: a rival of the paper's target. To start from the patch that is farthest from the mean
    is our choice, because it needs no seed.
    """
    B, N, _ = features.shape
    if not 2 <= centers <= N:
        raise ValueError(f"centers must be between 2 and the {N} patches, got {centers}")
    with torch.autocast(features.device.type, enabled=False), exact_products():
        x = prepare(features, metric)
        norms = x.square().sum(dim=-1)
        clips = torch.arange(B, device=x.device)
        # Squared distance to the nearest center; below zero marks a center.
        uncovered = torch.full_like(norms, torch.inf)
        scores = torch.empty_like(norms)
        center = (x - x.mean(dim=1, keepdim=True)).square().sum(dim=-1).argmax(dim=1)
        first = center
        for taken in range(1, centers):
            products = torch.bmm(x, x[clips, center, :, None])[..., 0]
            squared = (norms + norms[clips, center, None] - 2 * products).clamp_min(0)
            uncovered = torch.minimum(uncovered, squared)
            uncovered[clips, center] = -1
            center = uncovered.argmax(dim=1)
            radius = uncovered[clips, center].sqrt()
            scores[clips, center] = radius
            if taken == 1:
                scores[clips, first] = radius
        # The last center covers others too.
        products = torch.bmm(x, x[clips, center, :, None])[..., 0]
        squared = (norms + norms[clips, center, None] - 2 * products).clamp_min(0)
        uncovered = torch.minimum(uncovered, squared)
        uncovered[clips, center] = -1
        return torch.where(uncovered < 0, scores, uncovered.clamp_min(0).sqrt())
