"""How sure a figure is: intervals for shares, for mean average precision, and for differences.

All intervals are two-sided at 95 %.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from training.datasets.metrics import mean_average_precision

_Z = 1.96
_TAILS = (0.025, 0.975)

# Numbers in the largest table of resampled clips: 32 MiB of int64.
_CHUNK = 1 << 22


class Estimate(NamedTuple):
    """A figure and its interval."""

    value: float
    low: float
    high: float


def wilson_interval(share: float, count: int, z: float = _Z) -> tuple[float, float]:
    """Wilson's score interval for a share of ``count`` independent trials."""
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale


def paired_share_interval(gained: int, lost: int, count: int, z: float = _Z) -> tuple[float, float]:
    """Interval for the difference of two shares of the same ``count`` trials.

    Args:
        gained: trials that only the second got right.
        lost: trials that only the first got right.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions" (2005): Wald's interval after half a trial more in each of the four cells, which
    holds its level where few trials differ.
    """
    plus, minus, total = gained + 0.5, lost + 0.5, count + 2
    centre = (plus - minus) / total
    spread = z * math.sqrt(plus + minus - (plus - minus) ** 2 / total) / total
    return max(-1.0, centre - spread), min(1.0, centre + spread)


def paired_lead(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_]
) -> tuple[float, tuple[float, float]]:
    """By how much the first share of the same trials is ahead, bool [n] each, and its interval;
    see :func:`paired_share_interval`."""
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return (gained - lost) / len(ours), paired_share_interval(gained, lost, len(ours))


class Statistic(Protocol):
    """A figure of n clips."""

    @property
    def value(self) -> float:
        """The figure of the clips as they are."""

    def resampled(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """The figures of resamples, given how often each clip was drawn, int64 [R, n]: [R], NaN
        where undefined."""


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean over clips: ``values`` float64 [n]."""

    values: NDArray[np.float64]

    @property
    def value(self) -> float:
        return float(self.values.mean())

    def resampled(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = times @ self.values / times.sum(axis=1)
        return means


@dataclass(frozen=True, slots=True)
class Share:
    """Share of the clips that are right: ``hits`` bool [n]."""

    hits: NDArray[np.bool_]

    @property
    def value(self) -> float:
        return float(self.hits.mean())

    def resampled(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = times[:, self.hits].sum(axis=1) / times.sum(axis=1)
        return shares


@dataclass(frozen=True, slots=True)
class MeanAP:
    """Mean average precision: ``scores`` [n, C], ``positive`` bool [n, C].

    Raises:
        ValueError: no positive at all.
    """

    scores: NDArray[np.float64]
    positive: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not self.positive.any():
            raise ValueError("mean average precision needs a positive clip")

    @property
    def value(self) -> float:
        return mean_average_precision(self.scores, self.positive)

    def resampled(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        # As in the metric itself: clips without a class are left out, classes without a clip too.
        times = times * self.positive.any(axis=1)
        total = np.zeros(len(times))
        classes = np.zeros(len(times))
        for label in np.flatnonzero(self.positive.any(axis=0)):
            precision, drawn = _resampled_precision(
                self.scores[:, label], self.positive[:, label], times
            )
            total += precision
            classes += drawn
        with np.errstate(invalid="ignore"):
            return total / classes


def _resampled_precision(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], times: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Average precision of one class in each resample, 0 where none of its clips was drawn; and
    where some were. What repeating the rows would give, without repeating them."""
    order = np.argsort(-scores, kind="stable")
    ranked = -scores[order]
    places = np.flatnonzero(positive[order])
    # Clips with equal scores are ranked together: precision is taken at the end of their run.
    ends = np.searchsorted(ranked, ranked[places], side="right") - 1
    found_by = np.searchsorted(places, ends, side="right") - 1
    drawn = times[:, order]
    positives = drawn[:, places]
    found = positives.cumsum(axis=1)[:, found_by]
    seen = drawn.cumsum(axis=1)[:, ends]
    precision = np.divide(found, seen, out=np.zeros(found.shape), where=seen > 0)
    count = positives.sum(axis=1)
    return (positives * precision).sum(axis=1) / np.maximum(count, 1), count > 0


@dataclass(frozen=True, slots=True)
class Resampling:
    """The bootstrap: clips drawn with replacement, whole groups at a time.

    Every figure sees the same draws, so that differences between figures are paired.

    Attributes:
        groups: int64 [n], the group of each clip, counted from 0; clips that stand for themselves
            have groups of their own.
        draws: resamples.
        seed: of the draws.
    """

    groups: NDArray[np.int64]
    draws: int = 1000
    seed: int = 0

    @classmethod
    def of_groups(cls, names: Sequence[str]) -> "Resampling":
        """From the names of groups, "" for a clip that stands for itself."""
        keys: list[tuple[str, int]] = [(name, 0 if name else i) for i, name in enumerate(names)]
        number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        return cls(np.array([number[key] for key in keys], np.int64))

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.groups.max()) + 1

    @property
    def grouped(self) -> bool:
        """Whether any group has more than one clip."""
        return self.count < len(self.groups)

    def replicates(self, statistic: Statistic) -> NDArray[np.float64]:
        """The statistic of each resample: [draws]."""
        return np.concatenate([statistic.resampled(times) for times in self._times()])

    def _times(self) -> Iterator[NDArray[np.int64]]:
        """How often each clip was drawn, some resamples at a time: int64 [R, n]."""
        rng = np.random.default_rng(self.seed)
        groups = self.count
        rows = max(1, _CHUNK // len(self.groups))
        for first in range(0, self.draws, rows):
            R = min(rows, self.draws - first)
            drawn = rng.integers(groups, size=(R, groups))
            drawn += np.arange(R)[:, None] * groups
            times = np.bincount(drawn.ravel(), minlength=R * groups).reshape(R, groups)
            yield times[:, self.groups]


def percentiles(replicates: NDArray[np.float64]) -> tuple[float, float]:
    """The bootstrap's percentile interval; resamples where the figure is undefined are left out."""
    low, high = np.nanquantile(replicates, _TAILS)
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Figures of one setting with their intervals, and what it takes to compare with another."""

    statistics: dict[str, Statistic]
    resampling: Resampling
    replicates: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, statistics: dict[str, Statistic], resampling: Resampling) -> "Estimates":
        """Resample what has no formula: shares of clips in groups, and all that are no shares."""
        return cls(
            statistics,
            resampling,
            {
                name: resampling.replicates(statistic)
                for name, statistic in statistics.items()
                if resampling.grouped or not isinstance(statistic, Share)
            },
        )

    def estimate(self, name: str) -> Estimate:
        """The figure: Wilson's interval for shares, the bootstrap's for others and for groups.

        Where all clips are right, or none, resamples do not differ: there Wilson's interval is
        taken with the groups as trials (our choice, on the safe side).
        """
        statistic = self.statistics[name]
        value = statistic.value
        if isinstance(statistic, Share) and (not self.resampling.grouped or value in (0.0, 1.0)):
            return Estimate(value, *wilson_interval(value, self.resampling.count))
        return Estimate(value, *percentiles(self.replicates[name]))

    def difference(self, name: str, before: "Estimates") -> Estimate:
        """How much the figure changed from ``before``, which has the same clips.

        The interval is that of paired shares by formula, of others and of groups by bootstrap.

        Raises:
            ValueError: the other figures are of other clips.
        """
        ours, theirs = self.statistics[name], before.statistics[name]
        value = ours.value - theirs.value
        if not np.array_equal(self.resampling.groups, before.resampling.groups):
            raise ValueError("a paired difference needs the same clips in both figures")
        if isinstance(ours, Share) and isinstance(theirs, Share):
            if not self.resampling.grouped:
                _, interval = paired_lead(ours.hits, theirs.hits)
                return Estimate(value, *interval)
            if np.array_equal(ours.hits, theirs.hits):
                return Estimate(value, *paired_share_interval(0, 0, self.resampling.count))
        return Estimate(value, *percentiles(self.replicates[name] - before.replicates[name]))
