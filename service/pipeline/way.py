"""The way of one clip: admit, upload, decode, select, choose K, extract, answer.

HTTP and the command line take the same way; they differ in where the bytes come from.
"""

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from service.admission.admission import Admission
from service.admission.cost import RequestCost
from service.admission.reservation import Reservation
from service.decoding.containers import Container
from service.decoding.descriptors import Room
from service.decoding.shared_memory import SharedBlock
from service.engine import OutOfMemory
from service.errors import (
    ClientDisconnected,
    InternalError,
    NotReady,
    OutOfRoom,
    RequestTimeout,
    ServiceError,
)
from service.observability.metrics import Metrics
from service.observability.timing import Trace
from service.pipeline.counting import count_failure, count_success, count_work
from service.pipeline.drawing import Drawing
from service.pipeline.explanation import Explanation
from service.pipeline.stages import ClipWork, Extraction, Stages, Times
from service.sparsity.levels import Level
from service.sparsity.plan import Plan, SweepPlan
from service.sparsity.rules import Predictions, Rule, Seen, Situation

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Answer = TypeVar("_Answer")
_Plan = TypeVar("_Plan", bound=Plan | SweepPlan)

# A request that names no budget wants its answer as soon as one with a budget of a second. A tight
# budget so gains a second at most on those who came before: they are overtaken, but never for good.
_PATIENCE_SECONDS = 1.0

# The memory that holds a clip is full, or there is no descriptor for it.
_LACKS = (errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class Received:
    """What came with the clip's bytes; of a form, the fields that were filled in."""

    container: Container
    form: list[tuple[str, str]] = field(default_factory=list)


class ClipSource(Protocol):
    """Where a clip comes from."""

    async def read_clip(self, block: Room) -> Received:
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

    source: ClipSource
    query: Sequence[tuple[str, str]]
    request_id: str
    trace: Trace = field(default_factory=Trace)
    store: bool = True


@dataclass(frozen=True, slots=True)
class Arrival:
    """A clip that is here: since when on the monotonic clock, and what it is."""

    time: float
    container: Container
    clip_bytes: int


@dataclass(frozen=True, slots=True)
class Question(Generic[_Plan, _T]):
    """What can be asked about a clip: a classification, or a sweep.

    Attributes:
        plan: reads a request's parameters, names and texts, and says at which levels it may be
            served and what they cost.
        rule: what chooses K from there.
    """

    plan: Callable[[Iterable[tuple[str, str]]], _Plan]
    rule: Callable[[_Plan, Situation], Rule[_T]]


@dataclass(frozen=True, slots=True)
class Answered(Generic[_Plan, _T]):
    """A clip at the end of its way.

    Attributes:
        outcome: what the rule returned.
        work: the clip's frames and scores, and what was computed for this request.
        extractions: by K.
        explanation: what was kept in each of them, if that was asked for.
        drawing: the same to be looked at, likewise.
        spent_seconds: from the clip's arrival to the outcome.
    """

    call: Call
    arrival: Arrival
    plan: _Plan
    outcome: _T
    work: ClipWork
    extractions: Mapping[int, Extraction]
    explanation: Explanation | None
    drawing: Drawing | None
    spent_seconds: float


@dataclass(frozen=True, slots=True)
class Way:
    """What the ways of all clips have in common.

    Attributes:
        not_ready_because: why no clip is taken, or None when they are.
        timeout_seconds: from the clip's arrival until it is given up.
    """

    admission: Admission
    stages: Stages
    metrics: Metrics
    not_ready_because: Callable[[], str | None]
    timeout_seconds: float

    async def take(
        self,
        question: Question[_Plan, _T],
        call: Call,
        say: Callable[[Answered[_Plan, _T]], _Answer],
    ) -> _Answer:
        """Take one clip all the way.

        Args:
            say: makes the answer; an error in it is counted as any other.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        with recorded(self.metrics, call.trace):
            # Admit: reserve a slot and the cost before a byte of the body is read.
            with call.trace.stage("admit"):
                if reason := self.not_ready_because():
                    raise NotReady(reason)
                plan = question.plan(call.query)
                reservation = self.admission.admit(plan.costs)
            with reservation, SharedBlock("clip") as clip:
                # Upload: the clip's bytes, and a form's fields, which belong to the parameters.
                with call.trace.stage("upload"):
                    received = await call.source.read_clip(clip)
                plan = question.plan([*call.query, *received.form])
                reservation.decide_again(plan.costs)
                reservation.begin()
                self.metrics.clip_bytes.observe(clip.size)
                arrival = Arrival(time.monotonic(), received.container, clip.size)
                # Decode, select, choose K and extract, as long as somebody waits for the answer.
                answered = await while_wanted(
                    self._work(question, plan, call, clip, arrival, reservation),
                    call.source.gone,
                    self.timeout_seconds,
                )
                # Answer: from here on the work counts for the throughput.
                reservation.answered(answered.work.tokens)
                count_work(self.metrics, answered.work)
                answer = say(answered)
            count_success(self.metrics, call.trace)
            return answer

    async def _work(
        self,
        question: Question[_Plan, _T],
        plan: _Plan,
        call: Call,
        clip: SharedBlock,
        arrival: Arrival,
        reservation: Reservation,
    ) -> Answered[_Plan, _T]:
        """What lies behind the upload."""
        wanted_in = min(_PATIENCE_SECONDS, plan.budget_seconds or _PATIENCE_SECONDS)
        deadline, due = arrival.time + self.timeout_seconds, arrival.time + wanted_in
        times = Times(call.trace, deadline, due)
        views, drawing = plan.asked.views, plan.asked.drawing
        # A film is made of the clip itself, which is given back after decoding otherwise.
        clip.seal_content()
        filmed = clip.share() if drawing == "mp4" else clip
        try:
            # Decode and select: once, whatever the rule asks for.
            span = plan.asked.span
            work = await self.stages.select(clip, views, span, times, store=call.store)
            if drawing is not None:
                work.require_room(drawing, len(plan.costs[0].kept))
            curve = None if plan.coverage is None else await work.curve()
            situation = Situation(
                reservation.way,
                reservation.degraded_by,
                _predict(plan, work, arrival),
                curve,
                self.stages.manifest.answer,
            )
            # Choose K and extract, in turns: a rule goes on from what the extractor said.
            extractions: dict[int, Extraction] = {}
            looks: list[Level] = []
            rule = question.rule(plan, situation)
            look = next(rule)
            while True:
                kept = look.level.kept
                if look.left is not None:
                    left = RequestCost((kept, *look.left), views.count, encodes=bool(drawing))
                    reservation.shrink(left)
                extractions[kept] = await work.extract(kept)
                looks.append(look.level)
                if look.left:
                    left = RequestCost(look.left, views.count, True, bool(drawing))
                    reservation.advance(left)
                # After its last look a rule has no use for predictions.
                predictions = {} if look.left == () else _predict(plan, work, arrival)
                done = extractions[kept]
                seen = Seen(done.logits, done.video, predictions)
                try:
                    look = rule.send(seen)
                except StopIteration as end:
                    outcome: _T = end.value
                    break
            # Explain: when and where the tokens lie that were kept in each extraction.
            explanation = await work.explain(looks) if plan.asked.explains else None
            # Encode: a picture or a film of that.
            drawn = await work.draw(drawing, looks, filmed) if drawing else None
        except OutOfMemory:
            raise self.admission.overloaded("device") from None
        finally:
            filmed.close()
        spent = time.monotonic() - arrival.time
        return Answered(call, arrival, plan, outcome, work, extractions, explanation, drawn, spent)


async def while_wanted(
    work: Coroutine[Any, Any, _T],
    gone: Callable[[], Awaitable[None]],
    timeout_seconds: float | None,
) -> _T:
    """Await the work; cancel it when nobody waits for it any more, or for too long."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(gone())
    try:
        done, _ = await asyncio.wait(
            {working, watching}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if working in done:
            return working.result()
        if watching in done or timeout_seconds is None:
            raise ClientDisconnected
        raise RequestTimeout(timeout_seconds)
    finally:
        watching.cancel()
        working.cancel()
        # Only when the work has really ended is its reservation given back.
        await asyncio.gather(working, watching, return_exceptions=True)


@contextlib.contextmanager
def recorded(metrics: Metrics, trace: Trace) -> Iterator[None]:
    """Count how a clip's way fails, and make an error for the caller of what is none yet."""
    try:
        yield
    except ServiceError as caught:
        count_failure(metrics, caught, trace)
        raise
    except asyncio.CancelledError:
        count_failure(metrics, ClientDisconnected(), trace)
        raise
    except BaseException as caught:
        lacks_room = _is_lack_of_room(caught)
        error: ServiceError = OutOfRoom() if lacks_room else InternalError()
        count_failure(metrics, error, trace)
        if not lacks_room:
            raise
        logger.warning("no room for a clip", exc_info=caught)
        raise error from None


def _predict(plan: Plan | SweepPlan, work: ClipWork, arrival: Arrival) -> Predictions:
    if plan.budget_seconds is None:
        return {}
    spent = time.monotonic() - arrival.time
    return {kept: spent + work.predicted_seconds(kept) for kept in plan.choices}


def _is_lack_of_room(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LACKS)
