"""How clear scores are, and how far two answers agree."""

import numpy as np
from numpy.typing import NDArray

from bundle.answers import AnswerFacts
from bundle.scores import SOFTMAX


def margin_of(probabilities: NDArray[np.float64], answer: AnswerFacts = SOFTMAX) -> float:
    """How clear an answer is, from 0 to 1: what a cascade goes on for.

    Of labels that exclude each other it is the lead of the first over the second. Of others it is
    the distance of the label that is closest to its threshold, as a share of the way from there to
    certainty: a second label that is there as well makes nothing less clear. That is our choice.

    Args:
        probabilities: float64 [classes], at least two.
    """
    if answer.kind == "softmax":
        second, first = np.partition(probabilities, -2)[-2:].tolist()
        return float(first - second)
    thresholds = np.array(answer.thresholds_of(len(probabilities)))
    above = probabilities >= thresholds
    room = np.where(above, 1.0 - thresholds, thresholds)
    # A threshold of 0 or 1 leaves no room on its far side: there nothing can be clearer.
    shares = np.abs(probabilities - thresholds) / np.where(room > 0, room, 1.0)
    return float(np.where(room > 0, shares, 1.0).min())


def overlap_of(
    one: NDArray[np.float64], other: NDArray[np.float64], answer: AnswerFacts = SOFTMAX
) -> float:
    """How far two answers agree, from 0 to 1: the sum over the labels of the lesser score.

    Scores of labels that do not exclude each other have no sum of 1: of them it is divided by the
    sum of the greater ones.
    """
    shared = float(np.minimum(one, other).sum())
    if answer.kind == "sigmoid":
        whole = float(np.maximum(one, other).sum())
        return shared / whole if whole > 0 else 1.0
    return min(1.0, shared)
