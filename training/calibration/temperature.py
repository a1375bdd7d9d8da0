"""A temperature for logits, so that scores are as sure as they are right; and how far they are."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bundle.answers import AnswerFacts
from bundle.scores import probabilities_of

# Beyond these a temperature is not fitted but made up, by clips that are all right or all wrong.
_COLDEST, _HOTTEST = 0.1, 10.0
_BINS = 10


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The temperature at which the likelihood of the right labels is highest.

    Args:
        logits: float32 [n, V, C], of the views of clips that were not learnt from.
        targets: int64 [n].

    Source: Guo et al., "On calibration of modern neural networks" (2017). Of one view a clip the
    likelihood has one maximum; it is found by thirds of the logarithm's range.
    """
    rows = np.arange(len(targets))

    def loss(exponent: float) -> float:
        answer = AnswerFacts(temperature=math.exp(exponent))
        right = probabilities_of(logits, answer)[rows, targets]
        return -float(np.log(np.maximum(right, 1e-300)).mean())

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(40):
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    return math.exp((low + high) / 2)


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Expected calibration error of the best score, in ten bins of equal numbers of clips: a
    statistic as :class:`~training.evaluation.statistics.Statistic` has it.

    A resample has the bins of all clips (our choice). The error is a mean of distances, which
    chance makes larger and never smaller: few clips show more of it than there is, and resamples
    more than that.

    Attributes:
        score: float64 [n], the best label's.
        right: bool [n], whether that is the true one.
    """

    score: NDArray[np.float64]
    right: NDArray[np.bool_]
    _bins: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = np.array_split(np.argsort(self.score, kind="stable"), min(_BINS, len(self.score)))
        bins = np.zeros((len(self.score), len(parts)))
        for number, part in enumerate(parts):
            bins[part, number] = 1
        object.__setattr__(self, "_bins", bins)

    @classmethod
    def of(
        cls, probabilities: NDArray[np.float64], targets: NDArray[np.int64]
    ) -> "CalibrationError":
        """From probabilities [n, C] and the true labels int64 [n]."""
        return cls(probabilities.max(axis=1), probabilities.argmax(axis=1) == targets)

    @property
    def value(self) -> float:
        return float(self.resampled(np.ones((1, len(self.score)), np.int64))[0])

    def resampled(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        gaps = times * (self.score - self.right) @ self._bins  # [R, bins]
        errors: NDArray[np.float64] = np.abs(gaps).sum(axis=1) / times.sum(axis=1)
        return errors
