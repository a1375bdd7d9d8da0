"""Whether a measurement grows: a slope with its interval, never two points.

The slope is the median of the slopes of all pairs of samples (Theil 1950, Sen 1968), which a few
outliers cannot move: a garbage collection, a worker that is just being replaced. Its interval is
Sen's, from the variance of Kendall's tau. Samples that follow closely depend on each other, which
would make that interval too narrow; they are gathered into blocks first, and each block counts
once, by its median.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Of a run, the first share warms caches, allocators and pools up, and says nothing of what follows.
WARM_UP_SHARE = 0.25
BLOCKS = 40
# Two-sided 95 %.
_Z = statistics.NormalDist().inv_cdf(0.975)
_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Trend:
    """Growth for each unit of x, and the interval that holds it with 95 % confidence."""

    slope: float
    low: float
    high: float

    def is_flat(self, limit: float) -> bool:
        """Whether growth beyond ``limit`` is ruled out.

        A run too short or too noisy to rule it out does not pass: its interval is wide.
        """
        return self.high <= limit


def trend(xs: Sequence[float], ys: Sequence[float]) -> Trend:
    """Fit samples in the order they were taken.

    Args:
        xs: what growth is counted against, such as requests answered; ascending.
        ys: what might grow, one value for each x.

    Raises:
        ValueError: fewer than eight distinct x are left after the warm-up.
    """
    points = _blocks(xs, ys)
    slopes = sorted(
        (y2 - y1) / (x2 - x1)
        for number, (x1, y1) in enumerate(points)
        for x2, y2 in points[number + 1 :]
        if x2 > x1
    )
    n = len(points)
    if n < _FEWEST or len(slopes) < n:
        raise ValueError(f"{n} blocks of samples are too few for a slope, {_FEWEST} are needed")
    spread = _Z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return Trend(statistics.median(slopes), slopes[low], slopes[high])


def _blocks(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    samples = list(zip(xs, ys, strict=True))
    samples = samples[round(len(samples) * WARM_UP_SHARE) :]
    size = max(1, math.ceil(len(samples) / BLOCKS))
    blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [
        (statistics.median(x for x, _ in block), statistics.median(y for _, y in block))
        for block in blocks
    ]
