"""Temperatures and thresholds of a bundle, from what it gives of clips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.answers import AnswerFacts, SparsityTemperature, UnknownThreshold
from bundle.scores import known_scores, probabilities_of
from training.calibration.known import cross_fitted, fit_known, rows_of
from training.calibration.looks import Looks
from training.calibration.temperature import fit_temperature

# Of the weights of `known`, the one that tells most clips apart in folds is taken. Our choice.
DECAYS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted.

    Attributes:
        answer: temperatures, thresholds and perhaps the score ``known``.
        decay: of that score's weights; None where the best label's score is taken.
        best_caught, known_caught: of clips in which none of the classes happens, the share that
            each score calls unknown, mean over sets and sparsities, in folds; None without such.
    """

    answer: AnswerFacts
    decay: float | None = None
    best_caught: float | None = None
    known_caught: float | None = None


def fit(own: Sequence[Looks], none: Sequence[Looks], *, share: float, seed: int = 0) -> Fitted:
    """Fit a temperature and a threshold for each sparsity.

    Args:
        own: sets of clips of the bundle's classes. Temperatures are fitted on the first; no more
            than ``share`` of any of them is unknown.
        none: sets of clips in which none of the classes happens. Where there are some, a score of
            the video's vector is fitted, and taken where it calls more of them unknown than the
            best label's score does.
        share: of the clips of a set that may be unknown, in [0, 1).
        seed: of the folds.
    """
    temperatures = [
        SparsityTemperature(
            sparsity=sparsity, temperature=_rounded(fit_temperature(logits, own[0].targets))
        )
        for sparsity, logits in own[0].logits.items()
    ]
    answer = AnswerFacts(temperatures=temperatures)
    best = [best_scores(looks, answer) for looks in (*own, *none)]
    thresholds = _thresholds(best[: len(own)], share)
    plain = answer.model_copy(update={"unknown": thresholds})
    if not none:
        return Fitted(plain)
    best_caught = _caught(best[len(own) :], thresholds)
    found: tuple[float, float, list[UnknownThreshold]] | None = None
    for decay in DECAYS:
        scores = cross_fitted(own, none, decay, seed)
        theirs = _thresholds(scores[: len(own)], share)
        caught = _caught(scores[len(own) :], theirs)
        if found is None or caught > found[0]:
            found = caught, decay, theirs
    assert found is not None
    known_caught, decay, theirs = found
    if known_caught <= best_caught:
        return Fitted(plain, None, best_caught, known_caught)
    score = fit_known(rows_of(own, none), decay)
    update = {"unknown": theirs, "known": score}
    return Fitted(answer.model_copy(update=update), decay, best_caught, known_caught)


def best_scores(looks: Looks, answer: AnswerFacts) -> dict[float, NDArray[np.float64]]:
    """The best label's score of each clip, [n], by sparsity."""
    return {
        sparsity: probabilities_of(logits, answer, sparsity).max(axis=1)
        for sparsity, logits in looks.logits.items()
    }


def certainties(looks: Looks, answer: AnswerFacts) -> dict[float, NDArray[np.float64]]:
    """What is compared with the thresholds, [n], by sparsity."""
    if (score := answer.known) is None:
        return best_scores(looks, answer)
    return {sparsity: known_scores(score, video) for sparsity, video in looks.video.items()}


def threshold_for(scores: NDArray[np.float64], share: float) -> float:
    """The highest threshold below which at most ``share`` of the scores lie."""
    below = int(share * len(scores) + 1e-9)
    return float(np.sort(scores)[min(below, len(scores) - 1)])


def _thresholds(
    own: Sequence[dict[float, NDArray[np.float64]]], share: float
) -> list[UnknownThreshold]:
    """By sparsity, the lowest of those of each set."""
    return [
        UnknownThreshold(
            sparsity=sparsity,
            # Rounded down: not one clip more is to be unknown.
            threshold=float(
                np.floor(min(threshold_for(of[sparsity], share) for of in own) * 1e6) / 1e6
            ),
        )
        for sparsity in own[0]
    ]


def _caught(
    none: Sequence[dict[float, NDArray[np.float64]]], thresholds: Sequence[UnknownThreshold]
) -> float:
    shares = [
        float((of_set[at.sparsity] < at.threshold).mean()) for of_set in none for at in thresholds
    ]
    return sum(shares) / len(shares)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
