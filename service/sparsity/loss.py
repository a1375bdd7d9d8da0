"""What sparsity costs in accuracy, by what the bundle's evaluation measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bundle.schema import AccuracyPoint, Precision

# Two-sided, 95 %.
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Loss:
    """Top-1 that a sparsity loses against the best one, in percentage points.

    Attributes:
        sparsity: at which it was measured.
        points: the loss itself; 0 of the best.
        low, high: its 95 % interval, as of two independent measurements. On the same clips it is
            narrower, but the bundle does not say which clip was answered how.
        clips: held-out clips that it was measured on.
    """

    sparsity: float
    points: float
    low: float
    high: float
    clips: int


def losses(measured: Sequence[AccuracyPoint], precision: Precision) -> tuple[Loss, ...]:
    """The loss at each measured sparsity, ascending.

    Of a precision in which nothing was measured, float32 stands in: exports are compared with it.
    """
    of = [point for point in measured if point.precision == precision]
    of = of or [point for point in measured if point.precision == "fp32"]
    if not of:
        return ()
    best = max(of, key=lambda point: (point.top1, point.sparsity))
    found = []
    for point in sorted(of, key=lambda point: point.sparsity):
        lost = round(100 * (best.top1 - point.top1), 9)  # 0.95 - 0.94 is a hair above 0.01
        half = 0.0
        if point is not best:
            half = 100 * _Z * math.sqrt(_variance(best) + _variance(point))
        found.append(Loss(point.sparsity, lost, lost - half, lost + half, point.clips))
    return tuple(found)


def _variance(point: AccuracyPoint) -> float:
    return point.top1 * (1 - point.top1) / point.clips


def sparsest_within(known: Sequence[Loss], most: float) -> Loss:
    """The sparsest that loses at most this number of points; at least one has to be known."""
    return max((loss for loss in known if loss.points <= most), key=lambda loss: loss.sparsity)
