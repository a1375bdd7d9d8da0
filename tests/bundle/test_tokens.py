"""K from sparsity, and the selection."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.tokens import rank, select_top_k, tokens_to_keep


@pytest.mark.parametrize(
    ("sparsity", "tokens", "kept"),
    [
        (0.0, 3136, 3136),
        (0.5, 3136, 1568),
        (0.7, 3136, 941),
        (0.9, 3136, 314),
        (0.95, 3136, 157),
        (0.9, 1005, 101),  # 100.5, although the binary product is a hair less
        (0.5, 1025, 513),
        (0.999, 64, 1),  # never none
    ],
)
def test_the_number_of_kept_tokens(sparsity: float, tokens: int, kept: int) -> None:
    assert tokens_to_keep(sparsity, tokens) == kept


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_a_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match="sparsity must be"):
        tokens_to_keep(sparsity, 100)


@given(st.floats(0, 0.99), st.floats(0, 0.99), st.integers(1, 50_000))
def test_sparser_never_keeps_more(one: float, other: float, tokens: int) -> None:
    low, high = sorted((one, other))
    assert 1 <= tokens_to_keep(high, tokens) <= tokens_to_keep(low, tokens) <= tokens


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 5))
def test_the_selection_is_the_highest_scores_in_order(seed: int, k: int, batch: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 8, (batch, 60)).astype(np.float32)  # full of ties
    for row, kept in zip(scores, select_top_k(scores, k), strict=True):
        best = sorted(range(60), key=lambda position: (-row[position], position))[:k]
        assert kept.tolist() == sorted(best)


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        select_top_k(np.array([[1.0, np.nan]], np.float32), 1)
    with pytest.raises(ValueError, match=r"\[B, N\]"):
        select_top_k(np.zeros(4, np.float32), 1)
    with pytest.raises(ValueError, match="between 1 and the 4 tokens"):
        select_top_k(np.zeros((1, 4), np.float32), 5)


def test_a_ranking_serves_every_k() -> None:
    scores = np.array([[0.5, 2.0, 2.0, -1.0], [1.0, 1.0, 1.0, 1.0]], np.float32)
    ranking = rank(scores)
    assert ranking.tolist() == [[1, 2, 0, 3], [0, 1, 2, 3]]
    for k in range(1, 5):
        np.testing.assert_array_equal(np.sort(ranking[:, :k], axis=1), select_top_k(scores, k))
    with pytest.raises(ValueError, match="NaN"):
        rank(np.array([[np.nan]], np.float32))
    with pytest.raises(ValueError, match="must be"):
        rank(np.zeros(3, np.float32))
