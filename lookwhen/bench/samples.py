"""What is said of samples: medians, quartiles, percentiles, ratios within a turn."""

import statistics
from collections.abc import Iterable, Sequence

Spread = dict[str, float]


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of a single value, that value."""
    if len(values) == 1:
        return dict.fromkeys(("median", "low", "high"), values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Spread of the quotients of samples that were taken in the same round.

    Whatever else the machine did then met both, so that the quotient is steadier than either.
    """
    return spread([a / b for a, b in zip(over, under, strict=True)])


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that ``share`` of all are not above; infinite where there are none.

    The nearest rank rather than an interpolation: a 99th percentile is a latency that occurred.
    """
    ordered = sorted(values)
    if not ordered:
        return float("inf")
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]
