"""When workers die faster than they should: a reason to take no more clips for a while."""

import logging
import time
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)


class CircuitBreaker:
    """Counts deaths in a window; open from too many of them until it has been calm.

    Replacing a worker takes about a second of a CPU. A stream of clips that kill workers would
    leave none of it to the others, and a decoder that is broken (a library half updated, no memory)
    kills a worker with each clip: a load balancer has to send them elsewhere. Two thresholds rather
    than one, so that readiness does not flap with every death.

    Args:
        deaths: this number within the window opens it.
        window_seconds: how far back deaths are counted.
        calm_seconds: without a death for this long it closes again.
        clock: seconds, steady: the wall clock may jump.
    """

    def __init__(
        self,
        deaths: int,
        window_seconds: float,
        calm_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window_seconds, self._calm_seconds = window_seconds, calm_seconds
        self._clock = clock
        self._deaths: deque[float] = deque(maxlen=deaths)
        self._open = False

    def death(self) -> None:
        now = self._clock()
        self._deaths.append(now)
        full = len(self._deaths) == self._deaths.maxlen
        if not self._open and full and now - self._deaths[0] <= self._window_seconds:
            self._open = True
            logger.error(
                "decode workers die again and again; no clips are taken until it is calm",
                extra={"deaths": len(self._deaths), "within_seconds": now - self._deaths[0]},
            )

    def is_open(self) -> bool:
        if self._open and self._clock() - self._deaths[-1] >= self._calm_seconds:
            self._open = False
            self._deaths.clear()
            logger.info("decode workers have stopped dying; clips are taken again")
        return self._open
