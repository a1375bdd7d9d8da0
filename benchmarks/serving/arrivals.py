"""When which clip is asked for, at which sparsity: drawn beforehand, from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Shares of the requests by sparsity: most are sparse, a few want every token. Our choice.
MIX = {0.0: 0.1, 0.5: 0.2, 0.7: 0.3, 0.9: 0.3, 0.95: 0.1}


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it is due (seconds from the start), which clip, which sparsity."""

    due: float
    clip: int
    sparsity: float


def poisson(rate: float, seconds: float, clips: int, seed: int) -> list[Arrival]:
    """Open-loop arrivals: requests come whether or not earlier ones were answered.

    Gaps are exponential with mean 1 / ``rate``: independent callers make a Poisson process.

    Args:
        rate: requests a second, more than 0.
        seconds: requests are due in [0, seconds).
        clips: how many clips there are to draw from.

    Raises:
        ValueError: no positive rate or duration, or no clip.
    """
    if rate <= 0 or seconds <= 0 or clips < 1:
        raise ValueError(f"nothing to draw: rate {rate}, {seconds} seconds, {clips} clips")
    random = np.random.default_rng(seed)
    due: list[float] = []
    now = random.exponential(1 / rate)
    while now < seconds:
        due.append(now)
        now += random.exponential(1 / rate)
    asks = draw(len(due), clips, random)
    return [Arrival(when, *ask) for when, ask in zip(due, asks, strict=True)]


def draw(count: int, clips: int, random: np.random.Generator) -> Sequence[tuple[int, float]]:
    """``count`` pairs of a clip and a sparsity of the mix."""
    chosen = random.choice(list(MIX), size=count, p=list(MIX.values())).tolist()
    return list(zip(random.integers(0, clips, count).tolist(), chosen, strict=True))
