"""The way of one clip: admit, upload, decode, select, queue, extract.

HTTP and the command line use the same pipeline; they differ in where the bytes come from.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from bundle.reader import Bundle
from bundle.sampling import Views
from service.admission.admission import Admission, AdmissionLimits, Cost, Reservation
from service.decoding.process import EndReason, WorkerStartError
from service.decoding.protocol import SANDBOXES, Sandbox
from service.decoding.shared_memory import Block
from service.engine import Engine, EngineError, OutOfMemory
from service.errors import (
    ClientDisconnected,
    ClipError,
    InternalError,
    NotReady,
    OutOfRoom,
    Overloaded,
    RequestTimeout,
    ServiceError,
)
from service.http import schemas
from service.http.body import Received
from service.http.responses import Done
from service.observability import exemplars
from service.observability.metrics import ENGINE_STAGES, Metrics, outcome_of
from service.observability.timing import Trace
from service.pipeline.decode_pool import decode_pool
from service.pipeline.parameters import Bounds
from service.pipeline.requests import ClassifyRequest, ClipRequest, SweepRequest, Terms
from service.pipeline.stages import ClipWork, Stages, Times
from service.settings import DEFAULT_LEVELS, Settings
from service.sparsity.levels import SparsityPolicy
from video.facts import ClipFacts

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# Whoever names no budget wants the answer as soon as one with a budget of a second. A tight budget
# so gains a second at most on those who came before: they are overtaken, but never for good.
_PATIENCE_SECONDS = 1.0

# Predictions scatter: who is expected to be answered later than at this share of the deadline may
# be late, and would then have been work for nothing.
_SURE_SHARE = 0.7

# The memory that holds a clip is full, or there is no descriptor for it.
_LACKS = (errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class StartError(Exception):
    """The pipeline cannot be made ready; the text says why and what to do."""


class Source(Protocol):
    """Where a clip comes from."""

    async def read_clip(self, block: Block) -> Received:
        """Put the clip's bytes into ``block``."""
        ...

    async def gone(self) -> None:
        """Return when nobody waits for the answer any more; or never."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One time that the pipeline is asked about a clip.

    Attributes:
        source: where the clip's bytes come from.
        query: parameters that are known before the body is read.
        request_id: repeated in the answer.
        trace: filled with the time of each stage, also when it fails on the way.
        store: False passes the cache by, if there is one.
    """

    source: Source
    query: Sequence[tuple[str, str]]
    request_id: str
    trace: Trace = field(default_factory=Trace)
    store: bool = True


class Pipeline:
    """Everything between a clip's bytes and its labels; made once, started once."""

    def __init__(self, bundle: Bundle, settings: Settings, metrics: Metrics) -> None:
        self.bundle, self.settings, self.metrics = bundle, settings, metrics
        self.manifest = bundle.manifest
        self.policy = SparsityPolicy(
            settings.sparsity_levels,
            settings.sparsity_levels or DEFAULT_LEVELS,
            self.manifest.geometry.tokens,
            self.manifest.sparsity,
        )
        self.terms = Terms(
            self.manifest,
            self.policy,
            Bounds(settings.max_views, settings.max_top_labels),
            settings.degrade_max_sparsity,
        )
        self.admission = Admission(
            AdmissionLimits(
                max_requests=settings.max_requests_in_flight,
                max_tokens=settings.max_tokens_in_flight,
                max_wait_seconds=_SURE_SHARE * settings.request_timeout_seconds,
                degrade_from_load=settings.degrade_from_load,
                degrade_full_load=settings.degrade_full_load,
            )
        )
        self.engine: Engine | None = None
        self.pool = decode_pool(settings, self._restarted, self._decoded)
        self.stages = Stages(
            self.manifest,
            self.pool,
            self._engine,
            cache_bytes=settings.cache_bytes,
            timeout_seconds=settings.request_timeout_seconds,
            on_eviction=metrics.cache_evictions.inc,
        )
        self.draining = False
        self._watch()

    @property
    def default_views(self) -> str:
        return self.manifest.sampling.default_views

    def not_ready_because(self) -> str | None:
        """Why no clip is taken, or None when they are."""
        if self.draining:
            return "it is shutting down"
        if self.engine is None:
            return "it is warming up"
        return self.pool.not_ready_because()

    async def start(self) -> None:
        """Start the decode workers, build the sessions and warm both.

        Raises:
            StartError: no worker, or not the engine that the settings ask for.
        """
        reasons: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.pool.start())
                loading = group.create_task(asyncio.to_thread(self._load_engine))
        except* (EngineError, WorkerStartError) as errors:
            reasons += [str(error) for error in errors.exceptions]
        if reasons:
            await self.pool.stop()
            raise StartError("; ".join(reasons))
        self.engine = loading.result()
        self.metrics.describe_model(self.manifest, self.engine.providers)

    async def stop(self) -> None:
        """End the decode workers and the engine; nothing is left running."""
        await self.pool.stop()
        if self.engine is not None:
            await asyncio.to_thread(self.engine.close)
            self.engine = None

    async def classify(self, call: Call) -> schemas.Classification:
        """Take one clip all the way.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        return await self._recorded(ClassifyRequest(self.terms), call)

    async def sweep(self, call: Call) -> schemas.Sweep:
        """Take one clip through several sparsities; everything else as in :meth:`classify`."""
        return await self._recorded(SweepRequest(self.terms), call)

    async def _recorded(self, request: ClipRequest[_T], call: Call) -> _T:
        error: ServiceError | None = None
        try:
            return await self._serve(request, call)
        except ServiceError as caught:
            error = caught
            raise
        except asyncio.CancelledError:
            error = ClientDisconnected()
            raise
        except BaseException as caught:
            if not _is_lack_of_room(caught):
                error = InternalError()
                raise
            logger.warning("no room for a clip", exc_info=caught)
            error = OutOfRoom()
            raise error from None
        finally:
            self._record(error, call.trace)

    async def _serve(self, request: ClipRequest[_T], call: Call) -> _T:
        source, trace = call.source, call.trace
        with trace.stage("admit"):
            if reason := self.not_ready_because():
                raise NotReady(reason)
            request.read(call.query)
            reservation = self.admission.admit(request.costs)
        with reservation, Block("clip") as clip:
            with trace.stage("upload"):
                received = await source.read_clip(clip)
            request.read([*call.query, *received.form])
            reservation.decide_again(request.costs)
            reservation.begin()
            self.metrics.clip_bytes.observe(clip.size)
            work = await self._while_wanted(
                self._compute(request, call, clip, reservation), source.gone
            )
            reservation.answered(work.tokens)
            self._count(work)
            request.count(self.metrics)
            return request.answer(
                Done(self.manifest, work, received.container, clip.size, trace, call.request_id)
            )

    async def _compute(
        self, request: ClipRequest[_T], call: Call, clip: Block, reservation: Reservation
    ) -> ClipWork:
        clock = time.monotonic
        arrived = clock()
        deadline = arrived + self.settings.request_timeout_seconds
        wanted_in = min(_PATIENCE_SECONDS, request.budget_seconds or _PATIENCE_SECONDS)
        times = Times(call.trace, deadline, arrived + wanted_in)
        try:
            work = await self.stages.select(clip, request.views, times, store=call.store)
            await request.work(work, reservation, lambda: clock() - arrived)
        except OutOfMemory:
            raise self.admission.overloaded("device") from None
        return work

    async def _while_wanted(
        self, work: Coroutine[Any, Any, _T], gone: Callable[[], Awaitable[None]]
    ) -> _T:
        """Await the work; cancel it when nobody waits for it any more, or for too long."""
        working = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(gone())
        try:
            done, _ = await asyncio.wait(
                {working, watching},
                timeout=self.settings.request_timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if working in done:
                return working.result()
            if watching in done:
                raise ClientDisconnected
            raise RequestTimeout(self.settings.request_timeout_seconds)
        finally:
            watching.cancel()
            working.cancel()
            # Only when the work has really ended is its reservation given back.
            await asyncio.gather(working, watching, return_exceptions=True)

    def _load_engine(self) -> Engine:
        engine = Engine(self.bundle, self.settings.engine_options(), self.metrics)
        usual = self.policy.default.kept
        engine.calibrate(self.policy.warm_levels(), usual)
        self.admission.use(
            lambda cost: engine.cost.clip_seconds(*cost),
            usual=Cost((usual,)),
            large=Cost((self.manifest.geometry.tokens,), Views.parse(self.default_views).count),
        )
        return engine

    def _engine(self) -> Engine:
        if self.engine is None:
            raise NotReady("it is warming up")
        return self.engine

    def _decoded(self, facts: ClipFacts, seconds: float) -> None:
        self.metrics.decoded_clips.labels(facts.decoder).inc()
        if self.engine is not None:
            pixels = facts.width * facts.height * facts.frames
            decoding = self.engine.cost.decoding
            self.metrics.clip_decoded(decoding.seconds(pixels), seconds)
            decoding.measured(pixels, seconds)

    def _is_confined_by(self, level: Sandbox) -> bool:
        return self.pool.sandbox == level

    def _restarted(self, reason: EndReason) -> None:
        self.metrics.decode_restarts.labels(reason).inc()

    def _watch(self) -> None:
        metrics, admission = self.metrics, self.admission
        metrics.watch("lookwhen_ready", lambda: self.not_ready_because() is None)
        metrics.watch("lookwhen_requests_in_flight", lambda: admission.requests)
        metrics.watch("lookwhen_queued_tokens", lambda: admission.tokens)
        metrics.watch("lookwhen_tokens_per_second", lambda: admission.pace.tokens_per_second)
        metrics.watch("lookwhen_predicted_wait_seconds", lambda: admission.wait_seconds)
        metrics.watch("lookwhen_load_ratio", lambda: admission.load[0])
        metrics.watch("lookwhen_cache_bytes", lambda: self.stages.cache.bytes)
        metrics.watch("lookwhen_cache_entries", lambda: len(self.stages.cache))
        metrics.watch("lookwhen_decode_workers", lambda: self.pool.live)
        for level in SANDBOXES:
            metrics.watch_sandbox(level, partial(self._is_confined_by, level))
        metrics.watch_queue("decode", lambda: self.pool.waiting)
        for stage in ENGINE_STAGES:
            metrics.watch_engine(stage, lambda: self.engine)

    def _count(self, work: ClipWork) -> None:
        metrics = self.metrics
        metrics.tokens_kept.inc(work.tokens)
        metrics.tokens_seen.inc(self.manifest.geometry.tokens * work.views * work.extractions)
        metrics.cache_uses.labels(work.cache).inc()
        metrics.substituted_frames.inc(work.selection.facts.substituted_frames)

    def _record(self, error: ServiceError | None, trace: Trace) -> None:
        metrics, exemplar = self.metrics, exemplars.current.get()
        for stage, seconds in trace.seconds.items():
            metrics.stages.labels(stage).observe(seconds, exemplar)
        metrics.outcomes.labels(outcome_of(error)).inc()
        if error is None:
            metrics.duration.observe(trace.total, exemplar)
        elif isinstance(error, ClipError):
            metrics.decode_failures.labels(error.code).inc()
        elif isinstance(error, Overloaded):
            metrics.refusals.labels(error.reason).inc()


def _is_lack_of_room(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LACKS)
