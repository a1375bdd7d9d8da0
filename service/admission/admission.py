"""What may come in: a slot and the cost of a request are reserved before any work is done.

Everything here runs on the event loop between two awaits, so that a check and the reservation it
allows are one step: a burst of requests cannot all pass the check before the first is counted.

Three bounds say how much there is to do: slots, tokens, and the wait that the requests mean at the
throughput of the last answers. The load is the share of the nearest of them.
"""

import asyncio
import math
import time
from collections.abc import Sequence

from service.admission.cost import Price, RequestCost, price_by_tokens
from service.admission.degrading import AdmissionLimits, Bound, Load, decide
from service.admission.reservation import Reservation
from service.admission.throughput import Throughput
from service.errors import Overloaded, Shortage

_LONGEST_RETRY_SECONDS = 600

# At most this share of the longest wait is kept for large requests.
_SPARED_SHARE = 0.25


class Admission:
    """Counts requests and costs from admission to answer, and refuses at once what is too much.

    Attributes:
        requests, tokens: that are admitted and not answered.
        busy, idle: whether there are any, to be waited for.
    """

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self.requests = 0
        self.tokens = 0
        self.busy, self.idle = asyncio.Event(), asyncio.Event()
        self.idle.set()
        self.throughput = Throughput()
        self._seconds = 0.0
        self.price: Price = price_by_tokens
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
        self.throughput.guess(price(usual), usual.tokens)

    @property
    def wait_seconds(self) -> float:
        """Until all that was accepted is expected to be answered."""
        return self.throughput.seconds(self._seconds)

    @property
    def load(self) -> Load:
        """The share of the nearest bound that is taken, and which one it is."""
        return self._load(self._spared_seconds())

    def _load(self, spared: float) -> Load:
        limits = self._limits
        shares: dict[Bound, float] = {
            "tokens": self.tokens / limits.max_tokens,
            "wait": self.wait_seconds / (limits.max_wait_seconds - spared),
            "requests": self.requests / limits.max_requests,
        }
        nearest = max(shares, key=lambda bound: shares[bound])
        return Load(shares[nearest], nearest)

    def _spared_seconds(self) -> float:
        """For a large request, however small those are that come.

        Under overload they would fill every gap before it is wide enough for a large one.
        """
        large = self.throughput.seconds(self.price(self._large))
        return min(large, _SPARED_SHARE * self._limits.max_wait_seconds)

    def admit(self, costs: Sequence[RequestCost]) -> Reservation:
        """Reserve a slot and a cost, or refuse.

        Args:
            costs: of each way in which the request may be served, best first: one for a request
                that may not be degraded.

        Raises:
            Overloaded: with the seconds after which what is before it will be done.
        """
        if self.requests >= self._limits.max_requests:
            raise self.overloaded("requests")
        way, degraded_by = self.choose(costs, held=None)
        reservation = Reservation(self, costs[way], way, degraded_by)
        self.take(reservation)
        return reservation

    def overloaded(self, reason: Shortage) -> Overloaded:
        """A refusal with the seconds after which what was accepted will be done."""
        seconds = math.ceil(self.wait_seconds)
        return Overloaded(min(max(1, seconds), _LONGEST_RETRY_SECONDS), reason)

    def choose(
        self, costs: Sequence[RequestCost], held: RequestCost | None
    ) -> tuple[int, Bound | None]:
        """The best way there is room for, and what keeps it from being the first.

        ``held`` was reserved before and is not counted now: a cost that does not exceed it fits.

        Raises:
            Overloaded: there is no room for the cheapest.
        """
        spared = self._spared_seconds()
        load = self._load(spared)
        if held is not None:  # it is in already, and may take that as well
            spared = 0.0
        way, degraded_by = decide(
            costs, load, self._limits, lambda cost: self._short_of(cost, held, spared)
        )
        if way is None:
            assert degraded_by is not None
            raise self.overloaded(degraded_by)
        return way, degraded_by

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
        own = max(self.throughput.seconds(self.price(cost)), spared)
        return "wait" if self.wait_seconds + own > limits.max_wait_seconds else None

    def take(self, reservation: Reservation) -> None:
        """Count what a reservation holds."""
        self.requests += 1
        self.busy.set()
        self.idle.clear()
        self.tokens += reservation.tokens
        self._seconds += reservation.seconds

    def give_back(self, reservation: Reservation) -> None:
        """Count what a reservation holds no more."""
        self.requests -= 1
        self.tokens -= reservation.tokens
        # What floats leave over is not carried on from one request to the next.
        self._seconds = self._seconds - reservation.seconds if self.requests else 0.0
        if not self.requests:
            self.idle.set()
            self.busy.clear()

    def begin(self) -> None:
        """Note that one more request is being worked on."""
        if self._working == 0:
            self._measured_from = time.monotonic()
        self._working += 1

    def end(self, taken: RequestCost, tokens: int | None) -> None:
        """Measure the throughput from answer to answer, while there is something to do.

        Args:
            taken: what the request was counted as. It is priced anew, because prices change as
                clips are decoded, and the throughput is for those of today.
            tokens: that were answered; None for what failed, whose time the others waited, too.
        """
        self._working -= 1
        if tokens is not None:
            now = time.monotonic()
            self.throughput.measured(now - self._measured_from, self.price(taken), tokens)
            self._measured_from = now
