"""What self-distillation is made of: masks, and the terms of its loss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.teachers.crops import block_mask
from training.teachers.distillation import alike, crop_loss, koleo, sinkhorn


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 1000))
def test_a_block_mask_has_exactly_as_many_cells(
    rows: int, columns: int, share: float, seed: int
) -> None:
    masked = round(share * rows * columns)
    mask = block_mask(rows, columns, masked, np.random.default_rng(seed))
    assert mask.shape == (rows, columns)
    assert mask.sum() == masked


def test_sinkhorn_gives_every_prototype_as_much() -> None:
    torch.manual_seed(0)
    similarities = torch.rand(64, 8) * 2 - 1
    similarities[:, 0] = 0.9  # without it, all rows would choose the first
    shares = sinkhorn(similarities, 0.1, iterations=50)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(shares.sum(dim=0), torch.full((8,), 8.0), atol=1e-2, rtol=0)
    assert sinkhorn(torch.full((3, 5), -1.0), 0.04).isfinite().all()


def test_each_crop_predicts_every_other_global_one() -> None:
    predicted = torch.log_softmax(torch.randn(3, 2, 4), dim=-1)  # two global crops, a local one
    target = torch.softmax(torch.randn(2, 2, 4), dim=-1)
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2)]  # (teacher's, student's)
    by_hand = [
        -sum(float(target[t, b, c] * predicted[s, b, c]) for b in range(2) for c in range(4)) / 2
        for t, s in pairs
    ]
    assert float(crop_loss(predicted, target)) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_koleo_is_higher_where_tokens_crowd_and_never_without_gradient() -> None:
    apart, close = torch.eye(4), torch.eye(4) * 0.1 + 1
    assert koleo(apart) < koleo(close)
    assert float(koleo(apart)) == pytest.approx(-0.5 * np.log(2), abs=1e-3)
    same = torch.ones(3, 4, requires_grad=True)
    koleo(same).backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()
    assert float(koleo(torch.ones(1, 4))) == 0
    assert alike(torch.ones(3, 4)) == pytest.approx(1)
    assert alike(torch.eye(4)) == pytest.approx(0, abs=1e-6)
