"""What is seen in the windows of a stream: looked at, merged, and said at once."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bundle.schema import Manifest
from service.decoding.live import LiveDecoding, LiveWindow
from service.errors import Overloaded, RequestTimeout
from service.observability.metrics import Metrics
from service.observability.timing import Trace
from service.pipeline.findings import (
    Broke,
    Changed,
    Connected,
    CutFound,
    Done,
    LeftOut,
    LiveEvent,
    SegmentFound,
    Tally,
    WindowFound,
)
from service.pipeline.journey import WindowPlace
from service.pipeline.live_events import Change, Changes
from service.pipeline.segments import Cell, Merger, Presence
from service.pipeline.spreading import Spread
from service.pipeline.windows import WindowLooker
from service.sparsity.plan import Plan
from service.sparsity.rules import Classified
from service.sparsity.timeline_parameters import DEFAULT_THRESHOLD, LiveParameters

# Windows that begin so near to each other are one, which speaks again for what is left of its shot:
# see :class:`video.live._EndlessSlide`.
_SAME_SHARE = 0.03

Say = Callable[[LiveParameters, LiveEvent], Awaitable[None]]


class Watching:
    """What one stream has shown so far, through all its connections.

    Args:
        window, stride: seconds.
        shown: what the stream is called.
        tell: is told what is found.
    """

    def __init__(
        self,
        manifest: Manifest,
        looker: WindowLooker,
        metrics: Metrics,
        plan: Plan,
        window: float,
        stride: float,
        shown: str,
        tell: Say,
        trace: Trace,
    ) -> None:
        assert isinstance(plan.asked, LiveParameters)
        self._manifest, self._looker, self._metrics = manifest, looker, metrics
        self._plan, self._asked = plan, plan.asked
        self._window, self._stride, self._shown = window, stride, shown
        self._tell, self._trace = tell, trace
        presence = Presence.of(
            manifest.answer, len(manifest.labels), self._asked.threshold, DEFAULT_THRESHOLD
        )
        self._merger = Merger(presence, window, stride)
        self._spread = Spread(len(manifest.labels))
        self._changes = Changes()
        self._tally = Tally()
        self._first: float | None = None  # arrival of the first frame of all
        self._base, self._frames, self._shots = 0.0, 0, 0
        self._last: WindowPlace | None = None
        self._connected: Connected | None = None
        self._decoding: LiveDecoding | None = None
        self._heard: tuple[NDArray[np.float64], bool] | None = None  # of the window before
        self._unsaid_frames = self._unsaid_windows = self._told_frames = 0

    async def look(self, made: list[LiveWindow], decoding: LiveDecoding) -> None:
        """Look at windows of a connection, and say what is found in them."""
        self._decoding = decoding
        await self._say_connected(decoding)
        if not made:
            return
        before = [self._last, *(places := [self._place(window.place) for window in made])]
        again = [self._is_again(*pair) for pair in pairwise(before)]
        seen = [
            number
            for number, window in enumerate(made)
            if window.pixels is not None and not again[number]
        ]
        outcomes = await self._outcomes({number: made[number] for number in seen})
        for number, place in enumerate(places):
            if place.cut:
                self._tally.cuts += 1
                await self._say(CutFound(place.start, place.first_frame))
            if again[number]:
                await self._say_again(place)
            elif number in outcomes:
                await self._say_window(place, *outcomes[number])
            else:
                self._heard = None
                self._unsaid_windows += 1
                self._tally.skipped_windows += 1
                self._metrics.stream_windows.labels("skipped").inc()
                await self._say_cells(self._spread.skip(place))
        dropped = decoding.dropped_frames - self._told_frames
        self._told_frames = decoding.dropped_frames
        self._unsaid_frames += dropped
        self._tally.dropped_frames += dropped
        self._metrics.stream_dropped_frames.inc(dropped)
        if self._unsaid_frames or self._unsaid_windows:
            await self._say(LeftOut(places[-1].end, self._unsaid_frames, self._unsaid_windows))
            self._unsaid_frames = self._unsaid_windows = 0

    async def _outcomes(self, windows: dict[int, LiveWindow]) -> dict[int, tuple[Classified, int]]:
        """What is found in these windows, by their numbers; of none where there is no room."""
        if not windows:
            return {}
        pixels = [window.pixels for window in windows.values() if window.pixels is not None]
        # What finds no room is left out: there will be another window.
        with contextlib.suppress(Overloaded, RequestTimeout):
            looked = await self._looker.look(np.stack(pixels), self._plan, self._trace)
            self._tally.macs += looked.macs
            numbers = [*windows]
            return {numbers[window]: found for window, found in looked.outcomes.items()}
        return {}

    def _is_again(self, before: WindowPlace | None, place: WindowPlace | None) -> bool:
        """Whether a window is the one before it once more."""
        if before is None or place is None or before.shot != place.shot:
            return False
        return place.start - before.start <= _SAME_SHARE * self._window < self._stride

    async def _say_again(self, place: WindowPlace) -> None:
        """The window before speaks for this time as well."""
        if self._heard is None:
            await self._say_cells(self._spread.skip(place))
        else:
            scores, unknown = self._heard
            await self._say_cells(self._spread.add(place, scores, unknown=unknown))

    def _place(self, values: tuple[float, ...]) -> WindowPlace:
        """Where a window lies, counted from the first frame of all."""
        shot, begin, first, last, end, *before = values
        base, number = self._base, self._shots + int(shot)
        begins, frames = base + first, [self._frames + int(count) for count in before]
        cut = False
        if self._last is not None:
            until = self._last.cell[1]
            # What lies between a shot's last window and its end is a hair.
            if until < begins <= until + _SAME_SHARE * self._window:
                begins = until
            cut = number != self._last.shot and begins <= until
        self._last = WindowPlace(
            base + begin,
            base + end,
            (begins, base + last),
            (frames[1], frames[2]),
            number,
            cut,
            frames[0],
        )
        return self._last

    async def _say_connected(self, decoding: LiveDecoding) -> None:
        facts = decoding.begun
        if self._connected is not None or facts is None:
            return
        if self._first is None:
            self._first = decoding.first_arrival
        self._base = max(self._base, decoding.first_arrival - self._first)
        self._connected = Connected(self._shown, facts, self._base, self._window, self._stride)
        await self._say(self._connected)

    async def _say_window(self, place: WindowPlace, outcome: Classified, tokens: int) -> None:
        tally, level = self._tally, outcome.level
        scores, unknown = outcome.probabilities, outcome.unknown
        tally.windows += 1
        tally.tokens += tokens
        self._metrics.stream_windows.labels("extracted").inc()
        await self._say(
            WindowFound(place.start, place.end, scores, unknown, level.sparsity, tokens)
        )
        self._heard = scores, bool(unknown)
        await self._say_cells(self._spread.add(place, scores, unknown=bool(unknown)))

    async def _say_cells(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            segments = self._merger.add(cell)
            await self._say_changes(self._changes.pass_to(cell, self._merger.showing()))
            for segment in segments:
                self._tally.segments += 1
                await self._say(SegmentFound(segment))

    async def _say_changes(self, changes: list[Change]) -> None:
        now = time.monotonic()
        for change in changes:
            arrival = None
            if self._decoding is not None:
                arrival = self._decoding.arrived(change.seconds - self._base)
            latency = 0.0 if arrival is None else now - arrival
            if arrival is not None:
                self._metrics.stream_latency.observe(latency)
            await self._say(Changed(change, latency))

    async def part(self) -> None:
        """A connection has ended: nothing goes on beyond it."""
        for cell in self._spread.finish():
            for segment in self._merger.add(cell):
                self._tally.segments += 1
                await self._say(SegmentFound(segment))
        await self._say_changes(self._changes.end())
        for segment in self._merger.finish():
            self._tally.segments += 1
            await self._say(SegmentFound(segment))
        self._connected, self._decoding, self._told_frames = None, None, 0
        if self._last is not None:
            self._metrics.stream_video.inc(self._last.end - self._base)
            self._tally.seconds, self._tally.frames = self._last.end, self._last.frames[1]
            self._frames, self._shots = self._last.frames[1], self._last.shot + 1
            self._base = self._last.end

    async def broke(self, why: str, pause: float) -> None:
        """The source broke, and is connected to again after ``pause`` seconds."""
        self._tally.breaks += 1
        self._metrics.stream_breaks.inc()
        since = 0.0 if self._first is None else time.monotonic() - self._first
        since = max(since, 0.0 if self._last is None else self._last.end)
        await self._say(Broke(since, why, pause))

    async def done(self, why: str) -> None:
        """It is over."""
        await self._say(Done(self._tally, why))

    async def _say(self, event: LiveEvent) -> None:
        await self._tell(self._asked, event)
