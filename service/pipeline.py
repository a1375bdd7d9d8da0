"""The way of one clip: admit, upload, decode, select, queue, extract.

HTTP and the command line use the same pipeline; they differ in where the bytes come from.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bundle.reader import Bundle
from bundle.sampling import Views
from bundle.tokens import select_top_k
from service import answers, parameters, schemas
from service.admission import Admission
from service.body import Received
from service.cpus import available_cpus
from service.decoding.blocks import Block
from service.decoding.pool import DecodePool, PoolLimits
from service.decoding.process import EndReason, WorkerStartError
from service.decoding.protocol import ClipFacts, ClipLimits, ViewPlan
from service.engine import DeadlinePassed, Engine, EngineError, EngineOptions
from service.errors import (
    ClientDisconnected,
    ClipError,
    InternalError,
    NotReady,
    RequestTimeout,
    ServiceError,
)
from service.metrics import Metrics, outcome_of
from service.parameters import Parameters
from service.policy import Decision, SparsityPolicy
from service.settings import Settings
from service.trace import Trace

_T = TypeVar("_T")


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


class Pipeline:
    """Everything between a clip's bytes and its labels; made once, started once."""

    def __init__(self, bundle: Bundle, settings: Settings, metrics: Metrics) -> None:
        self.bundle, self.settings, self.metrics = bundle, settings, metrics
        self.manifest = bundle.manifest
        self.policy = SparsityPolicy(
            settings.sparsity_levels,
            self.manifest.geometry.tokens,
            self.manifest.sparsity.default,
        )
        self.admission = Admission(
            settings.max_requests_in_flight,
            settings.max_tokens_in_flight,
            settings.request_timeout_seconds,
        )
        self.engine: Engine | None = None
        self.pool = DecodePool(
            PoolLimits(
                workers=settings.decode_workers or min(4, available_cpus()),
                ffmpeg_threads=settings.decode_ffmpeg_threads,
                timeout_seconds=settings.decode_timeout_seconds,
                start_timeout_seconds=settings.decode_start_timeout_seconds,
                memory_bytes=settings.decode_memory_bytes,
                recycle_jobs=settings.decode_recycle_jobs,
                recycle_rss_bytes=settings.decode_recycle_rss_bytes,
            ),
            ClipLimits(
                max_streams=settings.max_streams,
                max_frame_pixels=settings.max_frame_pixels,
                max_clip_seconds=settings.max_clip_seconds,
                max_clip_frames=settings.max_clip_frames,
                max_frames_per_second=settings.max_frames_per_second,
            ),
            self._restarted,
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
        if not self.pool.live:
            return "no decode worker is running"
        return None

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

    async def classify(
        self, source: Source, query: Iterable[tuple[str, str]], request_id: str, trace: Trace
    ) -> schemas.Classification:
        """Take one clip all the way.

        Args:
            source: where its bytes come from.
            query: parameters that are known before the body is read.
            request_id: repeated in the answer.
            trace: filled with the time of each stage, also when this raises.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        error: ServiceError | None = None
        try:
            return await self._classify(source, list(query), request_id, trace)
        except ServiceError as caught:
            error = caught
            raise
        except asyncio.CancelledError:
            error = ClientDisconnected()
            raise
        except BaseException:
            error = InternalError()
            raise
        finally:
            self._record(error, trace)

    async def _classify(
        self, source: Source, query: list[tuple[str, str]], request_id: str, trace: Trace
    ) -> schemas.Classification:
        with trace.stage("admit"):
            if reason := self.not_ready_because():
                raise NotReady(reason)
            _, decision, cost = self._decide(query)
            reservation = self.admission.admit(cost)
        with reservation, Block("clip") as clip:
            with trace.stage("upload"):
                received = await source.read_clip(clip)
            asked, decision, cost = self._decide([*query, *received.form])
            reservation.resize(cost)
            reservation.begin()
            self.metrics.clip_bytes.observe(clip.size)
            work = self._compute(clip, asked, decision, trace)
            logits, facts = await self._while_wanted(work, source.gone)
            reservation.answered()
            self._count(decision, asked.views, facts)
            return answers.classification(
                self.manifest, logits, asked, decision, facts, received.container, clip.size,
                trace, request_id,
            )  # fmt: skip

    def _decide(self, pairs: Iterable[tuple[str, str]]) -> tuple[Parameters, Decision, int]:
        texts = parameters.collect(pairs)
        asked = parameters.parse(texts, self.default_views, self.settings.max_views)
        decision = self.policy.decide(asked.sparsity)
        return asked, decision, decision.kept * asked.views.count

    async def _compute(
        self, clip: Block, asked: Parameters, decision: Decision, trace: Trace
    ) -> tuple[NDArray[np.float32], ClipFacts]:
        geometry, engine = self.manifest.geometry, self._engine()
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout_seconds
        plan = ViewPlan(
            temporal=asked.views.temporal,
            spatial=asked.views.spatial,
            frames=geometry.frames,
            size=geometry.size,
            short_side=self.manifest.sampling.short_side,
        )
        with trace.stage("decode"):
            frames, facts = await self.pool.decode(clip, plan)  # [V, T, H, W, 3]
        clip.close()
        try:
            selected = await engine.select(frames, deadline=deadline)
            trace.add("queue", selected.waited)
            trace.add("select", selected.ran)
            with trace.stage("extract"):
                positions = await asyncio.to_thread(
                    select_top_k, selected.scores, decision.kept
                )  # [V, K]
            extracted = await engine.extract(frames, positions, selected.context, deadline=deadline)
        except DeadlinePassed:
            raise RequestTimeout(self.settings.request_timeout_seconds) from None
        trace.add("queue", extracted.waited)
        trace.add("extract", extracted.ran)
        return extracted.logits, facts

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
        settings = self.settings
        engine = Engine(
            self.bundle,
            EngineOptions(
                execution_providers=settings.execution_providers,
                intra_op_threads=settings.intra_op_threads,
                max_concurrent_inferences=settings.max_concurrent_inferences,
                max_batch_tokens=settings.max_batch_tokens,
            ),
        )
        trained = self.manifest.sparsity
        engine.warm_up(self.policy.warm_levels(trained.lowest, trained.highest))
        usual, cost = self.policy.decide(None).kept, engine.cost
        self.admission.seed(usual / (cost.select_seconds(1) + cost.extract_seconds(usual, 1)))
        return engine

    def _engine(self) -> Engine:
        if self.engine is None:
            raise NotReady("it is warming up")
        return self.engine

    def _restarted(self, reason: EndReason) -> None:
        self.metrics.decode_restarts.labels(reason).inc()

    def _watch(self) -> None:
        metrics, admission = self.metrics, self.admission
        metrics.watch("lookwhen_ready", lambda: self.not_ready_because() is None)
        metrics.watch("lookwhen_requests_in_flight", lambda: admission.requests)
        metrics.watch("lookwhen_queued_tokens", lambda: admission.tokens)
        metrics.watch("lookwhen_tokens_per_second", lambda: admission.tokens_per_second)
        metrics.watch("lookwhen_decode_workers", lambda: self.pool.live)
        metrics.watch_queue("decode", lambda: self.pool.waiting)
        metrics.watch_queue("inference", lambda: self.engine.waiting if self.engine else 0)

    def _count(self, decision: Decision, views: Views, facts: ClipFacts) -> None:
        metrics = self.metrics
        metrics.tokens_kept.inc(decision.kept * views.count)
        metrics.tokens_seen.inc(self.manifest.geometry.tokens * views.count)
        if decision.asked is not None:
            metrics.sparsity_asked.observe(decision.asked)
        metrics.sparsity_used.observe(decision.used)
        metrics.substituted_frames.inc(facts.substituted_frames)

    def _record(self, error: ServiceError | None, trace: Trace) -> None:
        metrics = self.metrics
        for stage, seconds in trace.seconds.items():
            metrics.stages.labels(stage).observe(seconds)
        metrics.outcomes.labels(outcome_of(error)).inc()
        if error is None:
            metrics.duration.observe(trace.total)
        elif isinstance(error, ClipError):
            metrics.decode_failures.labels(error.code).inc()
