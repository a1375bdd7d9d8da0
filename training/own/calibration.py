"""One temperature for a network's logits, so that its scores are as sure as it is right."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Beyond these a temperature is not fitted but made up, by clips that are all right or all wrong.
_COLDEST, _HOTTEST = 0.1, 10.0


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature at which the logits' log-likelihood is highest.

    Args:
        logits: float32 [n, C], of clips that were not learnt from.
        targets: int64 [n].

    Source: Guo et al., "On calibration of modern neural networks" (2017). The likelihood has one
    maximum, which is found by thirds of the logarithm's range.
    """

    def loss(exponent: float) -> float:
        return float(F.cross_entropy(logits.double() / math.exp(exponent), targets))

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(60):
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    return math.exp((low + high) / 2)


def calibration_error(logits: Tensor, targets: Tensor, bins: int = 10) -> float:
    """Expected calibration error of the top score, in bins of equal numbers of clips."""
    probabilities = logits.double().softmax(dim=1)
    score, answer = probabilities.max(dim=1)
    right = (answer == targets).double()
    order = score.argsort()
    parts = torch.tensor_split(order, min(bins, len(order)))
    gaps = [abs(float(score[part].mean() - right[part].mean())) * len(part) for part in parts]
    return sum(gaps) / len(order)
