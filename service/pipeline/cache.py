"""What was found out about a clip, kept for the next who sends it: bounded in bytes, by content.

Everything runs on the event loop; nothing here blocks or is called from threads.

A caller who measures how long an answer takes can tell whether somebody sent the same clip before,
and decoded frames of strangers' clips stay in memory. That is why the cache is off until an
operator who knows the callers gives it bytes, and why a request may pass it by.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from service.errors import ServiceError, Unavailable

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class ByteCache(Generic[_K, _T]):
    """The least recently used go first when the bytes are more than there may be.

    Args:
        max_bytes: 0 keeps nothing.
        on_eviction: called for each entry that is dropped for others.

    Attributes:
        bytes: held now.
    """

    def __init__(self, max_bytes: int, on_eviction: Callable[[], None] = lambda: None) -> None:
        self._max_bytes, self._on_eviction = max_bytes, on_eviction
        self._entries: OrderedDict[_K, tuple[_T, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: _K) -> _T | None:
        """The entry, which becomes the most recently used; None when there is none."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: _K, value: _T, size: int) -> None:
        """Keep ``value`` of ``size`` bytes, in the place of what ``key`` had.

        What is larger than the whole cache is not kept, and drives nothing out.
        """
        self._drop(key)
        if size > self._max_bytes:
            return
        self._entries[key] = (value, size)
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self._on_eviction()

    def _drop(self, key: _K) -> None:
        _, size = self._entries.pop(key, (None, 0))
        self.bytes -= size


@dataclass(slots=True)
class _Flight(Generic[_T]):
    """Work in progress, and how many wait for it."""

    task: "asyncio.Task[_T]"
    waiting: int = 0


@dataclass(slots=True)
class SingleFlight(Generic[_K, _T]):
    """The same work, asked for by several at once, is done once.

    The work belongs to all who wait for it: it goes on when some of them leave, also the first,
    and is cancelled when the last has left.
    """

    _flights: dict[_K, _Flight[_T]] = field(default_factory=dict)

    async def run(self, key: _K, work: Callable[[], Coroutine[Any, Any, _T]]) -> tuple[_T, bool]:
        """Do the work, or wait for the caller that does it already.

        Args:
            work: called at once when there is something to do, and not at all otherwise.

        Returns:
            What it gives, and whether it was done for this caller first.

        Raises:
            ServiceError: the work's, a copy for each who waits. One that is not the clip's fault,
                such as a deadline of the first caller's, makes the others try for themselves.
        """
        while True:
            flight = self._flights.get(key)
            # One that has just ended, and is about to be taken out, has nothing to wait for.
            first = flight is None or flight.task.done()
            if flight is None or first:
                flight = _Flight(asyncio.create_task(work()))
                self._flights[key] = flight
                flight.task.add_done_callback(partial(self._landed, key))
            try:
                return await self._wait(key, flight), first
            except ServiceError as error:
                if first or not isinstance(error, Unavailable):
                    raise _copied(error) from None

    async def _wait(self, key: _K, flight: _Flight[_T]) -> _T:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                # From now on nobody may join it.
                if self._flights.get(key) is flight:
                    del self._flights[key]
                flight.task.cancel()
                # Only when it has really ended is the caller's reservation given back.
                await asyncio.gather(flight.task, return_exceptions=True)

    def _landed(self, key: _K, task: "asyncio.Task[_T]") -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # seen, also when everybody who waited has left


def _copied(error: ServiceError) -> ServiceError:
    """An error of one's own, because answering it adds headers to it."""
    # Not copy.copy, which would call the constructor, and these have arguments of their own.
    own = type(error).__new__(type(error), *error.args)
    vars(own).update(vars(error), headers=dict(error.headers))
    return own
