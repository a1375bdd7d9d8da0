"""What may come in: a slot and the cost in tokens are reserved before any work is done.

Everything here runs on the event loop between two awaits, so that a check and the reservation it
allows are one step: a burst of requests cannot all pass the check before the first is counted.
"""

import math
import time
from types import TracebackType
from typing import Self

from service.errors import Overloaded

# Weight of the newest measurement of the rate; the last five or so requests make up the estimate.
_NEWEST = 0.2
_LONGEST_RETRY_SECONDS = 600


class Admission:
    """Counts requests and tokens from admission to answer, and refuses at once what is too much.

    Args:
        max_requests: requests accepted at the same time.
        max_tokens: tokens accepted at the same time; a single request may exceed it when alone.
        max_wait_seconds: a request that would wait longer for the tokens before it is refused,
            because it could not be answered before its deadline.
    """

    def __init__(self, max_requests: int, max_tokens: int, max_wait_seconds: float) -> None:
        self._max_requests, self._max_tokens = max_requests, max_tokens
        self._max_wait_seconds = max_wait_seconds
        self.requests = 0
        self.tokens = 0
        self.tokens_per_second = 0.0
        self._working = 0
        self._measured_from = 0.0

    def seed(self, tokens_per_second: float) -> None:
        """A first estimate of the rate, from warm-up."""
        self.tokens_per_second = tokens_per_second

    def admit(self, tokens: int) -> "Reservation":
        """Reserve a slot and ``tokens``, or refuse.

        Raises:
            Overloaded: with the seconds after which the tokens before it will be done.
        """
        if self.requests >= self._max_requests:
            raise Overloaded(self._retry_after_seconds())
        self._check(tokens)
        self.requests += 1
        self.tokens += tokens
        return Reservation(self, tokens)

    def _check(self, tokens: int) -> None:
        if not self.tokens:
            return
        wait = self.tokens / self.tokens_per_second if self.tokens_per_second else 0.0
        if self.tokens + tokens > self._max_tokens or wait > self._max_wait_seconds:
            raise Overloaded(self._retry_after_seconds())

    def _retry_after_seconds(self) -> int:
        if not self.tokens_per_second:
            return 1
        seconds = math.ceil(self.tokens / self.tokens_per_second)
        return min(max(1, seconds), _LONGEST_RETRY_SECONDS)

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
    """A slot and tokens that are held until the ``with`` block ends, however it ends."""

    def __init__(self, admission: Admission, tokens: int) -> None:
        self._admission, self.tokens = admission, tokens
        self._working = self._answered = False

    def resize(self, tokens: int) -> None:
        """Hold another number of tokens, once the form fields are known.

        Raises:
            Overloaded: there is no room for more.
        """
        admission = self._admission
        admission.tokens -= self.tokens
        try:
            if tokens > self.tokens:
                admission._check(tokens)
            self.tokens = tokens
        finally:
            admission.tokens += self.tokens

    def begin(self) -> None:
        """The upload is complete: from here on the time that passes is ours."""
        self._working = True
        self._admission._begin()

    def answered(self) -> None:
        """The work was done, so that its tokens count for the rate."""
        self._answered = True

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
            self._admission._end(self.tokens if self._answered else 0)
