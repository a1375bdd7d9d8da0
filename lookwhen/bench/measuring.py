"""The measurement: sparsities in turns, with one caller and with as many as keep the service busy.

Whatever else the machine does meets all sparsities of a turn, so that ratios are taken within one.
Every other turn goes backwards: no sparsity always follows the same one.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lookwhen.bench import timetable
from lookwhen.bench.asking import Asked, Asker, BenchError, Refused, TimeOver
from lookwhen.bench.timetable import Pace, Slot

STAGES = ("admit", "upload", "decode", "select", "queue", "extract", "total")

# Twice as many callers are kept where they raise the throughput by more than this: our choice, what
# a window of a second cannot tell from chance being about as much.
_WORTH = 1.1
_MOST_CALLERS = 256
_PROBES = 3
# Of the time that is left, for each number of callers that is tried.
_TRIAL_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Count:
    """Clips that were answered in some seconds."""

    clips: int
    seconds: float

    @property
    def rate(self) -> float:
        """Clips a second."""
        return self.clips / self.seconds


@dataclass(frozen=True, slots=True)
class Turn:
    """One sparsity in one turn.

    Attributes:
        latencies: seconds of each clip of the one caller, from its request to its answer.
        stages: seconds as the service told them, of the same clips.
        count: of the answers to all callers.
    """

    latencies: list[float]
    stages: dict[str, list[float]]
    count: Count


@dataclass(slots=True)
class Level:
    """What was measured of one sparsity.

    Attributes:
        answer: the first, which says what is really used.
        pace: how fast it was lately.
    """

    sparsity: float
    answer: dict[str, Any]
    pace: Pace
    turns: list[Turn] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trial:
    """A number of callers that was tried."""

    callers: int
    rate: float


async def probe(asker: Asker, sparsities: Sequence[float]) -> list[Level]:
    """Ask some times at each sparsity: what is used for it, and how long a clip takes about.

    Raises:
        BenchError: there is no answer.
    """
    levels = []
    for sparsity in sparsities:
        await _alone(asker, sparsity)  # the first one may warm something up
        asked = [await _alone(asker, sparsity) for _ in range(_PROBES)]
        latency = statistics.median(one.seconds for one in asked)
        levels.append(Level(sparsity, asked[0].document(), Pace(latency, 1 / latency, 1)))
    return levels


async def find_callers(
    asker: Asker, levels: Sequence[Level], first: int, seconds: float
) -> list[Trial]:
    """Double the callers for as long as that raises the throughput, and the service takes them.

    They are tried with the sparsest level, because the less work a clip is, the more callers it
    takes. What it gains by them over one caller is then expected of the others, too.

    Args:
        levels: densest first; they then have the best number of callers.
        first: callers to begin with.
        seconds: that are left for everything.

    Returns:
        What was tried.
    """
    level = levels[-1]
    trials: list[Trial] = []
    callers = first
    while True:
        level.pace = replace(level.pace, callers=callers)
        (count,) = await _busy(asker, [level], [seconds * _TRIAL_SHARE])
        trials.append(Trial(level.pace.callers, count.rate))
        if len(trials) > 1 and trials[-1].rate < _WORTH * trials[-2].rate:
            best = trials[-2]
            break
        best = trials[-1]
        if best.callers < callers or 2 * callers > _MOST_CALLERS:
            break
        callers *= 2
    gain = max(1.0, best.rate * level.pace.latency)
    for one in levels:
        one.pace = replace(one.pace, callers=best.callers, rate=gain / one.pace.latency)
    return trials


async def take_turns(
    asker: Asker, levels: Sequence[Level], count: int, until: float, advance: Callable[[], None]
) -> None:
    """Measure ``count`` turns of all levels, or as many as fit.

    Args:
        until: on the clock of ``time.perf_counter``.
        advance: called after each level of each turn.

    Raises:
        BenchError: there is no answer, or not one turn fits.
    """
    for turn in range(count):
        left = until - time.perf_counter()
        paces = {level.sparsity: level.pace for level in levels}
        if turn and timetable.least_seconds(paces.values()) > left:
            return
        planned = timetable.slots(left, count - turn, paces)
        ordered = levels if turn % 2 == 0 else levels[::-1]
        try:
            await _turn(asker, ordered, planned, advance)
        except TimeOver:
            if not turn:
                raise
            return


async def _turn(
    asker: Asker, levels: Sequence[Level], planned: Mapping[float, Slot],
    advance: Callable[[], None],
) -> None:  # fmt: skip
    alone: list[list[Asked]] = []
    for level in levels:
        begun = time.perf_counter()
        asked = [await _alone(asker, level.sparsity)]
        while time.perf_counter() - begun < planned[level.sparsity].alone:
            asked.append(await _alone(asker, level.sparsity))
        latency = statistics.median(one.seconds for one in asked)
        level.pace = replace(level.pace, latency=latency)
        alone.append(asked)
    windows = [planned[level.sparsity].counted for level in levels]
    counts = await _busy(asker, levels, windows, advance)
    for level, asked, count in zip(levels, alone, counts, strict=True):
        level.pace = replace(level.pace, rate=max(count.rate, 1 / count.seconds))
        timings = [one.document()["timing"] for one in asked]
        stages = {stage: [float(timing[stage]) for timing in timings] for stage in STAGES}
        level.turns.append(Turn([one.seconds for one in asked], stages, count))


async def _alone(asker: Asker, sparsity: float) -> Asked:
    try:
        return await asker.ask(sparsity)
    except Refused as error:
        raise _too_busy(error) from None


async def _busy(
    asker: Asker, levels: Sequence[Level], windows: Sequence[float],
    advance: Callable[[], None] = lambda: None,
) -> list[Count]:  # fmt: skip
    """Have all callers ask again as soon as they are answered, one level after another.

    A level is counted from when its callers have had an answer each and half the time of a clip has
    passed, so that the count does not begin with an answer. From one level to the next the service
    has no pause. A caller that is refused leaves the level, for good.

    Args:
        windows: seconds to count, of each level.
    """
    counts = [_Counting(level, seconds) for level, seconds in zip(levels, windows, strict=True)]

    async def caller(number: int) -> None:
        for counting in counts:
            if number < counting.level.pace.callers:
                await counting.take_part(asker)
            await counting.over.wait()

    async def over() -> None:
        for counting in counts:
            await counting.over.wait()
            advance()

    most = max(level.pace.callers for level in levels)
    tasks = [asyncio.create_task(caller(number)) for number in range(most)]
    tasks.append(asyncio.create_task(over()))
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [counting.count() for counting in counts]


class _Counting:
    """One level while all callers ask; ``over`` is set once its seconds have passed."""

    def __init__(self, level: Level, seconds: float) -> None:
        self.level, self._seconds = level, seconds
        self.over = asyncio.Event()
        self._answers: list[float] = []
        self._begin = math.inf

    async def take_part(self, asker: Asker) -> None:
        """Ask until the level is over."""
        level = self.level
        while not self.over.is_set():
            try:
                await asker.ask(level.sparsity)
            except Refused as error:
                if level.pace.callers == 1:
                    raise _too_busy(error) from None
                level.pace = replace(level.pace, callers=level.pace.callers - 1)
                return
            except TimeOver:
                if self.over.is_set():  # what is not answered by now would not have counted
                    return
                raise
            now = time.perf_counter()
            self._answers.append(now)
            if self._begin == math.inf and len(self._answers) >= level.pace.callers:
                self._begin = now + level.pace.latency / 2
            if now >= self._begin + self._seconds:
                self.over.set()

    def count(self) -> Count:
        end = self._begin + self._seconds
        counted = sum(self._begin < answer <= end for answer in self._answers)
        return Count(counted, self._seconds)


def _too_busy(error: Refused) -> BenchError:
    return BenchError(f"the service is too busy with others to be measured: {error}")
