"""How the time that there is becomes turns. Nothing here measures."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lookwhen.bench.asking import BenchError

# One turn shows no spread, three do. More than a dozen say no more than longer ones.
GOOD_TURNS, MOST_TURNS = 3, 12
# Beyond three turns: one that is three times as long as it must be spends a third on setting out.
_ROOMY = 3.0
# Of what a turn has beyond the least: for one caller. The rest is for all callers.
_ALONE = 0.4


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a sparsity is, as far as that is known.

    Attributes:
        latency: seconds of a clip that is alone.
        rate: clips a second to all callers.
    """

    latency: float
    rate: float
    callers: int

    @property
    def round_seconds(self) -> float:
        """In which each of all callers has an answer."""
        return self.callers / self.rate

    @property
    def least_seconds(self) -> float:
        """What it takes in a turn at least: one clip alone, and of all callers a round before the
        count begins and one that counts."""
        return self.latency + 2 * self.round_seconds


@dataclass(frozen=True, slots=True)
class Slot:
    """Seconds of one sparsity in one turn.

    Attributes:
        alone: in which one caller asks.
        counted: in which the answers to all callers are counted, once all have had one.
    """

    alone: float
    counted: float


def least_seconds(paces: Iterable[Pace]) -> float:
    """What a turn takes at least.

    What is under way when a sparsity's count ends is answered while the next one gets under way;
    behind the last there is none.
    """
    known = list(paces)
    return sum(pace.least_seconds for pace in known) + max(pace.round_seconds for pace in known)


def turns(seconds: float, paces: Mapping[float, Pace]) -> int:
    """How many turns there are.

    Args:
        seconds: that are left for all of them.
        paces: by sparsity.

    Raises:
        BenchError: too little time; the text says how much more is needed.
    """
    least = least_seconds(paces.values())
    if seconds < least:
        sparsities = f"{len(paces)} sparsities" if len(paces) > 1 else "a sparsity"
        raise BenchError(
            f"{max(0.0, seconds):.0f} seconds are left, and one turn of {sparsities} takes "
            f"{least:.0f} on this machine; give {math.ceil(GOOD_TURNS * least - seconds)} more "
            f"--seconds for {GOOD_TURNS} turns, or fewer --sparsity"
        )
    fit = int(seconds / least)
    return min(MOST_TURNS, max(min(GOOD_TURNS, fit), int(fit / _ROOMY)))


def slots(seconds: float, left: int, paces: Mapping[float, Pace]) -> dict[float, Slot]:
    """The next turn, by sparsity.

    Args:
        seconds: until the end of all turns.
        left: turns until then, this one included.
    """
    more = max(0.0, seconds / left - least_seconds(paces.values())) / len(paces)
    return {
        level: Slot(_ALONE * more, pace.round_seconds + (1 - _ALONE) * more)
        for level, pace in paces.items()
    }
