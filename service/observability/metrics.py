"""What Prometheus sees: a registry per application, base units, label sets there from the start."""

import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import onnxruntime
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from bundle.schema import Manifest
from service import __version__
from service.decoding.protocol import SANDBOXES
from service.errors import (
    ClientDisconnected,
    ClipError,
    DecodeTimeout,
    NotReady,
    OutOfRoom,
    Overloaded,
    RequestError,
    RequestTimeout,
    ServiceError,
    Shortage,
    UploadTimeout,
    UploadTooSlow,
    all_errors,
)
from service.observability import exemplars
from service.observability.timing import STAGES
from video.facts import DECODERS

if TYPE_CHECKING:
    from service.engine import Engine, Work
    from service.engine.cost import StageName

OUTCOMES = ("ok", "request_error", "clip_error", "overloaded", "not_ready", "timeout",
            "disconnected", "internal_error")  # fmt: skip
ENGINE_STAGES: tuple["StageName", ...] = ("select", "extract")
RESTART_REASONS = ("crashed", "timeout", "abandoned", "protocol", "recycled")
RULES = ("fixed", "auto", "cascade", "sweep")
DEGRADED_BY = ("requests", "tokens", "wait", "budget")
SHORTAGES = get_args(Shortage)
WINDOW_FATES = ("extracted", "skipped", "lost")
STREAM_FATES = ("extracted", "skipped")
# Sparsities are counted with the next one here that is not below.
AGREEMENT_BANDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
AgreementFate = Literal["compared", "memory", "traffic", "failed", "ended"]
AGREEMENT_FATES: tuple[AgreementFate, ...] = get_args(AgreementFate)
# Route templates, the only values of the label `route`.
ROUTES = ("/", "/classify", "/sweep", "/explain", "/embed", "/timeline", "/stream", "/model",
          "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}",
          "/v2/models/{name}/ready", "/v2/models/{name}/infer", "/livez", "/readyz", "/metrics",
          "/docs", "/openapi.json", "/problems/{code}")  # fmt: skip
UNMATCHED = "unmatched"
# Of all calls over gRPC, which have the statuses that HTTP would answer.
RPC = "grpc"

# A creation time for each series would double their number, and Prometheus reads it from none.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SPARSITY_BUCKETS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99)
_EVENT_BUCKETS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 4.0, 6.0, 10.0)
_RATIO_BUCKETS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
_LONG_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)
_SIZE_BUCKETS = tuple(float(4**power * 1024) for power in range(1, 10))


def outcome_of(error: ServiceError | None) -> str:
    """Which of the few outcomes an error is; the code is counted on its own."""
    match error:
        case None:
            return "ok"
        case ClientDisconnected():
            return "disconnected"
        case DecodeTimeout() | RequestTimeout() | UploadTimeout() | UploadTooSlow():
            return "timeout"
        case Overloaded() | OutOfRoom():
            return "overloaded"
        case NotReady():
            return "not_ready"
        case ClipError():
            return "clip_error"
        case RequestError():
            return "request_error"
        case _:
            return "internal_error"


class Metrics:
    """The service's metrics; ``docs/http.md`` lists them."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        self.http_requests = Counter(
            "lookwhen_http_requests", "HTTP requests answered, by route template and status class.",
            ["route", "status"], registry=registry,
        )  # fmt: skip
        self.http_duration = Histogram(
            "lookwhen_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"], buckets=buckets, registry=registry,
        )  # fmt: skip
        self.http_in_flight = Gauge(
            "lookwhen_http_requests_in_flight", "HTTP requests being answered.", registry=registry
        )
        self.duration = Histogram(
            "lookwhen_classification_duration_seconds",
            "Classifications that were answered with labels, from admission to answer.",
            buckets=buckets, registry=registry,
        )  # fmt: skip
        self.stages = Histogram(
            "lookwhen_stage_duration_seconds",
            "Time in each stage of a classification that went through it.",
            ["stage"], buckets=buckets, registry=registry,
        )  # fmt: skip
        self.outcomes = Counter(
            "lookwhen_classifications", "Classifications asked for, by outcome.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self.errors = Counter(
            "lookwhen_errors", "Problems answered, by code.", ["code"], registry=registry
        )
        self.decode_failures = Counter(
            "lookwhen_decode_failures", "Clips that were not decoded, by code.",
            ["code"], registry=registry,
        )  # fmt: skip
        self.decode_restarts = Counter(
            "lookwhen_decode_worker_restarts", "Decode workers replaced, by reason.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.substituted_frames = Counter(
            "lookwhen_substituted_frames",
            "Sampled frames that could not be decoded and were replaced.", registry=registry,
        )  # fmt: skip
        self.decoded_clips = Counter(
            "lookwhen_decoded_clips", "Clips decoded, by what decoded them.",
            ["decoder"], registry=registry,
        )  # fmt: skip
        self.tokens_kept = Counter(
            "lookwhen_tokens_kept", "Tokens the extractor looked at.", registry=registry
        )
        self.tokens_seen = Counter(
            "lookwhen_tokens_seen", "Tokens the selector chose from.", registry=registry
        )
        self.sparsity_asked = Histogram(
            "lookwhen_sparsity_asked_ratio", "Sparsity that requests asked for.",
            buckets=_SPARSITY_BUCKETS, registry=registry,
        )  # fmt: skip
        self.sparsity_used = Histogram(
            "lookwhen_sparsity_used_ratio", "Sparsity that was used.",
            buckets=_SPARSITY_BUCKETS, registry=registry,
        )  # fmt: skip
        self.rules = Counter(
            "lookwhen_sparsity_rules", "Classifications answered, by what chose their sparsity.",
            ["rule"], registry=registry,
        )  # fmt: skip
        self.degradations = Counter(
            "lookwhen_degradations",
            "Classifications served sparser than asked for, by what was short.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.refusals = Counter(
            "lookwhen_refusals", "Classifications refused for want of room, by what was short.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.budgets = Counter(
            "lookwhen_budgets", "Classifications with a budget of time, by whether it was met.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self.agreement = Counter(
            "lookwhen_agreement",
            "Answers that were compared with a dense look, by whether its best label is the same.",
            ["sparsity", "answer"], registry=registry,
        )  # fmt: skip
        self.agreement_clips = Counter(
            "lookwhen_agreement_clips",
            "Classifications chosen to be looked at again, by what became of them.",
            ["fate"], registry=registry,
        )  # fmt: skip
        self.cascade_steps = Counter(
            "lookwhen_cascade_steps", "Extractions made for cascades.", registry=registry
        )
        self.cache_uses = Counter(
            "lookwhen_cache_uses",
            "Clips whose selection or answer was known, or was not, by what the cache spared.",
            ["use"], registry=registry,
        )  # fmt: skip
        self.clip_bytes = Histogram(
            "lookwhen_clip_size_bytes", "Size of the clips received.",
            buckets=_SIZE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.prediction_ratio = Histogram(
            "lookwhen_prediction_ratio",
            "Measured seconds of runs and of decoded clips by those that were predicted.",
            ["stage"], buckets=_RATIO_BUCKETS, registry=registry,
        )  # fmt: skip
        self.queue_wait = Histogram(
            "lookwhen_queue_wait_seconds", "Time in which jobs waited for a turn on the device.",
            ["stage"], buckets=buckets, registry=registry,
        )  # fmt: skip
        self.batch_rows = Histogram(
            "lookwhen_batch_rows", "Views in one run of a graph.",
            ["stage"], buckets=_ROW_BUCKETS, registry=registry,
        )  # fmt: skip
        self.batch_tokens = Counter(
            "lookwhen_batch_tokens", "Tokens in runs of the extractor, real ones and padding.",
            ["kind"], registry=registry,
        )  # fmt: skip
        self.memory_failures = Counter(
            "lookwhen_device_memory_failures", "Runs that found no memory on the device.",
            ["stage"], registry=registry,
        )  # fmt: skip
        self.batch_token_limit = Gauge(
            "lookwhen_batch_token_limit",
            "Tokens that one run may have; fewer than configured after memory ran out.",
            ["stage"], registry=registry,
        )  # fmt: skip
        self.timeline_windows = Counter(
            "lookwhen_timeline_windows",
            "Windows of long videos: extracted, skipped where nothing was proposed, or lost with "
            "their worker.",
            ["fate"], registry=registry,
        )  # fmt: skip
        self.timeline_video = Counter(
            "lookwhen_timeline_video_seconds", "Seconds of long videos that were gone through.",
            registry=registry,
        )  # fmt: skip
        self.timeline_duration = Histogram(
            "lookwhen_timeline_duration_seconds",
            "Long videos that were gone through, from admission to the last line.",
            buckets=_LONG_BUCKETS, registry=registry,
        )  # fmt: skip
        self.stream_windows = Counter(
            "lookwhen_stream_windows",
            "Windows of streams: extracted, or skipped because they came too late or found no "
            "room.",
            ["fate"], registry=registry,
        )  # fmt: skip
        self.stream_video = Counter(
            "lookwhen_stream_video_seconds", "Seconds of streams that were watched.",
            registry=registry,
        )  # fmt: skip
        self.stream_dropped_frames = Counter(
            "lookwhen_stream_dropped_frames",
            "Frames of streams that were left out, because decoding was behind.",
            registry=registry,
        )  # fmt: skip
        self.stream_breaks = Counter(
            "lookwhen_stream_breaks", "Streams that broke and were connected to again.",
            registry=registry,
        )  # fmt: skip
        self.stream_latency = Histogram(
            "lookwhen_stream_event_latency_seconds",
            "From the frame with which something began or ended in a stream to its event.",
            buckets=_EVENT_BUCKETS, registry=registry,
        )  # fmt: skip
        self.stream_duration = Histogram(
            "lookwhen_stream_duration_seconds",
            "Streams that were watched to their end, from admission to the last line.",
            buckets=_LONG_BUCKETS, registry=registry,
        )  # fmt: skip
        self._gauges: dict[str, Gauge] = {}
        self._gauge("lookwhen_streams", "Streams that are watched.")
        self._gauge("lookwhen_timelines", "Long videos that are gone through.")
        self._gauge("lookwhen_ready", "1 when the service takes clips.")
        self._gauge("lookwhen_requests_in_flight", "Classifications admitted and not answered.")
        self._gauge("lookwhen_queued_tokens", "Tokens admitted and not answered.")
        self._gauge("lookwhen_tokens_per_second", "Tokens answered per second while busy, lately.")
        self._gauge(
            "lookwhen_predicted_wait_seconds", "Until all that is admitted is likely answered."
        )
        self._gauge("lookwhen_decode_workers", "Decode workers that are warm.")
        self._gauge("lookwhen_load_ratio", "Share of the nearest bound that is in flight.")
        self._gauge("lookwhen_cache_bytes", "Bytes of clips and results in the cache.")
        self._gauge("lookwhen_cache_entries", "Clips in the cache.")
        self._gauge(
            "lookwhen_agreement_held_bytes", "Bytes of clips that wait to be looked at again."
        )
        self.cache_evictions = Counter(
            "lookwhen_cache_evictions", "Clips dropped from the cache for others.",
            registry=registry,
        )  # fmt: skip
        self.decode_sandbox = Gauge(
            "lookwhen_decode_sandbox",
            "1 at what confines the decode workers besides resource limits and a process each.",
            ["level"], registry=registry,
        )  # fmt: skip
        self.queue_depth = Gauge(
            "lookwhen_queue_depth", "Classifications waiting, by what they wait for.",
            ["queue"], registry=registry,
        )  # fmt: skip
        self.model = Info("lookwhen_model", "The bundle being served.", registry=registry)
        self.build = Info("lookwhen_build", "The software that serves it.", registry=registry)
        self.build.info(
            {
                "version": __version__,
                "python": platform.python_version(),
                "onnxruntime": onnxruntime.__version__,
            }
        )
        self._start_at_zero()

    def _gauge(self, name: str, text: str) -> None:
        self._gauges[name] = Gauge(name, text, registry=self.registry)

    def _start_at_zero(self) -> None:
        for route in (*ROUTES, RPC, UNMATCHED):
            self.http_duration.labels(route)
            for status in ("2xx", "4xx", "5xx"):
                self.http_requests.labels(route, status)
        for level in SANDBOXES:
            self.decode_sandbox.labels(level)
        for decoder in DECODERS:
            self.decoded_clips.labels(decoder)
        for stage in STAGES:
            self.stages.labels(stage)
        for stage in ("decode", *ENGINE_STAGES):
            self.prediction_ratio.labels(stage)
        for stage in ENGINE_STAGES:
            self.queue_wait.labels(stage)
            self.batch_rows.labels(stage)
            self.memory_failures.labels(stage)
        for kind in ("real", "padding"):
            self.batch_tokens.labels(kind)
        for fate in WINDOW_FATES:
            self.timeline_windows.labels(fate)
        for fate in STREAM_FATES:
            self.stream_windows.labels(fate)
        for outcome in OUTCOMES:
            self.outcomes.labels(outcome)
        for rule in RULES:
            self.rules.labels(rule)
        for degraded_by in DEGRADED_BY:
            self.degradations.labels(degraded_by)
        for reason in SHORTAGES:
            self.refusals.labels(reason)
        for kept in ("met", "missed"):
            self.budgets.labels(kept)
        for sparsity in AGREEMENT_BANDS:
            for answer in ("same", "other"):
                self.agreement.labels(f"{sparsity:g}", answer)
        for fate in AGREEMENT_FATES:
            self.agreement_clips.labels(fate)
        for use in ("hit", "partial", "miss", "off"):
            self.cache_uses.labels(use)
        for reason in RESTART_REASONS:
            self.decode_restarts.labels(reason)
        for code, error in all_errors().items():
            self.errors.labels(code)
            if issubclass(error, ClipError):
                self.decode_failures.labels(code)

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Read a gauge from where its number lives, whenever it is asked for."""
        self._gauges[name].set_function(read)

    def watch_queue(self, queue: str, read: Callable[[], float]) -> None:
        self.queue_depth.labels(queue).set_function(read)

    def watch_engine(self, stage: "StageName", read: Callable[[], "Engine | None"]) -> None:
        """Read a stage's queue and limit from the engine, as soon as there is one."""

        def waiting() -> float:
            engine = read()
            return engine.waiting_for(stage) if engine else 0

        def limit() -> float:
            engine = read()
            return engine.batch_tokens(stage) if engine else 0

        self.watch_queue(stage, waiting)
        self.batch_token_limit.labels(stage).set_function(limit)

    def batch_ran(self, stage: str, work: "Work", predicted: float, measured: float) -> None:
        """A run of a graph; see :class:`service.engine.Observer`."""
        self.batch_rows.labels(stage).observe(work.rows)
        if predicted > 0:
            self.prediction_ratio.labels(stage).observe(measured / predicted)
        if stage == "extract":
            self.batch_tokens.labels("real").inc(work.tokens)
            self.batch_tokens.labels("padding").inc(work.padding)

    def count_error(self, code: str) -> None:
        """A problem was answered, to the request that is being answered."""
        self.errors.labels(code).inc(exemplar=exemplars.current.get())

    def agreed(self, sparsity: float, same: bool) -> None:
        """An answer at this sparsity was compared with a dense look."""
        band = next(band for band in AGREEMENT_BANDS if sparsity <= band)
        self.agreement.labels(f"{band:g}", "same" if same else "other").inc()

    def clip_decoded(self, predicted: float, measured: float) -> None:
        """A clip took ``measured`` seconds of a worker; nothing was predicted of the first."""
        if predicted > 0:
            self.prediction_ratio.labels("decode").observe(measured / predicted)

    def job_waited(self, stage: str, seconds: float) -> None:
        self.queue_wait.labels(stage).observe(seconds)

    def out_of_memory(self, stage: str) -> None:
        self.memory_failures.labels(stage).inc()

    def watch_sandbox(self, level: str, read: Callable[[], float]) -> None:
        self.decode_sandbox.labels(level).set_function(read)

    def describe_model(self, manifest: Manifest, providers: Sequence[str]) -> None:
        self.model.info(
            {
                "name": manifest.name,
                "version": manifest.version,
                "execution_providers": ",".join(providers),
            }
        )

    def render(self) -> bytes:
        """In text format 0.0.4; see :mod:`service.observability.exposition` for the others."""
        return generate_latest(self.registry)
