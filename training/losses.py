"""Losses on the selector's map and on the extractor's tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def map_loss(
    scores: Tensor, target: Tensor, temperature: float, *, standardise: bool = True
) -> Tensor:
    """KL(softmax(target) || softmax(scores)) over all positions of a view, averaged over views.

    Args:
        scores: [B, N], the selector's.
        target: [B, N].
        temperature: what the target is divided by, in its own units.
        standardise: bring the target to mean 0 and deviation 1 within its view first.

    Source: LookWhere's map loss, which is ``temperature=1, standardise=False``. Standardising is
    our choice, because a pixel target's scale depends on contrast and noise.
    """
    scaled = target.float()
    if standardise:
        centred = scaled - scaled.mean(dim=1, keepdim=True)
        scaled = centred / (centred.std(dim=1, keepdim=True) + 1e-6)
    return F.kl_div(
        torch.log_softmax(scores.float(), dim=1),
        torch.log_softmax(scaled / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def feature_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error in float32, over everything.

    Raises:
        ValueError: shapes differ.

    Source: LookWhere's loss for class and patch tokens.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"predicted {list(predicted.shape)}, the target is {list(target.shape)}")
    return F.mse_loss(predicted.float(), target.float())


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What each loss counts. Source: LookWhere's, 0.1 for the map and 1 for features."""

    map: float = 0.1
    video: float = 1.0
    change: float = 1.0
    frames: float = 1.0
    patches: float = 1.0

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of losses by name.

        Raises:
            ValueError: a loss without a weight, or none at all.
        """
        known = type(self).__slots__
        if unknown := sorted(losses.keys() - set(known)):
            raise ValueError(f"no weight for {', '.join(unknown)}; known: {', '.join(known)}")
        if not losses:
            raise ValueError("there is nothing to learn from: all targets are switched off")
        terms = [getattr(self, name) * loss for name, loss in losses.items()]
        return torch.stack(terms).sum()


def extractor_losses(
    predicted: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    positions: Tensor,
    grid: tuple[int, int, int],
) -> dict[str, Tensor]:
    """The loss of each target that there is.

    Args:
        predicted: what heads on the extractor's tokens predict, by the targets' names, of the
            targets' shapes; ``patches`` is [B, K, D], of the kept tokens.
        targets: from ``ExtractorTargets.build``.
        positions: int64 [B, K], places of the kept tokens.
        grid: (frames, rows, columns) of the extractor's tokens.

    Raises:
        ValueError: nothing is predicted for a target, or shapes differ.
    """
    losses = {}
    for name, target in targets.items():
        if name not in predicted:
            raise ValueError(f"nothing is predicted for the {name} target")
        made = predicted[name]
        if name == "patches":
            made = spread(made, positions, grid)
        losses[name] = feature_loss(made, target)
    return losses


# Numbers in the largest table of distances: 64 MiB on a CPU, 1 GiB on a GPU, of int32.
CHUNK, GPU_CHUNK = 1 << 24, 1 << 28


def spread(
    features: Tensor,
    positions: Tensor,
    grid: tuple[int, int, int],
    *,
    neighbours: int = 5,
    chunk: int | None = None,
) -> Tensor:
    """Spread the kept tokens' features over the dense grid.

    Each place takes the mean of its nearest kept tokens, weighted by 1 / (d + 1e-8): a kept
    token's own place keeps its features but for 1e-8. Of tokens equally far, those earlier in
    ``positions`` are taken.

    Args:
        features: [B, K, D]; gradients flow back to them.
        positions: int64 [B, K].
        grid: (frames, rows, columns), N places.
        neighbours: at most K are used.
        chunk: numbers in the largest table of distances, by default by the device; it bounds memory
            and changes nothing else.

    Returns:
        [B, N, D] of the features' type.

    Source: LookWhere, in two dimensions. Counting a frame like a row or a column is our choice.
    """
    B, K, D = features.shape
    frames, rows, columns = grid
    N = frames * rows * columns
    if chunk is None:
        chunk = GPU_CHUNK if positions.is_cuda else CHUNK
    # Whole numbers that hold distance and order: every device breaks ties alike. Of int32 where
    # they fit, which takes half of the memory and of the time.
    farthest = (frames - 1) ** 2 + (rows - 1) ** 2 + (columns - 1) ** 2
    kind = torch.int32 if (farthest + 1) * K < 2**31 else torch.int64
    places = _coordinates(torch.arange(N, device=positions.device), grid).to(kind)
    kept = _coordinates(positions, grid).to(kind)
    order = torch.arange(K, device=positions.device, dtype=kind)
    offsets = K * torch.arange(B, device=positions.device)[:, None, None]
    indices, weights = [], []
    for part in torch.split(places, max(1, chunk // (B * K))):
        # |a - b|^2 axis by axis, because a table of all three would be three times as large.
        key = (part[None, :, None, 0] - kept[:, None, :, 0]).square_()
        for axis in (1, 2):
            key += (part[None, :, None, axis] - kept[:, None, :, axis]).square_()
        key = key.mul_(K).add_(order).topk(min(neighbours, K), dim=-1, largest=False).values
        nearness = 1 / ((key // K).float().sqrt() + 1e-8)
        indices.append((key % K).long() + offsets)
        weights.append(nearness / nearness.sum(dim=-1, keepdim=True))
    # Unlike gathering, a bag never holds all neighbours' features, forward or backward.
    bags = F.embedding_bag(
        torch.cat(indices, dim=1).flatten(0, 1),
        features.reshape(B * K, D),
        per_sample_weights=torch.cat(weights, dim=1).flatten(0, 1).to(features.dtype),
        mode="sum",
    )
    return bags.reshape(B, N, D)


def _coordinates(positions: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """int64 [...] -> int64 [..., 3]: frame, row, column."""
    _, rows, columns = grid
    cells = rows * columns
    frame, cell = positions // cells, positions % cells
    return torch.stack([frame, cell // columns, cell % columns], dim=-1)
