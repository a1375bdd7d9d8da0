"""What is counted at the end of a clip's way."""

from service.errors import ClipError, Overloaded, ServiceError
from service.observability import exemplars
from service.observability.metrics import Metrics, outcome_of
from service.observability.timing import Trace
from service.pipeline.stages import ClipWork
from service.sparsity.parameters import AUTO, ChoiceParameters
from service.sparsity.rules import Classified


def count_success(metrics: Metrics, trace: Trace) -> None:
    """The time of a clip that was answered."""
    _count_end(metrics, None, trace)
    metrics.duration.observe(trace.total, exemplars.current.get())


def count_timeline(metrics: Metrics, trace: Trace) -> None:
    """The time of a long video that was gone through."""
    _count_end(metrics, None, trace)
    metrics.timeline_duration.observe(trace.total, exemplars.current.get())


def count_stream(metrics: Metrics, trace: Trace) -> None:
    """The time of a stream that was watched."""
    _count_end(metrics, None, trace)
    metrics.stream_duration.observe(trace.total, exemplars.current.get())


def count_failure(metrics: Metrics, error: ServiceError, trace: Trace) -> None:
    """A clip that was not answered, and why."""
    _count_end(metrics, error, trace)
    if isinstance(error, ClipError):
        metrics.decode_failures.labels(error.code).inc()
    elif isinstance(error, Overloaded):
        metrics.refusals.labels(error.reason).inc()


def _count_end(metrics: Metrics, error: ServiceError | None, trace: Trace) -> None:
    for stage, seconds in trace.seconds.items():
        metrics.stages.labels(stage).observe(seconds, exemplars.current.get())
    metrics.outcomes.labels(outcome_of(error)).inc()


def count_work(metrics: Metrics, work: ClipWork) -> None:
    """What was computed for a clip, and what was not."""
    metrics.tokens_kept.inc(work.tokens)
    metrics.tokens_seen.inc(work.tokens_of_view * work.views * work.extractions)
    metrics.cache_uses.labels(work.cache).inc()
    metrics.substituted_frames.inc(work.selection.facts.substituted_frames)


def count_classification(
    metrics: Metrics, asked: ChoiceParameters, outcome: Classified, spent_seconds: float
) -> None:
    """What a rule chose, and whether a budget was kept.

    Args:
        spent_seconds: from the clip's arrival to the outcome.
    """
    if isinstance(asked.sparsity, float):
        metrics.sparsity_asked.observe(asked.sparsity)
    metrics.sparsity_used.observe(outcome.level.sparsity)
    if outcome.degraded_by is not None:
        metrics.degradations.labels(outcome.degraded_by).inc()
    if asked.sparsity == AUTO:
        metrics.rules.labels("auto").inc()
    elif asked.cascade:
        metrics.rules.labels("cascade").inc()
        metrics.cascade_steps.inc(len(outcome.steps))
    else:
        metrics.rules.labels("fixed").inc()
    if asked.budget_ms is not None:
        met = 1000 * spent_seconds <= asked.budget_ms
        metrics.budgets.labels("met" if met else "missed").inc()
