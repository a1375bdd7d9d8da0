"""From what the extractor gives of views to scores, and to whether they are an answer."""

import numpy as np
import pytest

from bundle.answers import AnswerFacts
from bundle.scores import certainty_of, is_unknown, probabilities_of


def test_probabilities_are_averaged_not_logits() -> None:
    logits = np.array([[10.0, 0.0], [0.0, 1.0]], np.float32)
    each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities_of(logits), each.mean(axis=0), rtol=1e-6)
    huge = np.array([[1e30, -1e30]], np.float32)
    np.testing.assert_array_equal(probabilities_of(huge), [1.0, 0.0])


def test_a_temperature_divides_logits_before_anything_else() -> None:
    logits = np.array([[2.0, 0.0, -1.0]], np.float32)
    for kind in ("softmax", "sigmoid"):
        plain, cooled = AnswerFacts(kind=kind), AnswerFacts(kind=kind, temperature=4.0)
        np.testing.assert_allclose(
            probabilities_of(logits, cooled), probabilities_of(logits / 4, plain), rtol=1e-6
        )


def test_labels_that_do_not_exclude_each_other_are_averaged_each() -> None:
    logits = np.array([[0.0, 3.0], [2.0, 3.0], [-1e30, 1e30]], np.float32)
    expected = (1 / (1 + np.exp(-logits.clip(-500, 500).astype(np.float64)))).mean(axis=0)
    sigmoid = AnswerFacts(kind="sigmoid")
    np.testing.assert_allclose(probabilities_of(logits, sigmoid), expected, rtol=1e-12)


def test_each_sparsity_may_have_a_temperature() -> None:
    answer = AnswerFacts.model_validate(
        {
            "temperature": 9.0,
            "temperatures": [
                {"sparsity": 0.9, "temperature": 2.0},
                {"sparsity": 0.5, "temperature": 4.0},
            ],
        }
    )
    logits = np.array([[2.0, 0.0, -1.0]], np.float32)
    for sparsity, temperature in ((0.0, 4.0), (0.7, 4.0), (0.71, 2.0), (0.98, 2.0)):
        assert answer.temperature_at(sparsity) == temperature
        np.testing.assert_allclose(
            probabilities_of(logits, answer, sparsity), probabilities_of(logits / temperature)
        )


def test_without_a_score_of_its_own_the_best_label_decides() -> None:
    answer = AnswerFacts.model_validate({"unknown": [{"sparsity": 0.9, "threshold": 0.6}]})
    nothing = np.zeros((1, 4), np.float32)
    for scores, unknown in (([0.6, 0.4], False), ([0.59, 0.41], True)):
        assert certainty_of(np.array(scores), nothing, answer) == max(scores)
        assert is_unknown(np.array(scores), nothing, answer, 0.0) is unknown
    assert is_unknown(np.array([0.5, 0.5]), nothing, AnswerFacts(), 0.0) is None


def test_a_score_of_the_video_vector_is_the_mean_over_views() -> None:
    answer = AnswerFacts.model_validate(
        {
            "known": {"weights": [1.0, -2.0], "bias": 0.5},
            "unknown": [{"sparsity": 0.5, "threshold": 0.4}, {"sparsity": 0.9, "threshold": 0.9}],
        }
    )
    sure = np.array([1.0, 0.0])  # of the labels, which do not count here
    video = np.array([[3.0, 1.0], [0.0, 1.0]], np.float32)
    expected = np.mean(1 / (1 + np.exp(-np.array([1.5, -1.5]))))
    assert certainty_of(sure, video, answer) == pytest.approx(expected)
    assert is_unknown(sure, video, answer, 0.5) is False
    assert is_unknown(sure, video, answer, 0.9) is True
