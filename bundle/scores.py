"""From what the extractor gives of a clip's views to scores, and to whether they are an answer."""

import numpy as np
from numpy.typing import NDArray

from bundle.answers import AnswerFacts, KnownScore

# What a bundle of version 1 answers: labels that exclude each other, logits as they come.
SOFTMAX = AnswerFacts()


def probabilities_of(
    logits: NDArray[np.float32], answer: AnswerFacts = SOFTMAX, sparsity: float = 0.0
) -> NDArray[np.float64]:
    """logits [..., V, classes] -> [..., classes]: probabilities of each view, then their mean.

    The logits are divided by the bundle's temperature at this sparsity, and become probabilities by
    a softmax or, of labels that do not exclude each other, each by a sigmoid. The mean of
    probabilities rather than of logits is InternVideo2's test protocol.
    """
    scaled = logits.astype(np.float64) / answer.temperature_at(sparsity)
    if answer.kind == "sigmoid":
        of_views = sigmoid(scaled)
    else:
        exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        of_views = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return np.asarray(of_views.mean(axis=-2))


def certainty_of(
    probabilities: NDArray[np.float64], video: NDArray[np.float32], answer: AnswerFacts
) -> float:
    """What the thresholds of `unknown` are compared with: from 0 to 1.

    Args:
        probabilities: float64 [classes], as :func:`probabilities_of` gives them.
        video: float32 [V, D], the extractor's video vectors.

    It is the bundle's score ``known``, the mean over the views as of labels, or without one the
    best label's probability.
    """
    if answer.known is None:
        return float(probabilities.max())
    return float(known_scores(answer.known, video))


def known_scores(score: KnownScore, video: NDArray[np.float32]) -> NDArray[np.float64]:
    """The score of clips [...] by the video vectors of their views [..., V, D]: the views' mean."""
    linear = video.astype(np.float64) @ np.array(score.weights) + score.bias
    return np.asarray(sigmoid(linear).mean(axis=-1))


def is_unknown(
    probabilities: NDArray[np.float64],
    video: NDArray[np.float32],
    answer: AnswerFacts,
    sparsity: float,
) -> bool | None:
    """Whether a clip has no answer; None where the bundle cannot tell.

    Args:
        probabilities, video, answer: as :func:`certainty_of` takes them.
    """
    threshold = answer.unknown_below(sparsity)
    return None if threshold is None else certainty_of(probabilities, video, answer) < threshold


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) of each value, without overflow."""
    shares: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * x))
    return shares
