"""The way of a long video: admit, upload to a disk, then passage by passage decode, select, extract
and merge, and say what was found as it is found.

Each passage is admitted like a request of its own, and takes a decode worker's turn and the
engine's batches like any other; the next one is decoded while one is looked at. What a video takes
of memory does not grow with its length.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bundle.schema import Manifest
from service.admission.admission import Admission
from service.admission.cost import RequestCost
from service.decoding.passages import DecodedPassage, decode_passage
from service.decoding.unnamed_file import Reader
from service.errors import DecoderCrashed, DecodeTimeout, NotReady, Overloaded
from service.observability.metrics import Metrics
from service.observability.timing import Trace
from service.pipeline.counting import count_timeline
from service.pipeline.findings import (
    Begun,
    CutFound,
    Done,
    Event,
    SegmentFound,
    Tally,
    WindowFound,
    WindowsLost,
)
from service.pipeline.journey import Journey, WindowPlace, usual_window
from service.pipeline.segments import Cell, Merger, Presence, Segment
from service.pipeline.spreading import Spread
from service.pipeline.stages import Stages
from service.pipeline.way import Received, recorded, while_wanted
from service.pipeline.windows import WindowLooker
from service.sparsity.plan import Plan
from service.sparsity.proposals import Proposer
from service.sparsity.rules import Classified
from service.sparsity.timeline_parameters import DEFAULT_THRESHOLD, TimelineParameters
from video.facts import ClipLimits
from video.passages import PassageFacts, PassagePlan

# Of the workers that may die of one video before it is given up, because starting others takes the
# machine from everybody.
_MOST_DEATHS = 3
_RETRY_SECONDS = 30

Say = Callable[[TimelineParameters, Event], Awaitable[None]]


class VideoSource(Protocol):
    """Where a long video comes from."""

    async def read_video(self) -> tuple[Reader, Received]:
        """A descriptor that reads the whole video, and what came with it."""
        ...

    async def gone(self) -> None:
        """Return when nobody waits for the answer any more; or never."""
        ...


@dataclass(frozen=True, slots=True)
class TimelineCall:
    """One time that the pipeline is asked about a long video; else as a call about a clip.

    Attributes:
        say: is told of each finding as it is made; nothing goes on before it returns.
    """

    source: VideoSource
    query: Sequence[tuple[str, str]]
    say: Say
    trace: Trace = field(default_factory=Trace)


@dataclass(frozen=True, slots=True)
class TimelineLimits:
    """See the settings of these names.

    Attributes:
        patience_seconds: how long a passage may wait for room, and for its answer.
        drain_seconds: how long a video is still gone through when the service ends.
    """

    max_timelines_in_flight: int
    max_video_seconds: float
    decode_timeout_seconds: float
    window_seconds: float
    patience_seconds: float
    drain_seconds: float


@dataclass(slots=True)
class TimelineWay:
    """What the ways of all long videos have in common.

    Attributes:
        plan: reads a request's parameters, names and texts, and says at which levels its windows
            may be looked at.
        running: how many are gone through now.
    """

    manifest: Manifest
    admission: Admission
    stages: Stages
    metrics: Metrics
    not_ready_because: Callable[[], str | None]
    draining: Callable[[], bool]
    plan: Callable[[Iterable[tuple[str, str]]], Plan]
    limits: TimelineLimits
    clip_limits: ClipLimits
    running: int = 0

    async def take(self, call: TimelineCall) -> None:
        """Take one video all the way.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        with recorded(self.metrics, call.trace):
            # Admit: a slot for the video; what its windows cost is reserved as they come.
            with call.trace.stage("admit"):
                if reason := self.not_ready_because():
                    raise NotReady(reason)
                plan = self.plan(call.query)
                slot = self.admission.admit((RequestCost((), selected=True),))
            with slot, self._turn():
                # Upload: to a disk, and from there on by a descriptor that reads.
                with call.trace.stage("upload"):
                    reader, received = await call.source.read_video()
                with reader:
                    plan = self.plan([*call.query, *received.form])
                    passages = _Passages(self, call, plan, reader, received)
                    # The passages, as long as somebody waits for what is found in them.
                    await while_wanted(passages.go(), call.source.gone, None)
            count_timeline(self.metrics, call.trace)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if self.running >= self.limits.max_timelines_in_flight:
            raise Overloaded(_RETRY_SECONDS, "timelines")
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class _Passages:
    """One video's way from its first passage to its last."""

    def __init__(
        self, way: TimelineWay, call: TimelineCall, plan: Plan, reader: Reader, received: Received
    ) -> None:
        self._way, self._call, self._plan = way, call, plan
        self._reader, self._received = reader, received
        assert isinstance(plan.asked, TimelineParameters)
        self._asked = plan.asked
        manifest, limits = way.manifest, way.limits
        window = self._asked.window or usual_window(manifest, limits.window_seconds)
        self._journey = Journey(
            manifest,
            window,
            self._asked.stride or window / 2,
            self._asked.span,
            limits.max_video_seconds,
            self._asked.cuts,
        )
        presence = Presence.of(
            manifest.answer, len(manifest.labels), self._asked.threshold, DEFAULT_THRESHOLD
        )
        self._presence = presence
        self._merger = Merger(presence, window, self._journey.stride)
        self._spread = Spread(len(manifest.labels))
        self._proposer = Proposer() if self._asked.proposes else None
        patience = limits.patience_seconds
        self._looker = WindowLooker(manifest, way.admission, way.stages, patience, patience)
        self._tally, self._begun, self._deaths = Tally(), False, 0
        self._drained_since: float | None = None

    async def go(self) -> None:
        """Decode each passage while the one before is looked at."""
        decoding = asyncio.create_task(self._decode_next())
        try:
            while (passage := await decoding) is not None:
                self._require_time()
                lost, places = self._note(passage)
                decoding = asyncio.create_task(self._decode_next())
                if lost is not None:
                    await self._say_lost(lost)
                if passage.decoded is not None:
                    await self._say_begun(passage.decoded.facts)
                    await self._look(passage.decoded, places)
            await self._finish()
        finally:
            decoding.cancel()
            # Only when its worker is given back is the video's file.
            await asyncio.gather(decoding, return_exceptions=True)

    def _require_time(self) -> None:
        """End a video that the service has no more time for, because it ends itself.

        Raises:
            NotReady: with the words that everybody is told then.
        """
        way, now = self._way, time.monotonic()
        if way.draining():
            self._drained_since = self._drained_since or now
            if now - self._drained_since >= way.limits.drain_seconds:
                raise NotReady(way.not_ready_because() or "")

    async def _decode_next(self) -> "_Passage | None":
        way, plan = self._way, self._journey.plan()
        if plan is None:
            return None
        with self._call.trace.stage("decode"):
            try:
                decoded = await decode_passage(
                    way.stages.pool,
                    self._reader,
                    plan,
                    way.clip_limits,
                    way.limits.decode_timeout_seconds,
                )
            except (DecoderCrashed, DecodeTimeout) as error:
                self._deaths += 1
                # Without the first passage nothing is known of the video.
                if plan.zero is None or self._deaths > _MOST_DEATHS:
                    raise
                return _Passage(plan, None, error.code)
        return _Passage(plan, decoded)

    def _note(self, passage: "_Passage") -> tuple[WindowsLost | None, list[WindowPlace]]:
        """What became of a passage; the next one may be planned then."""
        done, plan = passage.decoded, passage.plan
        if done is None:
            start, end = self._journey.lost(plan)
            return WindowsLost(start, end, plan.windows, passage.code), []
        self._tally.lost_packets += done.facts.lost
        return None, self._journey.passed(plan, done.facts, done.places, done.seconds)

    async def _look(self, decoded: DecodedPassage, places: list[WindowPlace]) -> None:
        """Select, choose K and extract, each window by the rule that the request asked for."""
        if not places:
            return
        looked = await self._looker.look(
            decoded.frames, self._plan, self._call.trace, self._proposer
        )
        self._tally.macs += looked.macs
        outcomes = looked.outcomes
        for window, place in enumerate(places):
            if place.cut:
                self._tally.cuts += 1
                await self._say(CutFound(place.start, place.first_frame))
            if window in outcomes:
                await self._say_window(place, *outcomes[window])
            else:
                self._tally.skipped_windows += 1
                self._way.metrics.timeline_windows.labels("skipped").inc()
                await self._say_cells(self._spread.skip(place))

    async def _say(self, event: Event) -> None:
        await self._call.say(self._asked, event)

    async def _say_begun(self, facts: PassageFacts) -> None:
        if self._begun:
            return
        self._begun = True
        journey, received = self._journey, self._received
        await self._say(
            Begun(
                received.container,
                self._reader.size,
                facts,
                journey.window,
                journey.stride,
                self._presence.thresholds,
            )
        )

    async def _say_window(self, place: WindowPlace, outcome: Classified, tokens: int) -> None:
        tally, level = self._tally, outcome.level
        scores, unknown = outcome.probabilities, outcome.unknown
        tally.windows += 1
        tally.tokens += tokens
        self._way.metrics.timeline_windows.labels("extracted").inc()
        await self._say(
            WindowFound(place.start, place.end, scores, unknown, level.sparsity, tokens)
        )
        await self._say_cells(self._spread.add(place, scores, unknown=bool(unknown)))

    async def _say_cells(self, cells: Sequence[Cell], *, last: bool = False) -> None:
        """Merge what windows say of their times; after the ``last``, or the last for a while."""
        for cell in cells:
            await self._say_segments(self._merger.add(cell))
        if last:
            await self._say_segments(self._merger.finish())

    async def _say_segments(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._tally.segments += 1
            await self._say(SegmentFound(segment))

    async def _say_lost(self, lost: WindowsLost) -> None:
        self._tally.lost_windows += lost.windows
        self._way.metrics.timeline_windows.labels("lost").inc(lost.windows)
        await self._say_cells(self._spread.finish(), last=True)
        await self._say(lost)

    async def _finish(self) -> None:
        await self._say_cells(self._spread.finish(), last=True)
        journey, tally = self._journey, self._tally
        tally.seconds, tally.frames = journey.seconds, journey.shown
        tally.frames_estimated = journey.estimated
        self._way.metrics.timeline_video.inc(journey.seconds)
        await self._say(Done(tally))


@dataclass(frozen=True, slots=True)
class _Passage:
    """A passage that was decoded, or the code of what became of it."""

    plan: PassagePlan
    decoded: DecodedPassage | None
    code: str = ""
