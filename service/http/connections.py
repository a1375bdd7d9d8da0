"""Connections that only wait: bounded in time and in number, so that they lock nobody out.

uvicorn keeps a connection for as long as its client pleases, as long as it has not sent the whole
head of a request, or goes on sending a body that was refused. A proxy in front would see to that;
this is for where there is none.
"""

import asyncio
import resource
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Descriptors for everything but connections: libraries, sockets of workers, blocks of clips.
_OTHER_DESCRIPTORS = 512


class GuardedProtocol(H11Protocol):
    """uvicorn's connection, with a deadline for heads and a place in the order of age."""

    max_connections: ClassVar[int]
    header_timeout_seconds: ClassVar[float]

    _deadline: asyncio.TimerHandle | None = None
    _upgraded = False
    _waiting_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait()
        if len(self.connections) > self.max_connections:
            waiting = [c for c in self.connections if isinstance(c, GuardedProtocol) and c.waits]
            # Among those is at least this one.
            min(waiting, key=lambda connection: connection._waiting_since).give_up()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._upgraded or not self.waits:
            self._cancel_deadline()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """From here on the connection is another protocol's; streams are bounded in number."""
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    @property
    def waits(self) -> bool:
        """Whether no request is under way: its head is not there, or it has been answered."""
        return self.cycle is None or self.cycle.response_complete

    def give_up(self) -> None:
        """Close a connection that waits; a later request may have begun meanwhile."""
        self._deadline = None
        if self.waits:
            self.transport.abort()

    def _wait(self) -> None:
        self._waiting_since = self.loop.time()
        self._deadline = self.loop.call_later(self.header_timeout_seconds, self.give_up)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def guarded(max_connections: int, header_timeout_seconds: float) -> type[GuardedProtocol]:
    """The class of connections with these limits; see the settings of the same names."""
    limits = {"max_connections": max_connections, "header_timeout_seconds": header_timeout_seconds}
    return type("GuardedProtocol", (GuardedProtocol,), limits)


def make_room(max_connections: int) -> None:
    """Raise this process's limit of open descriptors to what its connections may take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        highest = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
