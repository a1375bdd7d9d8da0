"""The parts of the service, put together: made once, started once, stopped once."""

import asyncio
import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from bundle.reader import Bundle
from bundle.sampling import Views, spatial_choices
from service.admission.admission import Admission
from service.admission.cost import RequestCost
from service.admission.degrading import AdmissionLimits
from service.decoding.process import EndReason, WorkerStartError
from service.decoding.protocol import SANDBOXES, Sandbox
from service.engine import Engine, EngineError
from service.errors import NotReady
from service.observability.metrics import ENGINE_STAGES, Metrics
from service.pipeline.counting import count_classification
from service.pipeline.decode_pool import decode_pool
from service.pipeline.drawing import DrawingLimits
from service.pipeline.live import LiveCall, LiveWay, StreamLimits
from service.pipeline.second_looks import SecondLookLimits, SecondLooks
from service.pipeline.stages import Stages
from service.pipeline.timeline import TimelineCall, TimelineLimits, TimelineWay
from service.pipeline.way import Answered, Call, Question, Way
from service.settings import DEFAULT_LEVELS, Settings
from service.sparsity import rules
from service.sparsity.levels import SparsityPolicy
from service.sparsity.loss import losses
from service.sparsity.parameters import (
    Bounds,
    EmbedParameters,
    ExplainParameters,
    Parameters,
    SweepParameters,
)
from service.sparsity.plan import (
    Plan,
    SweepPlan,
    plan_classification,
    plan_explanation,
    plan_sweep,
)
from service.sparsity.reading import bounded, read
from service.sparsity.timeline_parameters import LiveParameters, TimelineParameters
from video.facts import ClipFacts

_Answer = TypeVar("_Answer")

# Predictions scatter: a request that is expected to be answered later than at this share of the
# deadline may be late, and would then have been work for nothing.
_SURE_SHARE = 0.7


# A long video goes on for this share of the grace: then a passage may still be under way.
_DRAIN_SHARE = 0.5


class StartError(Exception):
    """The pipeline cannot be made ready; the text says why and what to do."""


class Pipeline:
    """Everything between a clip's bytes and its labels; made once, started once."""

    def __init__(self, bundle: Bundle, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.manifest = bundle.manifest
        self._bundle: Bundle | None = bundle
        self.policy = SparsityPolicy(
            settings.sparsity_levels,
            settings.sparsity_levels or DEFAULT_LEVELS,
            self.manifest.geometry.tokens,
            self.manifest.sparsity,
            # The others' scores are an order of the tokens and no more.
            weighs=self.manifest.selector.kind == "learned",
            losses=losses(self.manifest.accuracy, settings.engine_options().arithmetic),
        )
        bounds = Bounds(
            settings.max_views,
            settings.max_top_labels,
            self.default_views,
            spatial_choices(self.manifest.sampling.framing),
        )
        self.parameters = bounded(Parameters, bounds)
        self.embed_parameters = bounded(EmbedParameters, bounds)
        self.sweep_parameters = bounded(SweepParameters, bounds)
        self.explain_parameters = bounded(ExplainParameters, bounds)
        of_windows = dataclasses.replace(bounds, default_views="1x1")
        self.timeline_parameters = bounded(TimelineParameters, of_windows)
        self.live_parameters = bounded(LiveParameters, of_windows)
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
            max_listed=settings.max_explained_tokens,
            drawing_limits=DrawingLimits(settings.max_picture_pixels, settings.max_film_pixels),
            timeout_seconds=settings.request_timeout_seconds,
            on_eviction=metrics.cache_evictions.inc,
        )
        self.way = Way(
            self.admission,
            self.stages,
            metrics,
            self.not_ready_because,
            settings.request_timeout_seconds,
        )
        degrade_to = settings.degrade_max_sparsity
        self._classification = Question(
            lambda pairs: plan_classification(
                self.policy, read(self.parameters, pairs), degrade_to
            ),
            rules.classify,
        )
        self._embedding = Question(
            lambda pairs: plan_classification(
                self.policy, read(self.embed_parameters, pairs), degrade_to
            ),
            rules.classify,
        )
        self._sweep = Question(
            lambda pairs: plan_sweep(self.policy, read(self.sweep_parameters, pairs)), rules.sweep
        )
        self._explanation = Question(
            lambda pairs: plan_explanation(
                self.policy, read(self.explain_parameters, pairs), degrade_to
            ),
            rules.explain,
        )
        self.timelines = TimelineWay(
            self.manifest,
            self.admission,
            self.stages,
            metrics,
            self.not_ready_because,
            lambda: self.draining,
            lambda pairs: plan_classification(
                self.policy, read(self.timeline_parameters, pairs), degrade_to
            ),
            TimelineLimits(
                max_timelines_in_flight=settings.max_timelines_in_flight,
                max_video_seconds=settings.timeline_max_video_seconds,
                decode_timeout_seconds=settings.timeline_decode_timeout_seconds,
                window_seconds=settings.timeline_window_seconds,
                patience_seconds=settings.request_timeout_seconds,
                drain_seconds=_DRAIN_SHARE * settings.shutdown_grace_seconds,
            ),
            self.pool.clip_limits,
        )
        self.streams = LiveWay(
            self.manifest,
            self.admission,
            self.stages,
            metrics,
            self.not_ready_because,
            lambda: self.draining,
            lambda pairs: plan_classification(
                self.policy, read(self.live_parameters, pairs), degrade_to
            ),
            StreamLimits(
                max_streams=settings.max_streams,
                max_seconds=settings.stream_max_seconds,
                idle_timeout_seconds=settings.stream_idle_timeout_seconds,
                held_bytes=settings.stream_held_bytes,
                decode_timeout_seconds=settings.decode_timeout_seconds,
                window_seconds=settings.timeline_window_seconds,
                patience_seconds=settings.request_timeout_seconds,
            ),
            self.pool.clip_limits,
        )
        self.draining = False
        self.second_looks = SecondLooks(
            self.stages,
            self.admission,
            metrics,
            self.policy.lowest,
            SecondLookLimits(
                settings.agreement_share,
                settings.agreement_memory_bytes,
                settings.agreement_patience_seconds,
            ),
            lambda: self.draining,
        )
        self._watch()

    @property
    def default_views(self) -> str:
        return self.manifest.sampling.default_views

    @property
    def timeline_folder(self) -> Path:
        """Where long videos lie."""
        return self.settings.timeline_directory or Path(tempfile.gettempdir())

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
        self.second_looks.start()

    async def stop(self) -> None:
        """End the decode workers and the engine; nothing is left running."""
        await self.second_looks.stop()
        await self.pool.stop()
        if self.engine is not None:
            await asyncio.to_thread(self.engine.close)
            self.engine = None

    async def classify(
        self, call: Call, say: Callable[[Answered[Plan, rules.Classified]], _Answer]
    ) -> _Answer:
        """Take one clip all the way; ``say`` makes the answer of what was found.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """

        return await self._classify(self._classification, call, say)

    async def embed(
        self, call: Call, say: Callable[[Answered[Plan, rules.Classified]], _Answer]
    ) -> _Answer:
        """The same where the clip's embedding is what is asked for."""
        return await self._classify(self._embedding, call, say)

    async def _classify(
        self,
        question: Question[Plan, rules.Classified],
        call: Call,
        say: Callable[[Answered[Plan, rules.Classified]], _Answer],
    ) -> _Answer:
        def count_and_say(done: Answered[Plan, rules.Classified]) -> _Answer:
            asked, spent = done.plan.asked, done.spent_seconds
            count_classification(self.metrics, asked, done.outcome, spent)
            self.second_looks.offer(done.work.selection, done.outcome)
            return say(done)

        return await self.way.take(question, call, count_and_say)

    async def sweep(
        self, call: Call, say: Callable[[Answered[SweepPlan, rules.Swept]], _Answer]
    ) -> _Answer:
        """Take one clip through several sparsities; everything else as in :meth:`classify`."""

        def count_and_say(done: Answered[SweepPlan, rules.Swept]) -> _Answer:
            self.metrics.rules.labels("sweep").inc()
            return say(done)

        return await self.way.take(self._sweep, call, count_and_say)

    async def explain(
        self,
        call: Call,
        say: Callable[[Answered[Plan | SweepPlan, rules.Classified | rules.Swept]], _Answer],
    ) -> _Answer:
        """Take one clip all the way and draw what was kept of it; else as :meth:`classify`."""

        def count_and_say(
            done: Answered[Plan | SweepPlan, rules.Classified | rules.Swept],
        ) -> _Answer:
            if isinstance(done.plan, Plan) and isinstance(done.outcome, rules.Classified):
                asked, spent = done.plan.asked, done.spent_seconds
                count_classification(self.metrics, asked, done.outcome, spent)
            else:
                self.metrics.rules.labels("sweep").inc()
            return say(done)

        return await self.way.take(self._explanation, call, count_and_say)

    async def timeline(self, call: TimelineCall) -> None:
        """Go through a long video, and say what is found in it as it is found.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        await self.timelines.take(call)

    async def watch(self, call: LiveCall) -> None:
        """Watch a stream, and say what is found in it as it is found.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        await self.streams.take(call)

    def _load_engine(self) -> Engine:
        if self._bundle is None:
            raise RuntimeError("a pipeline is started once")
        engine = Engine(self._bundle, self.settings.engine_options(), self.metrics)
        # The sessions have the weights now; the bundle's bytes would hold them a second time.
        self._bundle = None
        usual = self.policy.default.kept
        engine.calibrate(self.policy.warm_levels(), usual)
        self.admission.use(
            lambda cost: engine.cost.clip_seconds(*cost),
            usual=RequestCost((usual,)),
            large=RequestCost(
                (self.manifest.geometry.tokens,), Views.parse(self.default_views).count
            ),
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
        metrics.watch("lookwhen_streams", lambda: self.streams.running)
        metrics.watch("lookwhen_timelines", lambda: self.timelines.running)
        metrics.watch("lookwhen_queued_tokens", lambda: admission.tokens)
        metrics.watch("lookwhen_tokens_per_second", lambda: admission.throughput.tokens_per_second)
        metrics.watch("lookwhen_predicted_wait_seconds", lambda: admission.wait_seconds)
        metrics.watch("lookwhen_load_ratio", lambda: admission.load[0])
        metrics.watch("lookwhen_cache_bytes", lambda: self.stages.cache.bytes)
        metrics.watch("lookwhen_cache_entries", lambda: len(self.stages.cache))
        metrics.watch("lookwhen_agreement_held_bytes", lambda: self.second_looks.held_bytes)
        metrics.watch("lookwhen_decode_workers", lambda: self.pool.live)
        for level in SANDBOXES:
            metrics.watch_sandbox(level, partial(self._is_confined_by, level))
        metrics.watch_queue("decode", lambda: self.pool.waiting)
        for stage in ENGINE_STAGES:
            metrics.watch_engine(stage, lambda: self.engine)
