"""Whether a service stayed as large as it was: growth over a run, by trend, against limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.safety.trend import Trend, trend
from benchmarks.safety.watch import Sample

MiB = 1024 * 1024

# Growth over a whole run, which its interval must rule out. Triton's soak test passes below 70 MB;
# ours is half of that, because the serving process holds no frames. Workers are replaced now and
# then, and differ by what the last clip left in their allocator.
LIMITS: Mapping[str, float] = {
    "rss_bytes": 32 * MiB,
    "workers_rss_bytes": 400 * MiB,
    "descriptors": 8,
    "processes": 2,
    "threads": 4,
}


@dataclass(frozen=True, slots=True)
class Growth:
    """How far one measurement grew from the first to the last request."""

    what: str
    requests: int
    per_request: Trend
    limit: float

    @property
    def most(self) -> float:
        """Growth over the run at the upper end of the interval."""
        return self.per_request.high * self.requests

    @property
    def is_flat(self) -> bool:
        """Whether growth beyond the limit is ruled out."""
        return self.per_request.is_flat(self.limit / self.requests)

    def __str__(self) -> str:
        return (
            f"{self.what} may have grown by {self.most:.0f} over {self.requests} requests, "
            f"the limit is {self.limit:.0f}"
        )

    def record(self) -> dict[str, float | bool]:
        """As JSON."""
        return {
            "per_request": self.per_request.slope,
            "low": self.per_request.low,
            "high": self.per_request.high,
            "most_over_the_run": self.most,
            "limit": self.limit,
            "is_flat": self.is_flat,
        }


def growth(samples: Sequence[Sample], limits: Mapping[str, float] = LIMITS) -> list[Growth]:
    """Each measurement against its limit.

    Raises:
        ValueError: there are too few samples to say anything.
    """
    xs = [sample.requests for sample in samples]
    requests = max(1, xs[-1] - xs[0]) if xs else 1
    return [
        Growth(what, requests, trend(xs, [getattr(sample, what) for sample in samples]), limit)
        for what, limit in limits.items()
    ]
