"""What is said of a run: latency, goodput, refusals, and how late the generator was."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.serving.load import Outcome, Sample
from lookwhen.bench.samples import percentile

# Requests that the server took on; of the others nobody waited for an answer.
_ACCEPTED = (Outcome.RIGHT, Outcome.WRONG, Outcome.LATE)

LETTERS = {
    Outcome.RIGHT: "R",
    Outcome.WRONG: "W",
    Outcome.LATE: "L",
    Outcome.EXPIRED: "E",
    Outcome.REFUSED: "B",  # busy
    Outcome.FAILED: "F",
}


def summarise(samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    """One point of a curve.

    Args:
        seconds: the time in which the requests were due.

    Returns:
        ``offered_per_second``; ``goodput_per_second``, answered right and in time; ``right_share``,
        of the requests of each sparsity; ``outcomes``, counted; ``latency_seconds``, percentiles
        of the accepted, where those that were given up count with the time until then;
        ``refusal_seconds``, the 99th percentile of the time until a refusal; ``degraded``, answers
        sparser than asked; ``generator_lag_seconds``.
    """
    counts = Counter(sample.outcome for sample in samples)
    accepted = [sample.latency for sample in samples if sample.outcome in _ACCEPTED]
    refused = [s.latency for s in samples if s.outcome in (Outcome.REFUSED, Outcome.EXPIRED)]
    lags = [sample.lag for sample in samples]
    asked = Counter(sample.sparsity for sample in samples)
    right = Counter(s.sparsity for s in samples if s.outcome is Outcome.RIGHT)
    return {
        "seconds": seconds,
        "offered_per_second": len(samples) / seconds,
        "goodput_per_second": counts[Outcome.RIGHT] / seconds,
        "right_share": {f"{level:g}": right[level] / asked[level] for level in sorted(asked)},
        "outcomes": {outcome.value: counts[outcome] for outcome in Outcome},
        "latency_seconds": _percentiles(accepted, (0.5, 0.9, 0.99)),
        "refusal_seconds": _percentiles(refused, (0.99,)),
        "degraded": sum(
            not math.isnan(sample.used) and sample.used > sample.sparsity for sample in samples
        ),
        "generator_lag_seconds": _percentiles(lags, (0.5, 0.99, 1.0)),
    }


def _percentiles(values: Sequence[float], shares: Sequence[float]) -> dict[str, float | None]:
    names = {1.0: "highest"}
    return {
        names.get(share, f"p{100 * share:g}"): percentile(values, share) if values else None
        for share in shares
    }


def throughput_at(
    points: Sequence[dict[str, Any]], p99_seconds: float, share: float = 0.99
) -> float | None:
    """The highest goodput among points whose p99 stays within a bound; None if none does.

    A point counts only when nearly all requests (``share``) were answered right: a low p99 of the
    few that were let in is no throughput.
    """
    within = [
        point["goodput_per_second"]
        for point in points
        if point["latency_seconds"]["p99"] is not None
        and point["latency_seconds"]["p99"] <= p99_seconds
        and point["goodput_per_second"] >= share * point["offered_per_second"]
    ]
    return max(within, default=None)


def as_text(samples: Sequence[Sample]) -> dict[str, str]:
    """Every sample, for the file, in the order in which requests were due.

    Numbers with spaces between them, in milliseconds, and one letter an outcome: as lists they
    would be a megabyte of line ends. When each was due follows from the seed.
    """
    return {
        "latency_ms": " ".join(f"{1000 * sample.latency:.1f}" for sample in samples),
        "lag_ms": " ".join(f"{1000 * sample.lag:.1f}" for sample in samples),
        "outcomes": "".join(LETTERS[sample.outcome] for sample in samples),
    }
