"""Measures against values worked out by hand, and against their plain definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.datasets import MultiLabel, Task, TopOne, VerbNoun
from training.datasets.metrics import (
    action_ranks,
    average_precision,
    mean_average_precision,
    ranks,
)
from training.datasets.tasks import action_id


def test_top_one_and_top_five_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2]])
    figures = TopOne(3).measure(scores, torch.tensor([0, 1, 0, 1]))
    # Right, wrong, right (a tie goes to the lower class), wrong (for the same reason).
    assert figures == {"top1": 0.5, "top5": 1.0}


def test_scores_that_say_nothing_are_not_right() -> None:
    assert ranks(np.zeros((3, 10)), np.array([0, 4, 9])).tolist() == [0, 4, 9]


def test_verb_noun_and_action_by_hand() -> None:
    task = VerbNoun(2, 3)
    # verbs 0.6 0.4, nouns 0.2 0.5 0.3: actions 0.12 0.30 0.18 / 0.08 0.20 0.12
    scores = torch.tensor([[0.6, 0.4, 0.2, 0.5, 0.3]]).repeat(3, 1)
    targets = torch.tensor([[0, 1], [0, 0], [1, 1]])
    figures = task.measure(scores, targets)
    assert figures["verb_top1"] == pytest.approx(2 / 3)
    assert figures["noun_top1"] == pytest.approx(2 / 3)
    assert figures["action_top1"] == pytest.approx(1 / 3)
    assert figures["action_top5"] == 1.0
    # Powers of two, so that products are exact and ties are ties: 2 1 4 / 1 0.5 2.
    verbs, nouns = np.array([[1.0, 0.5]] * 6), np.array([[2.0, 1.0, 4.0]] * 6)
    labels = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]])
    assert action_ranks(verbs, nouns, labels).tolist() == [1, 3, 0, 4, 5, 2]
    assert action_id(12, 34) == 12034


def test_average_precision_by_hand() -> None:
    # Ranked 1, 0, 1, 0: (1/1 + 2/3) / 2
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    assert average_precision(scores, np.array([True, False, True, False])) == pytest.approx(5 / 6)
    # All tied: the share of positives.
    assert average_precision(np.ones(4), np.array([False, True, False, False])) == 0.25


def test_mean_average_precision_leaves_out_what_has_no_positive() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5], [1.0, 1.0, 1.0]])
    positive = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], np.bool_)
    # The third clip, without a class, would come first in both rankings; class 2 has no clip.
    assert mean_average_precision(scores, positive) == 1.0
    with pytest.raises(ValueError, match="needs a positive"):
        mean_average_precision(scores, np.zeros((3, 3), np.bool_))
    with pytest.raises(ValueError, match="needs a positive"):
        average_precision(scores[0], np.zeros(3, np.bool_))


def plain_map(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The definition, written out: for each positive, the precision at its score."""
    precisions = []
    for c in range(scores.shape[1]):
        own = []
        for clip in range(len(scores)):
            if positive[clip, c]:
                above = [i for i in range(len(scores)) if scores[i, c] >= scores[clip, c]]
                own.append(sum(bool(positive[i, c]) for i in above) / len(above))
        if own:
            precisions.append(sum(own) / len(own))
    return sum(precisions) / len(precisions)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 4))
def test_mean_average_precision_is_its_definition(seed: int, clips: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (clips, classes)) / 4  # with ties
    positive = rng.random((clips, classes)) < 0.4
    positive[:, 0] = True  # every clip has a class
    assert mean_average_precision(scores, positive) == pytest.approx(plain_map(scores, positive))


TASKS: list[tuple[Task, list[tuple[int, ...]]]] = [
    (TopOne(3), [(2,), (0,)]),
    (VerbNoun(2, 3), [(1, 2), (0, 0)]),
    (MultiLabel(3), [(0, 2), ()]),
]


@pytest.mark.parametrize(("task", "labels"), TASKS)
def test_a_head_that_fits_its_labels_has_low_loss_and_full_marks(
    task: Task, labels: list[tuple[int, ...]]
) -> None:
    target = torch.stack([task.target(label) for label in labels])
    dense = task.dense(target)
    assert dense.shape == (2, task.outputs)
    right = (dense * 2 - 1) * 20
    assert task.loss(right, dense) < 1e-6
    assert task.loss(-right, dense) > 10
    figures = task.measure(task.probabilities(right), target)
    assert figures[task.headline] == 1.0
    assert all(task.wrong(label) is None for label in labels)
    assert task.wrong((7,)) is not None
    # What is mixed half and half costs the mean of both.
    logits = torch.randn(2, task.outputs, generator=torch.Generator().manual_seed(0))
    mixed = task.loss(logits, (dense + dense.flip(0)) / 2)
    halves = task.loss(logits, dense) + task.loss(logits, dense.flip(0))
    torch.testing.assert_close(mixed, halves / 2)


def test_losses_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])
    assert TopOne(2).loss(logits, TopOne(2).dense(torch.tensor([0]))).item() == pytest.approx(
        math.log(4 / 3)
    )
    smooth = TopOne(2).dense(torch.tensor([0]), smoothing=0.2)
    torch.testing.assert_close(smooth, torch.tensor([[0.9, 0.1]]))
    hot = MultiLabel(2).dense(torch.tensor([[1.0, 0.0]]), smoothing=0.2)
    torch.testing.assert_close(hot, torch.tensor([[0.9, 0.1]]))
    assert MultiLabel(2).loss(
        torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    ).item() == pytest.approx(math.log(2))
    both = VerbNoun(1, 2)
    loss = both.loss(torch.tensor([[5.0, math.log(3.0), 0.0]]), both.dense(torch.tensor([[0, 0]])))
    assert loss.item() == pytest.approx(math.log(4 / 3))


def test_scores_that_are_no_numbers_are_not_right() -> None:
    scores = np.array([[np.nan, np.nan, np.nan], [0.2, np.nan, 0.1]])
    assert (ranks(scores, np.array([0, 0])) > 0).all()
