"""The way of a stream: admit, decode as it comes, look at each window, and say at once what begins
and what ends.

Each window is admitted like a request of its own. What comes in too late is left out and said: a
stream that is watched is never watched late.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bundle.schema import Manifest
from service.admission.admission import Admission
from service.admission.cost import RequestCost
from service.decoding.clusters import ClusterCutter, StreamBroken
from service.decoding.fetching import StreamLost
from service.decoding.live import LiveDecoding, LiveLimits
from service.errors import (
    ClientDisconnected,
    ClipError,
    NotReady,
    Overloaded,
    ServiceError,
    StreamIdle,
    StreamTooLong,
)
from service.observability.metrics import Metrics
from service.observability.timing import Trace
from service.pipeline.counting import count_stream
from service.pipeline.journey import usual_window
from service.pipeline.stages import Stages
from service.pipeline.watching import Say, Watching
from service.pipeline.way import recorded, while_wanted
from service.pipeline.windows import WindowLooker
from service.sparsity.plan import Plan
from service.sparsity.timeline_parameters import LiveParameters
from video.facts import ClipLimits
from video.passages import PassagePlan

# Windows that a worker has room for beside those that overlap: the event loop copies each at once.
_SPARE_ROWS = 4
# A window is wanted before others' clips, whose answer may take so long.
_DUE_SECONDS = 0.5
_RETRY_SECONDS = 30
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 0.5, 30.0
# A connection that lasted so long was a good one.
_GOOD_SECONDS = 10.0


class Connection(Protocol):
    """Where packets come from, as Matroska."""

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def why(self) -> str:
        """How it ended, in one line for the one who watches; empty where nobody knows."""
        ...


class StreamSource(Protocol):
    """Where a stream comes from.

    Attributes:
        shown: what it is called.
        returns: whether it is connected to again where it breaks.
        ends: whether it has an end.
    """

    shown: str
    returns: bool
    ends: bool

    def connect(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        """Raises StreamLost."""
        ...

    async def gone(self) -> None:
        """Return when nobody waits for the answer any more; or never."""
        ...

    async def stopped(self) -> None:
        """Return when it is to end in good order; or never."""
        ...


@dataclass(frozen=True, slots=True)
class LiveCall:
    """One time that the pipeline is asked about a stream; else as a call about a long video."""

    source: StreamSource
    query: Sequence[tuple[str, str]]
    say: Say
    trace: Trace = field(default_factory=Trace)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """See the settings of these names, which begin with ``stream_``.

    Attributes:
        patience_seconds: how long a window may take.
    """

    max_streams: int
    max_seconds: float
    idle_timeout_seconds: float
    held_bytes: int
    decode_timeout_seconds: float
    window_seconds: float
    patience_seconds: float


@dataclass(slots=True)
class LiveWay:
    """What the ways of all streams have in common; else as :class:`TimelineWay`."""

    manifest: Manifest
    admission: Admission
    stages: Stages
    metrics: Metrics
    not_ready_because: Callable[[], str | None]
    draining: Callable[[], bool]
    plan: Callable[[Iterable[tuple[str, str]]], Plan]
    limits: StreamLimits
    clip_limits: ClipLimits
    running: int = 0

    async def take(self, call: LiveCall) -> None:
        """Watch one stream to its end.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        with recorded(self.metrics, call.trace):
            with call.trace.stage("admit"):
                if reason := self.not_ready_because():
                    raise NotReady(reason)
                plan = self.plan(call.query)
                slot = self.admission.admit((RequestCost((), selected=True),))
            with slot, self._turn():
                await while_wanted(_Watch(self, call, plan).go(), call.source.gone, None)
            count_stream(self.metrics, call.trace)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if self.running >= self.limits.max_streams:
            raise Overloaded(_RETRY_SECONDS, "streams")
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class _Watch:
    """One stream, through all its connections."""

    def __init__(self, way: LiveWay, call: LiveCall, plan: Plan) -> None:
        self._way, self._call = way, call
        assert isinstance(plan.asked, LiveParameters)
        self._asked = plan.asked
        manifest, limits = way.manifest, way.limits
        self._window = self._asked.window or usual_window(manifest, limits.window_seconds)
        self._stride = self._asked.stride or self._window / 2
        # A window waits for no room: there will be another.
        looker = WindowLooker(
            manifest, way.admission, way.stages, 0.0, limits.patience_seconds, _DUE_SECONDS
        )
        self._watching = Watching(
            manifest,
            looker,
            way.metrics,
            plan,
            self._window,
            self._stride,
            call.source.shown,
            call.say,
            call.trace,
        )
        self._started = time.monotonic()

    async def go(self) -> None:
        """Connect, watch, and connect again."""
        source, backoff = self._call.source, _FIRST_BACKOFF_SECONDS
        stopping = asyncio.create_task(self._stopped())
        try:
            while True:
                began, why = time.monotonic(), ""
                try:
                    async with source.connect() as connection:
                        try:
                            await self._follow(connection, stopping)
                        finally:
                            if not stopping.done():
                                why = await connection.why()
                except (StreamLost, StreamBroken) as error:
                    why = str(error)
                except ClientDisconnected:
                    raise
                except ServiceError as error:
                    goes_on = source.returns or stopping.done()
                    if not (goes_on and isinstance(error, ClipError | StreamIdle)):
                        # What has begun ends all the same.
                        await self._watching.part()
                        raise
                    why = why or error.detail
                await self._watching.part()
                if stopping.done() or not source.returns:
                    break
                if time.monotonic() - began > _GOOD_SECONDS:
                    backoff = _FIRST_BACKOFF_SECONDS
                pause = backoff * random.uniform(0.8, 1.2)
                await self._watching.broke(why or "it ended", pause)
                await asyncio.wait({stopping}, timeout=pause)
                if stopping.done():
                    break
                backoff = min(2 * backoff, _LONGEST_BACKOFF_SECONDS)
            ended = stopping.result() if stopping.done() else "the stream ended"
            await self._watching.done(ended)
        finally:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)

    async def _stopped(self) -> str:
        """Why it is over, when it is."""
        stopped = asyncio.ensure_future(self._call.source.stopped())
        try:
            while True:
                done, _ = await asyncio.wait({stopped}, timeout=0.2)
                if done:
                    return "it was told to stop"
                if self._way.draining():
                    return "the service is shutting down"
        finally:
            stopped.cancel()
            await asyncio.gather(stopped, return_exceptions=True)

    async def _follow(self, connection: Connection, stopping: "asyncio.Task[str]") -> None:
        """Watch one connection until it ends."""
        way, limits = self._way, self._way.limits
        overlapping = int(self._window / self._stride) + 2
        plan = PassagePlan.of(
            way.manifest.geometry,
            way.manifest.sampling,
            start=0.0,
            window=self._window,
            stride=self._stride,
            windows=overlapping + _SPARE_ROWS,
            since=None,
            until=None,
            cuts=self._asked.cuts,
            zero=None,
        )
        left = limits.max_seconds - (time.monotonic() - self._started)
        decoding = LiveDecoding(
            way.stages.pool,
            plan,
            LiveLimits(
                way.clip_limits,
                limits.max_seconds,
                limits.decode_timeout_seconds,
                max(1.0, self._window / 2),
                limits.held_bytes,
            ),
        )
        feeding = asyncio.create_task(self._feed(connection, decoding, left))
        running = asyncio.create_task(decoding.run())
        stopping.add_done_callback(stop := lambda _: feeding.cancel())
        if stopping.done():
            feeding.cancel()
        try:
            while (made := await decoding.windows()) is not None:
                await self._watching.look(made, decoding)
            await asyncio.wait({running})
            # Why no more came says more than that it could not be decoded then.
            if feeding.done() and not feeding.cancelled():
                feeding.result()
            running.result()
        finally:
            stopping.remove_done_callback(stop)
            for task in (feeding, running):
                task.cancel()
            await asyncio.gather(feeding, running, return_exceptions=True)

    async def _feed(self, connection: Connection, decoding: LiveDecoding, left: float) -> None:
        """Give on what comes.

        Raises:
            StreamBroken: it is no stream.
            StreamIdle: nothing came for too long.
            StreamTooLong: it goes on beyond what it may have.
        """
        cutter, chunks = ClusterCutter(), connection.chunks()
        idle = self._way.limits.idle_timeout_seconds
        until = time.monotonic() + left
        try:
            while True:
                if time.monotonic() > until:
                    raise StreamTooLong(self._way.limits.max_seconds)
                try:
                    async with asyncio.timeout(idle):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise StreamIdle(idle) from None
                for piece in cutter.push(chunk):
                    await decoding.put(piece)
        finally:
            decoding.end()
