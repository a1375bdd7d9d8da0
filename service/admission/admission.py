"""What may come in: a slot and the cost of a request are reserved before any work is done.

Everything here runs on the event loop between two awaits, so that a check and the reservation it
allows are one step: a burst of requests cannot all pass the check before the first is counted.

Three bounds say how much there is to do: slots, tokens, and the wait that the requests mean at the
pace at which they are answered. The load is the share of the nearest of them. Between two marks of
the load, a request that allows it gets fewer tokens, the fewer the nearer the upper mark; it is
refused only when its cheapest way of being served does not fit.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, Self

from service.admission.throughput import Pace
from service.errors import Overloaded, Shortage

_LONGEST_RETRY_SECONDS = 600

# Of the longest wait: so much of it at most is kept for large requests.
_SPARED_SHARE = 0.25

Bound = Literal["requests", "tokens", "wait"]


class RequestCost(NamedTuple):
    """What a request takes.

    Attributes:
        kept: tokens of one view in each extraction that it may come to, one after the other.
        views: of the clip, all of which are extracted each time.
        selected: whether decoding and selection are done, so that only the extractions are left.
    """

    kept: tuple[int, ...]
    views: int = 1
    selected: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of all views and extractions together."""
        return sum(self.kept) * self.views


# Seconds that a cost takes a service that has nothing else to do.
Price = Callable[[RequestCost], float]


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What may be in flight, and where degrading begins.

    Attributes:
        max_requests: requests accepted at the same time.
        max_tokens: tokens accepted at the same time; a single request may exceed it when alone.
        max_wait_seconds: a request that would be answered later, behind those before it, is
            refused; unless there is nothing before it.
        degrade_from_load: share of the nearest bound above which requests are degraded.
        degrade_full_load: from this share on, as far as each allows.
    """

    max_requests: int
    max_tokens: int
    max_wait_seconds: float
    degrade_from_load: float = 0.25
    degrade_full_load: float = 0.5


class Admission:
    """Counts requests and costs from admission to answer, and refuses at once what is too much."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self.requests = 0
        self.tokens = 0
        self.pace = Pace()
        self._seconds = 0.0
        self.price: Price = _by_tokens
        self._large = RequestCost(())
        self._working = 0
        self._measured_from = 0.0

    def use(self, price: Price, usual: RequestCost, large: RequestCost) -> None:
        """How requests are priced from now on.

        Args:
            usual: a first guess at what is answered.
            large: what costs less than this gets in only where this would, too.
        """
        self.price, self._large = price, large
        self.pace.guess(price(usual), usual.tokens)

    @property
    def wait_seconds(self) -> float:
        """Until all that was accepted is expected to be answered."""
        return self.pace.seconds(self._seconds)

    @property
    def load(self) -> tuple[float, Bound]:
        """The share of the nearest bound that is taken, and which one it is."""
        return self._load(self._spared_seconds())

    def _load(self, spared: float) -> tuple[float, Bound]:
        limits = self._limits
        shares: dict[Bound, float] = {
            "tokens": self.tokens / limits.max_tokens,
            "wait": self.wait_seconds / (limits.max_wait_seconds - spared),
            "requests": self.requests / limits.max_requests,
        }
        nearest = max(shares, key=lambda bound: shares[bound])
        return shares[nearest], nearest

    def _spared_seconds(self) -> float:
        """For a large request, however small those are that come.

        Under overload they would fill every gap before it is wide enough for a large one.
        """
        large = self.pace.seconds(self.price(self._large))
        return min(large, _SPARED_SHARE * self._limits.max_wait_seconds)

    def admit(self, costs: Sequence[RequestCost]) -> "Reservation":
        """Reserve a slot and a cost, or refuse.

        Args:
            costs: of each way in which the request may be served, best first: one for a request
                that may not be degraded.

        Raises:
            Overloaded: with the seconds after which what is before it will be done.
        """
        if self.requests >= self._limits.max_requests:
            raise self.overloaded("requests")
        way, degraded_by = self._choose(costs, held=None)
        reservation = Reservation(self, costs[way], way, degraded_by)
        self._take(reservation)
        return reservation

    def overloaded(self, reason: Shortage) -> Overloaded:
        """A refusal with the seconds after which what was accepted will be done."""
        seconds = math.ceil(self.wait_seconds)
        return Overloaded(min(max(1, seconds), _LONGEST_RETRY_SECONDS), reason)

    def _choose(
        self, costs: Sequence[RequestCost], held: RequestCost | None
    ) -> tuple[int, Bound | None]:
        """The best way there is room for, and what keeps it from being the first.

        ``held`` was reserved before and is not counted now: a cost that does not exceed it fits.
        """
        spared = self._spared_seconds()
        load, nearest = self._load(spared)
        limits = self._limits
        above = load - limits.degrade_from_load
        pressure = above / (limits.degrade_full_load - limits.degrade_from_load)
        # Each way gets an equal part of the interval between the marks.
        first = min(len(costs) - 1, max(0, math.floor(pressure * len(costs))))
        degraded_by = nearest if first else None
        if held is not None:  # it is in already, and may take that as well
            spared = 0.0
        for way in range(first, len(costs)):
            short = self._short_of(costs[way], held, spared)
            if short is None:
                return way, degraded_by
            degraded_by = short
        assert degraded_by is not None
        raise self.overloaded(degraded_by)

    def _is_held(self, cost: RequestCost, held: RequestCost | None) -> bool:
        if held is None or cost.tokens > held.tokens:
            return False
        return self.price(cost) <= self.price(held)

    def _short_of(self, cost: RequestCost, held: RequestCost | None, spared: float) -> Bound | None:
        """What there is too little of for this much more, of ``spared`` seconds at least; None when
        it fits."""
        limits = self._limits
        if not self.tokens or self._is_held(cost, held):
            return None
        if self.tokens + cost.tokens > limits.max_tokens:
            return "tokens"
        own = max(self.pace.seconds(self.price(cost)), spared)
        return "wait" if self.wait_seconds + own > limits.max_wait_seconds else None

    def _take(self, reservation: "Reservation") -> None:
        self.requests += 1
        self.tokens += reservation.tokens
        self._seconds += reservation.seconds

    def _give_back(self, reservation: "Reservation") -> None:
        self.requests -= 1
        self.tokens -= reservation.tokens
        # What floats leave over is not carried on from one request to the next.
        self._seconds = self._seconds - reservation.seconds if self.requests else 0.0

    def _begin(self) -> None:
        if self._working == 0:
            self._measured_from = time.monotonic()
        self._working += 1

    def _end(self, taken: RequestCost, tokens: int | None) -> None:
        """Measure the pace from answer to answer, while there is something to do.

        Args:
            taken: what the request was counted as. It is priced anew, because prices change as
                clips are decoded, and the pace is for those of today.
            tokens: that were answered; None for what failed, whose time the others waited, too.
        """
        self._working -= 1
        if tokens is not None:
            now = time.monotonic()
            self.pace.measured(now - self._measured_from, self.price(taken), tokens)
            self._measured_from = now


def _by_tokens(cost: RequestCost) -> float:
    """Before there is an engine, which prices better."""
    return float(cost.tokens)


class Reservation:
    """A slot and a cost that are held until the ``with`` block ends, however it ends.

    Attributes:
        cost: held.
        seconds: its price when it was taken.
        way: which of the costs it is.
        degraded_by: the bound that kept it from being the first; None when it is.
    """

    def __init__(
        self, admission: Admission, cost: RequestCost, way: int, degraded_by: Bound | None
    ) -> None:
        self._admission = admission
        self.way, self.degraded_by = way, degraded_by
        self._working = False
        self._done_tokens: int | None = None
        self._hold(cost)
        self._taken = cost

    @property
    def tokens(self) -> int:
        return self.cost.tokens

    def _hold(self, cost: RequestCost) -> None:
        self.cost = cost
        self.seconds = self._admission.price(cost)

    def decide_again(self, costs: Sequence[RequestCost]) -> None:
        """Hold what fits now, when the form fields are known and the upload has taken its time.

        Raises:
            Overloaded: there is no room for the cheapest, which costs more than what is held.
        """
        admission = self._admission
        admission._give_back(self)
        try:
            self.way, self.degraded_by = admission._choose(costs, self.cost)
            self._taken = costs[self.way]
            self._hold(self._taken)
        finally:
            admission._take(self)

    def shrink(self, cost: RequestCost) -> None:
        """Give back all but this, when it is known that no more is needed."""
        if cost.tokens < self.tokens:
            self._taken = cost
            self.advance(cost)

    def advance(self, left: RequestCost) -> None:
        """Give back all but what is left, because the rest is done: it counts for the pace."""
        self._admission._give_back(self)
        self._hold(left)
        self._admission._take(self)

    def begin(self) -> None:
        """The upload is complete: from here on the time that passes is ours."""
        self._working = True
        self._admission._begin()

    def answered(self, tokens: int) -> None:
        """The work was done, and was these tokens: it counts for the pace."""
        self._done_tokens = tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._admission._give_back(self)
        if self._working:
            self._admission._end(self._taken, self._done_tokens)
