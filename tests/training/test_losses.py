"""Losses: the map's, the features', and the spread of kept tokens over the dense grid."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.losses import LossWeights, extractor_losses, feature_loss, map_loss, spread


def test_the_map_loss_is_the_divergence_of_softmaxes() -> None:
    scores = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    target = torch.tensor([[math.log(3), 0.0], [2.0, 1.0]])
    loss = map_loss(scores, target, 1.0, standardise=False)
    # The second row is already right: softmax does not see a shift.
    assert loss.item() == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2)
    warmer = map_loss(scores[:1], 2 * target[:1], 2.0, standardise=False)
    assert warmer.item() == pytest.approx(2 * loss.item())


def test_standardising_takes_the_targets_scale_out() -> None:
    scores, target = torch.randn(2, 30), torch.randn(2, 30)
    loss = map_loss(scores, target, 0.5)
    torch.testing.assert_close(map_loss(scores, 100 * target + 7, 0.5), loss, rtol=1e-3, atol=1e-4)
    assert map_loss(target / 0.5, target, 0.5, standardise=False) < 1e-5
    assert map_loss(target / 0.5, 9 * target, 0.5, standardise=False) > 0.1


def test_feature_loss_is_in_float32_and_refuses_other_shapes() -> None:
    loss = feature_loss(torch.ones(2, 3, dtype=torch.bfloat16), torch.zeros(2, 3))
    assert loss.dtype == torch.float32
    assert loss.item() == 1
    with pytest.raises(ValueError, match=r"\[2, 3\], the target is \[2, 1\]"):
        feature_loss(torch.ones(2, 3), torch.zeros(2, 1))


def spread_by_hand(features: Tensor, positions: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """One clip, place by place."""
    frames, rows, columns = grid
    out = []
    for place in range(frames * rows * columns):
        distances = []
        for order, kept in enumerate(positions.tolist()):
            ours, theirs = (
                (at // (rows * columns), at // columns % rows, at % columns) for at in (place, kept)
            )
            distances.append((math.dist(ours, theirs), order))
        nearest = sorted(distances)[:5]
        weights = [1 / (distance + 1e-8) for distance, _ in nearest]
        mixed = sum(w * features[order] for w, (_, order) in zip(weights, nearest, strict=True))
        out.append(mixed / sum(weights))
    return torch.stack(out)


@settings(max_examples=15, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    chunk=st.sampled_from([1, 200, 1 << 20]),
    data=st.data(),
)
def test_spread_takes_the_five_nearest(grid: tuple[int, int, int], chunk: int, data: Any) -> None:
    N = math.prod(grid)
    kept = data.draw(st.integers(1, N))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 100)))
    positions = torch.stack(
        [torch.randperm(N, generator=generator)[:kept].sort().values for _ in range(2)]
    )
    features = torch.randn(2, kept, 3, generator=generator)
    dense = spread(features, positions, grid, chunk=chunk)
    for one in range(2):
        expected = spread_by_hand(features[one].double(), positions[one], grid).float()
        torch.testing.assert_close(dense[one], expected, atol=1e-5, rtol=1e-5)


def test_spread_with_all_tokens_kept_changes_nothing() -> None:
    features = torch.randn(2, 24, 4)
    positions = torch.arange(24).expand(2, -1)
    torch.testing.assert_close(spread(features, positions, (2, 3, 4)), features, atol=1e-6, rtol=0)


def test_gradients_flow_to_the_kept_tokens() -> None:
    features = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)
    positions = torch.tensor([[0, 3, 4, 9, 15, 17]])
    assert torch.autograd.gradcheck(lambda x: spread(x, positions, (2, 3, 3)), features, atol=1e-5)
    half = features.detach().bfloat16().requires_grad_()
    dense = spread(half, positions, (2, 3, 3))
    assert dense.dtype == torch.bfloat16
    dense.float().sum().backward()
    # All places' weights together, shared among the tokens.
    assert half.grad.float().sum().item() == pytest.approx(2 * 18, rel=0.02)


def test_extractor_losses_are_those_of_the_targets_there_are() -> None:
    positions = torch.tensor([[1, 5, 6]])
    predicted = {
        "video": torch.zeros(1, 4),
        "patches": torch.ones(1, 3, 2),
        "frames": torch.ones(1),
    }
    targets = {"video": torch.full((1, 4), 2.0), "patches": torch.ones(1, 8, 2)}
    losses = extractor_losses(predicted, targets, positions, (2, 2, 2))
    assert losses.keys() == targets.keys()
    assert losses["video"].item() == 4
    assert losses["patches"].item() == pytest.approx(0, abs=1e-10)
    with pytest.raises(ValueError, match="nothing is predicted for the change target"):
        extractor_losses(predicted, {"change": torch.ones(1)}, positions, (2, 2, 2))


def test_weights_are_the_predecessors() -> None:
    losses = {"map": torch.tensor(1.0), "video": torch.tensor(2.0), "patches": torch.tensor(3.0)}
    assert LossWeights().total(losses).item() == pytest.approx(5.1)
    assert LossWeights(map=1, video=0).total(losses).item() == pytest.approx(4)
    with pytest.raises(ValueError, match="no weight for audio"):
        LossWeights().total({"audio": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="nothing to learn"):
        LossWeights().total({})
