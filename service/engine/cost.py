"""How long the two graphs and decoding are expected to take, and how wrong that was lately."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bundle.schema import Macs
from service.engine.work import TERMS, Work

StageName = Literal["select", "extract"]

# Weight of the newest run in the correction: the last twenty or so make it up.
_NEWEST = 0.05
# A run that was held up by something else entirely must not pull the correction along.
_MOST_SURPRISE = math.log(4)
# Of clips in the estimate of decoding: the last fifty or so.
_FORGETTING = 0.98


@dataclass(frozen=True, slots=True)
class Fit:
    """Seconds per unit of each of :data:`TERMS`, none negative, so that more never costs less.

    Attributes:
        coefficients: in the order of the terms.
        median_error, largest_error: of the measurements, relative; 0 where nothing was measured.
        measurements: how many shapes were measured.
    """

    coefficients: tuple[float, ...] = (0.0,) * len(TERMS)
    median_error: float = 0.0
    largest_error: float = 0.0
    measurements: int = 0

    def seconds(self, work: Work) -> float:
        return sum(a * b for a, b in zip(self.coefficients, work.terms(), strict=True))


class CostModel:
    """Predicts seconds on this machine, and corrects itself by what was measured.

    A prediction grows with the kept tokens and with the views. Each is multiplied by a slowly
    moving ratio of measured to predicted seconds, because a machine that decodes beside it is
    slower than one that calibrates. There are two of these ratios: runs that share the device with
    other runs take longer. Until that was measured, they are taken to share it evenly.

    Args:
        fits: of both stages, for runs that have the device to themselves.
        selector_tokens: of one view, as the selector counts them.
        runs: how many runs a number of views, each of a number of tokens, takes.
        turns: runs at the same time.
        backlog: predicted seconds of the work before a job that is due then.
        busy: whether a job that comes now shares the device with others.
    """

    def __init__(
        self,
        fits: Mapping[StageName, Fit],
        selector_tokens: int,
        runs: Callable[[StageName, int, int], int],
        turns: int,
        backlog: Callable[[float], float],
        busy: Callable[[], bool],
    ) -> None:
        self.fits = dict(fits)
        self.decoding, self.encoding = DecodingCost(), DecodingCost()
        self._selector_tokens, self._runs, self._turns = selector_tokens, runs, turns
        self._backlog, self._busy = backlog, busy
        self._log_ratios: dict[tuple[StageName, bool], float] = {
            (stage, shared): shared * math.log(turns)
            for stage in self.fits
            for shared in (False, True)
        }

    @property
    def busy(self) -> bool:
        """Whether a job that comes now has others before or beside it."""
        return self._busy()

    def select_seconds(self, views: int) -> float:
        """Downscaled views through the selector, on an engine that has nothing else to do."""
        return self._all_runs("select", self._selector_tokens, views)

    def extract_seconds(self, kept: int, views: int) -> float:
        """``views`` views of ``kept`` tokens each through the extractor, on such an engine."""
        return self._all_runs("extract", kept, views)

    def clip_seconds(
        self, kept: Sequence[int], views: int, selected: bool = False, encodes: bool = False
    ) -> float:
        """A clip's way through an engine that has nothing else to do.

        Args:
            kept: tokens of one view in each extraction, one after the other.
            selected: decoding, which takes as long as it usually does, and selection are done.
            encodes: a picture or a film is encoded in the end, which takes as long as usual.
        """
        extracting = sum(self.extract_seconds(tokens, views) for tokens in kept)
        if encodes:
            extracting += self.encoding.usual_seconds
        if selected:
            return extracting
        return self.decoding.usual_seconds + self.select_seconds(views) + extracting

    def until_extracted(self, kept: int, views: int, due: float) -> float:
        """Seconds from now, if these views were to be extracted now, behind what is due before."""
        seconds = self._all_runs("extract", kept, views, shared=self.busy)
        return self.backlog_seconds(due) + seconds

    def backlog_seconds(self, due: float = math.inf) -> float:
        """Until a new job can begin: runs that are queued, and running in all turns, before it.

        Jobs that are still to be selected are counted with their selection alone: how many tokens
        they will keep is not decided yet.

        Args:
            due: of the new job, on the monotonic clock; what is due later does not count.
        """
        return self._backlog(due)

    def seconds(self, stage: StageName, work: Work, *, shared: bool = False) -> float:
        """Work of one stage, run after run.

        Args:
            shared: whether other runs are on the device at the same time.
        """
        return self.correction(stage, shared=shared) * self.fits[stage].seconds(work)

    def correction(self, stage: StageName, *, shared: bool = False) -> float:
        """Measured by fitted seconds, lately; 1 after calibration, for runs that share nothing."""
        return math.exp(self._log_ratios[stage, shared])

    def measured(
        self, stage: StageName, work: Work, seconds: float, *, shared: bool = False
    ) -> float:
        """Learn from a run; gives what is predicted for its like."""
        predicted = self.seconds(stage, work, shared=shared)
        if predicted > 0 and seconds > 0:
            surprise = math.log(seconds / predicted)
            surprise = max(-_MOST_SURPRISE, min(_MOST_SURPRISE, surprise))
            self._log_ratios[stage, shared] += _NEWEST * surprise
        return predicted

    def _all_runs(
        self, stage: StageName, tokens: int, views: int, *, shared: bool = False
    ) -> float:
        runs = self._runs(stage, tokens, views)
        at_once = min(runs, self._turns)
        row = Work.of_run([tokens])
        amount = Work(runs, views, views * row.tokens, views * row.pairs)
        # Runs side by side end together; what is left over of the last round counts as a round.
        seconds = self.seconds(stage, amount, shared=shared or at_once > 1)
        return seconds * math.ceil(runs / at_once) / runs


class DecodingCost:
    """Seconds over the pixels of a clip: a straight line through the last clips.

    A clip is needed to measure it, so that it is known only after some were decoded. Recent clips
    count more; a line that would fall, or begin below zero, is held at zero.
    """

    def __init__(self) -> None:
        self.clips = 0
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def measured(self, pixels: int, seconds: float) -> None:
        """Learn from a clip: width times height times frames, and the seconds that it took."""
        keep, x = _FORGETTING, pixels / 1e6
        self.clips += 1
        self._weight = keep * self._weight + 1
        self._x = keep * self._x + x
        self._y = keep * self._y + seconds
        self._xx = keep * self._xx + x * x
        self._xy = keep * self._xy + x * seconds

    @property
    def usual_seconds(self) -> float:
        """The mean over the last clips."""
        return self._y / self._weight if self.clips else 0.0

    def line(self) -> tuple[float, float]:
        """(seconds of any clip, seconds of a million pixels)."""
        if not self.clips:
            return 0.0, 0.0
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x**2
        slope = mean_y / mean_x if mean_x else 0.0
        # Clips of nearly one size say nothing about another: a line through zero is the guess.
        if variance > 0.01 * mean_x**2:
            slope = (self._xy / self._weight - mean_x * mean_y) / variance
            slope = min(max(0.0, slope), mean_y / mean_x)
        return mean_y - slope * mean_x, slope

    def seconds(self, pixels: int) -> float:
        fixed, per_megapixel = self.line()
        return fixed + per_megapixel * pixels / 1e6


def fit(runs: list[tuple[Work, float]]) -> Fit:
    """Fit the terms to measured runs; relative errors count, so that small runs matter too.

    The best of all non-negative least squares solutions is found by trying every subset of the
    terms: there are 31, and no solver is needed.
    """
    terms = np.array([work.terms() for work, _ in runs])
    seconds = np.array([measured for _, measured in runs])
    relative = terms / seconds[:, None]
    best, best_error = np.zeros(len(TERMS)), math.inf
    for subset in range(1, 2 ** len(TERMS)):
        chosen = [term for term in range(len(TERMS)) if subset >> term & 1]
        scale = np.abs(relative[:, chosen]).max(axis=0)
        if not scale.all():
            continue  # a term that no run has
        solution, *_ = np.linalg.lstsq(relative[:, chosen] / scale, np.ones(len(runs)), rcond=None)
        error = float(np.square(relative[:, chosen] / scale @ solution - 1).sum())
        # A further term has to explain something.
        if solution.min() >= 0 and error < best_error * (1 - 1e-6):
            best, best_error = np.zeros(len(TERMS)), error
            best[chosen] = solution / scale
    errors = np.abs(relative @ best - 1)
    return Fit(tuple(best.tolist()), float(np.median(errors)), float(errors.max()), len(runs))


def fit_to_macs(stage: StageName, macs: Macs, seconds_per_mac: float) -> Fit:
    """What the multiply-accumulates alone say, where nothing but their rate was measured."""
    if stage == "select":
        return Fit((0.0, macs.selector * seconds_per_mac, 0.0, 0.0, 0.0))
    per_token = macs.extractor_per_token * seconds_per_mac
    per_pair = macs.extractor_per_token_pair * seconds_per_mac
    return Fit((0.0, macs.extractor_fixed * seconds_per_mac, per_token, per_pair, per_token))
