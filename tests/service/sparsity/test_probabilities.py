"""How clear scores are, and how far two answers agree."""

import numpy as np
import pytest

from bundle.answers import AnswerFacts
from service.sparsity.probabilities import margin_of, overlap_of


def test_how_clear_an_answer_is() -> None:
    scores = np.array([0.2, 0.7, 0.1])
    assert margin_of(scores) == pytest.approx(0.5)
    half = AnswerFacts(kind="sigmoid")
    # Of 0.2, 0.7 and 0.1 the second is nearest to a half: 0.2 of 0.5 away.
    assert margin_of(scores, half) == pytest.approx(0.4)
    own = AnswerFacts(kind="sigmoid", thresholds=[0.8, 0.2, 0.4])
    assert margin_of(scores, own) == pytest.approx(min(0.6 / 0.8, 0.5 / 0.8, 0.3 / 0.4))
    ends = AnswerFacts(kind="sigmoid", thresholds=[0.0, 1.0, 1.0])
    assert margin_of(np.array([1.0, 0.0, 0.0]), ends) == 1.0
    assert margin_of(np.array([0.0, 0.0, 0.0]), ends) == 0.0
    both = np.array([1.0, 1.0, 0.0])
    assert margin_of(both) == 0.0
    assert margin_of(both, half) == 1.0, "two labels that are there make each other no less clear"


def test_how_far_two_answers_agree() -> None:
    one, other = np.array([0.9, 0.1]), np.array([0.5, 0.5])
    assert overlap_of(one, other) == pytest.approx(0.6)
    sigmoid = AnswerFacts(kind="sigmoid")
    assert overlap_of(one, other, sigmoid) == pytest.approx(0.6 / 1.4)
    assert overlap_of(2 * one, 2 * one, sigmoid) == 1.0
    assert overlap_of(0 * one, 0 * one, sigmoid) == 1.0
