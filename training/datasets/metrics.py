"""Measures of the data sets' protocols, in float64 on numpy."""

import numpy as np
from numpy.typing import NDArray


def ranks(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes come before the right one: 0 where it is first.

    Args:
        scores: [clips, classes].
        labels: int64 [clips].

    Returns:
        int64 [clips]. Of equal scores the lower class comes first, as argmax has it, so that
        constant scores do not count as right; neither does a score that is not a number.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    tied_before = (scores == own) & (np.arange(scores.shape[1]) < labels[:, None])
    before: NDArray[np.int64] = (~(scores <= own) | tied_before).sum(axis=1)
    return before


def action_ranks(
    verbs: NDArray[np.float64], nouns: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rank of the right (verb, noun) among all pairs, scored by the outer product.

    Args:
        verbs: [clips, verbs], softmaxed.
        nouns: [clips, nouns], softmaxed.
        labels: int64 [clips, 2], verb and noun.

    Returns:
        int64 [clips]; ties as in :func:`ranks`, pairs in the order verb-major.

    Source: the EPIC-Kitchens-100 action recognition challenge.
    """
    result = np.empty(len(labels), np.int64)
    for clip, (verb, noun) in enumerate(labels):  # one at a time: 97 x 300 scores each
        pairs = np.outer(verbs[clip], nouns[clip]).reshape(1, -1)
        result[clip] = ranks(pairs, np.array([verb * nouns.shape[1] + noun]))[0]
    return result


def average_precision(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Mean, over the positives, of the precision among the clips ranked at least as high.

    Clips with equal scores are ranked together, so that the order of the clips does not matter.

    Args:
        scores: [clips].
        positive: bool [clips], at least one.

    Raises:
        ValueError: no positive clip.
    """
    if not positive.any():
        raise ValueError("average precision needs a positive clip")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(positive[order])
    # Where a run of equal scores ends: its clips share the precision there.
    last = np.searchsorted(-scores[order], -scores[order], side="right") - 1
    precision = found[last] / (last + 1)
    return float(precision[positive[order]].mean())


def mean_average_precision(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Mean of the classes' average precision, Charades' measure.

    Clips without any class are left out, and so are classes without any clip.

    Args:
        scores: [clips, classes].
        positive: bool [clips, classes].

    Raises:
        ValueError: no positive at all.

    Source: Charades' classification script, which puts clips without a class last in every ranking:
    the same as leaving them out.
    """
    labelled = positive.any(axis=1)
    scores, positive = scores[labelled], positive[labelled]
    present = np.flatnonzero(positive.any(axis=0))
    if not len(present):
        raise ValueError("mean average precision needs a positive clip")
    return float(np.mean([average_precision(scores[:, c], positive[:, c]) for c in present]))
