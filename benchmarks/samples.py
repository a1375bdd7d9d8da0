"""Samples taken in turns, and what is said of them: medians, quartiles, ratios within a round."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.console import Console
from rich.progress import track

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


def take_turns(
    ways: Mapping[str, Callable[[], float]], rounds: int, *, warm: int = 1, what: str = "rounds"
) -> dict[str, list[float]]:
    """Call every way once a round and keep what it returns.

    Every other round goes backwards, so that no way always follows the same one. The first
    ``warm`` rounds are not kept.
    """
    samples: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in track(range(warm + rounds), what, console=Console(stderr=True)):
        for name in names if turn % 2 else reversed(names):
            taken = ways[name]()
            if turn >= warm:
                samples[name].append(taken)
    return samples
