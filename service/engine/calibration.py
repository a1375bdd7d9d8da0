"""What this machine can do: both graphs are warmed and timed before the first clip is taken."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bundle.schema import Downscale, Geometry, Macs
from service.engine.cost import Fit, StageName, fit, fit_to_macs
from service.engine.graphs import Graph
from service.engine.jobs import Arrays
from service.engine.work import Work

# Rows of one run that are tried.
_ROWS = (1, 2, 4, 8)
# Rows run together only where that takes at least a tenth less time per row: all of them have to
# wait for the last, so that callers do not notice a smaller gain. Our choice.
_WORTHWHILE = 0.9
# Numbers of kept tokens that are timed one by one, and with several rows.
_SINGLE_LEVELS, _BATCH_LEVELS = 7, 3
# A shape is not timed when one run of it would take more than this share of the time there is.
_LARGEST_SHARE = 0.2

# Times that each shape is run at most: the shortest of them is hardly ever a bad one.
_TURNS = 5

Table = dict[int, dict[int, float]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What warming and timing found out.

    Attributes:
        fits: seconds of each stage.
        rows: rows worth running together, of each stage by tokens of a row.
        seconds_per_row: measured, of each stage, by tokens of a row and rows of a run.
        warmed: kept tokens at which the extractor was warmed.
        seconds: that it all took.
        timed: False when nothing but the warm-up's runs says how fast this machine is.
    """

    fits: dict[StageName, Fit]
    rows: dict[StageName, dict[int, int]]
    seconds_per_row: dict[StageName, Table]
    warmed: tuple[int, ...]
    seconds: float
    timed: bool


@dataclass(eq=False, slots=True)
class _Shape:
    """Rows of these lengths in one run, and the shortest time that it took."""

    lengths: tuple[int, ...]
    expected: float
    fastest: float = math.inf

    @property
    def work(self) -> Work:
        return Work.of_run(self.lengths)


@dataclass(slots=True)
class Calibrator:
    """Warms and times a pair of graphs; everything blocks.

    Args:
        selector, extractor: the graphs, not in use by anything else.
        geometry, macs: the bundle's.
        max_batch_tokens: of one run.
        downscale: by how much smaller clips are for the selector.
    """

    selector: Graph
    extractor: Graph
    geometry: Geometry
    macs: Macs
    max_batch_tokens: int
    downscale: Downscale = Downscale()  # noqa: RUF009, frozen
    _warm: dict[int, float] = field(default_factory=dict)
    _rates: dict[StageName, float] = field(default_factory=dict)

    @property
    def selector_tokens(self) -> int:
        """Tokens of one view as the selector sees it."""
        return self.downscale.tokens(self.geometry)

    def run(
        self, levels: Sequence[int], usual: int, warm_up_seconds: float, seconds: float
    ) -> Calibration:
        """Warm the levels, largest first, then time what the time allows.

        The largest first, because allocators keep the largest shape they have seen and fragment
        when they grow towards it. It is warmed however long that takes, the others as long as
        ``warm_up_seconds`` last.

        Args:
            levels: numbers of kept tokens.
            usual: the number kept when nobody asks for a sparsity; warmed after the largest.
            warm_up_seconds: for warming.
            seconds: for timing; 0 leaves the cost to the multiply-accumulates, at the rate that
                warming showed.
        """
        began = time.perf_counter()
        self._warm_up(levels, usual, began + warm_up_seconds)
        select = self._time("select", self._selector_shapes(), seconds / 4)
        extract = self._time("extract", self._extractor_shapes(usual), seconds * 3 / 4)
        tables: dict[StageName, Table] = {"select": _table(select), "extract": _table(extract)}
        fits: dict[StageName, Fit] = {
            "select": self._fit("select", select),
            "extract": self._fit("extract", extract),
        }
        return Calibration(
            fits=fits,
            rows={stage: worthwhile_rows(table) for stage, table in tables.items()},
            seconds_per_row=tables,
            warmed=tuple(self._warm),
            seconds=time.perf_counter() - began,
            timed=bool(select and extract),
        )

    def _warm_up(self, levels: Sequence[int], usual: int, until: float) -> None:
        self._run_once("select", (self.selector_tokens,))
        seconds = self._run_once("select", (self.selector_tokens,))
        self._rates["select"] = seconds / max(1, self.macs.selector)
        largest, *rest = sorted({*levels, usual}, reverse=True)
        for kept in (largest, usual, *(kept for kept in rest if kept != usual)):
            if kept not in self._warm:
                if self._warm and time.perf_counter() > until:
                    break
                self._warm[kept] = self._run_once("extract", (kept,))
        if self.extractor.shares:  # the other session, for the largest shape and the usual one
            self._run_once("select", (self.selector_tokens,), shared=True)
            for kept in dict.fromkeys((largest, usual)):
                self._run_once("extract", (kept,), shared=True)
        # The usual level once more: its first run may have done what is done only once.
        self._warm[usual] = self._run_once("extract", (usual,))
        self._rates["extract"] = self._warm[usual] / max(1, self._extractor_macs(usual))

    def _selector_shapes(self) -> list[_Shape]:
        each = self._rates["select"] * self.macs.selector
        most = max(1, self.max_batch_tokens // self.selector_tokens)
        return [
            _Shape((self.selector_tokens,) * rows, rows * each) for rows in _ROWS if rows <= most
        ]

    def _extractor_shapes(self, usual: int) -> list[_Shape]:
        levels = sorted(self._warm)
        shapes: list[tuple[int, ...]] = [(kept,) for kept in _spread(levels, _SINGLE_LEVELS)]
        batched = sorted({levels[0], usual, *_spread(levels[: len(levels) // 2], 2)})
        for kept in batched[:_BATCH_LEVELS]:
            shapes += [(kept,) * rows for rows in _ROWS[1:]]
        shapes += [(usual, max(1, usual // 2)), (usual, *(max(1, usual // 4),) * 3)]
        rate = self._rates["extract"]
        return [
            _Shape(lengths, rate * self._extractor_macs(max(lengths)) * len(lengths))
            for lengths in dict.fromkeys(shapes)
            if len(lengths) == 1 or len(lengths) * max(lengths) <= self.max_batch_tokens
        ]

    def _time(self, stage: StageName, shapes: list[_Shape], seconds: float) -> list[_Shape]:
        """Run the shapes in turns until the time is over; gives those that were run.

        In turns, so that whatever else the machine does meets all of them. The shortest time of a
        shape is what it takes: everything else only ever adds to it.
        """
        shapes = [shape for shape in shapes if shape.expected <= _LARGEST_SHARE * seconds]
        until = time.perf_counter() + seconds
        for turn in range(_TURNS):
            # The first run of a shape warms it, where that makes a difference.
            for shape in sorted(shapes, key=lambda shape: shape.expected):
                if time.perf_counter() + shape.expected > until:
                    break
                taken = self._run_once(stage, shape.lengths)
                shape.fastest = min(shape.fastest, taken)
                shape.expected = taken if turn == 0 else min(shape.expected, taken)
            else:
                continue
            break
        return [shape for shape in shapes if shape.fastest < math.inf]

    def _fit(self, stage: StageName, shapes: list[_Shape]) -> Fit:
        if not shapes:
            return fit_to_macs(stage, self.macs, self._rates[stage])
        runs = [(shape.work, shape.fastest) for shape in shapes]
        if stage == "extract":
            # Levels too dense to be timed in the time there is were run once at least.
            timed = {shape.lengths for shape in shapes}
            runs += [
                (Work.of_run((kept,)), seconds)
                for kept, seconds in self._warm.items()
                if (kept,) not in timed and kept > max(map(max, timed))
            ]
        return fit(runs)

    def _run_once(self, stage: StageName, lengths: Sequence[int], *, shared: bool = False) -> float:
        graph = self.selector if stage == "select" else self.extractor
        feeds = self._feeds(stage, lengths)
        began = time.perf_counter()
        graph.run(feeds, shared=shared)
        return time.perf_counter() - began

    def _feeds(self, stage: StageName, lengths: Sequence[int]) -> Arrays:
        """Noise in the shape of a run's inputs."""
        if stage == "select":
            return selector_noise(self.geometry, self.downscale, len(lengths))
        return extractor_noise(self.geometry, lengths)

    def _extractor_macs(self, kept: int) -> int:
        return self.macs.at(kept) - self.macs.selector


def selector_noise(geometry: Geometry, downscale: Downscale, rows: int) -> Arrays:
    """Random inputs of the selector."""
    shape = (rows, *downscale.shape(geometry))
    return {"clip_small": np.random.default_rng(0).integers(0, 256, shape, np.uint8)}


def extractor_noise(geometry: Geometry, lengths: Sequence[int]) -> Arrays:
    """Random inputs of the extractor, for rows of these many tokens."""
    noise, rows, longest = np.random.default_rng(0), len(lengths), max(lengths)
    feeds: dict[str, NDArray[np.generic]] = {
        "patches": noise.integers(0, 256, (rows, longest, geometry.patch_bytes), np.uint8),
        "positions": np.tile(np.arange(longest, dtype=np.int64), (rows, 1)),
        "lengths": np.array(lengths, np.int64),
    }
    if geometry.context:
        shape = (rows, geometry.context, geometry.width)
        feeds["context"] = noise.standard_normal(shape, np.float32)
    return feeds


def worthwhile_rows(table: Table) -> dict[int, int]:
    """How many rows run together by tokens of a row: the most that are clearly faster per row."""
    rows = {}
    for tokens, seconds_per_row in table.items():
        if 1 not in seconds_per_row:
            continue
        best = min(seconds_per_row, key=lambda count: seconds_per_row[count])
        gained = seconds_per_row[best] <= _WORTHWHILE * seconds_per_row[1]
        rows[tokens] = best if gained else 1
    return rows


def _table(shapes: Sequence[_Shape]) -> Table:
    """Seconds per row, by tokens of a row and rows of a run; without padded runs."""
    table: Table = {}
    for shape in shapes:
        rows, tokens = len(shape.lengths), max(shape.lengths)
        if set(shape.lengths) == {tokens}:
            table.setdefault(tokens, {})[rows] = shape.fastest / rows
    return {tokens: dict(sorted(table[tokens].items())) for tokens in sorted(table)}


def _spread(levels: list[int], count: int) -> list[int]:
    """At most ``count`` of ascending levels, with both ends."""
    if len(levels) <= count:
        return levels
    last = len(levels) - 1
    return sorted({levels[round(step * last / (count - 1))] for step in range(count)})
