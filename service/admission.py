"""What may come in: a slot and the cost in tokens are reserved before any work is done.

Everything here runs on the event loop between two awaits, so that a check and the reservation it
allows are one step: a burst of requests cannot all pass the check before the first is counted.

Three bounds say how much there is to do: slots, tokens, and the wait that the tokens mean at the
rate that is measured. The load is the share of the nearest of them. Between two marks of the load,
a request that allows it gets fewer tokens, the fewer the nearer the upper mark; it is refused only
when its cheapest way of being served does not fit.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from service.errors import Overloaded

# Weight of the newest measurement of the rate; the last five or so requests make up the estimate.
_NEWEST = 0.2
_LONGEST_RETRY_SECONDS = 600

Bound = Literal["requests", "tokens", "wait"]


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What may be in flight, and where degrading begins.

    Attributes:
        max_requests: requests accepted at the same time.
        max_tokens: tokens accepted at the same time; a single request may exceed it when alone.
        max_wait_seconds: a request that would wait longer for the tokens before it is refused,
            because it could not be answered before its deadline.
        degrade_from_load: share of the nearest bound above which requests are degraded.
        degrade_full_load: from this share on, as far as each allows.
    """

    max_requests: int
    max_tokens: int
    max_wait_seconds: float
    degrade_from_load: float = 0.5
    degrade_full_load: float = 0.9


class Admission:
    """Counts requests and tokens from admission to answer, and refuses at once what is too much."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self.requests = 0
        self.tokens = 0
        self.tokens_per_second = 0.0
        self._working = 0
        self._measured_from = 0.0

    def seed(self, tokens_per_second: float) -> None:
        """A first estimate of the rate, from warm-up."""
        self.tokens_per_second = tokens_per_second

    @property
    def load(self) -> tuple[float, Bound]:
        """The share of the nearest bound that is taken, and which one it is."""
        limits = self._limits
        shares: dict[Bound, float] = {
            "tokens": self.tokens / limits.max_tokens,
            "wait": self._wait_seconds() / limits.max_wait_seconds,
            "requests": self.requests / limits.max_requests,
        }
        nearest = max(shares, key=lambda bound: shares[bound])
        return shares[nearest], nearest

    def admit(self, costs: Sequence[int]) -> "Reservation":
        """Reserve a slot and tokens, or refuse.

        Args:
            costs: tokens of each way in which the request may be served, best first: one for a
                request that may not be degraded.

        Raises:
            Overloaded: with the seconds after which the tokens before it will be done.
        """
        if self.requests >= self._limits.max_requests:
            raise self.overloaded()
        way, degraded_by = self._choose(costs, held=0)
        self.requests += 1
        self.tokens += costs[way]
        return Reservation(self, costs[way], way, degraded_by)

    def _choose(self, costs: Sequence[int], held: int) -> tuple[int, Bound | None]:
        """The best way there is room for, and what keeps it from being the first.

        ``held`` tokens were reserved before, and are not counted now: as many always fit.
        """
        load, nearest = self.load
        limits = self._limits
        above = load - limits.degrade_from_load
        pressure = above / (limits.degrade_full_load - limits.degrade_from_load)
        # Each way gets an equal part of the interval between the marks.
        first = min(len(costs) - 1, max(0, math.floor(pressure * len(costs))))
        for way in range(first, len(costs)):
            if costs[way] <= held or self._fits(costs[way]):
                if way == 0:
                    return 0, None
                return way, nearest if way == first else "tokens"
        raise self.overloaded()

    def _fits(self, tokens: int) -> bool:
        if not self.tokens:
            return True
        limits = self._limits
        return (
            self.tokens + tokens <= limits.max_tokens
            and self._wait_seconds() <= limits.max_wait_seconds
        )

    def _wait_seconds(self) -> float:
        return self.tokens / self.tokens_per_second if self.tokens_per_second else 0.0

    def overloaded(self) -> Overloaded:
        """A refusal with the seconds after which what was accepted will be done."""
        return Overloaded(self._retry_after_seconds())

    def _retry_after_seconds(self) -> int:
        if not self.tokens_per_second:
            return 1
        return min(max(1, math.ceil(self._wait_seconds())), _LONGEST_RETRY_SECONDS)

    def _begin(self) -> None:
        if self._working == 0:
            self._measured_from = time.monotonic()
        self._working += 1

    def _end(self, tokens: int) -> None:
        """Measure the rate from answer to answer, while there is something to do."""
        now = time.monotonic()
        if tokens and now > self._measured_from:
            rate = tokens / (now - self._measured_from)
            known = self.tokens_per_second
            self.tokens_per_second = known + _NEWEST * (rate - known) if known else rate
        self._working -= 1
        self._measured_from = now


class Reservation:
    """A slot and tokens that are held until the ``with`` block ends, however it ends.

    Attributes:
        tokens: held.
        way: which of the costs they are.
        degraded_by: the bound that kept it from being the first; None when it is.
    """

    def __init__(
        self, admission: Admission, tokens: int, way: int, degraded_by: Bound | None
    ) -> None:
        self._admission, self.tokens = admission, tokens
        self.way, self.degraded_by = way, degraded_by
        self._working = False
        self._done_tokens = 0

    def decide_again(self, costs: Sequence[int]) -> None:
        """Hold what fits now, when the form fields are known and the upload has taken its time.

        Raises:
            Overloaded: there is no room for the cheapest, which costs more than what is held.
        """
        admission = self._admission
        admission.tokens -= self.tokens
        admission.requests -= 1
        try:
            self.way, self.degraded_by = admission._choose(costs, self.tokens)
            self.tokens = costs[self.way]
        finally:
            admission.tokens += self.tokens
            admission.requests += 1

    def shrink(self, tokens: int) -> None:
        """Give back all but ``tokens``, when it is known that no more are needed."""
        freed = max(0, self.tokens - tokens)
        self.tokens -= freed
        self._admission.tokens -= freed

    def begin(self) -> None:
        """The upload is complete: from here on the time that passes is ours."""
        self._working = True
        self._admission._begin()

    def answered(self, tokens: int) -> None:
        """The work was done, and was these tokens: they count for the rate."""
        self._done_tokens = tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._admission.requests -= 1
        self._admission.tokens -= self.tokens
        if self._working:
            self._admission._end(self._done_tokens)
