"""From a clip's selection to its labels: the rules that choose K while the clip is worked on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.pipeline.stages import Extraction
from service.sparsity.levels import Level, cover, ladder
from service.sparsity.plan import Plan

Stop = Literal["margin", "densest", "budget"]
Reason = Literal["requests", "tokens", "wait", "budget"]


class Extracts(Protocol):
    """What the rules ask of a clip's work; :class:`service.pipeline.stages.ClipWork` is it."""

    async def curve(self) -> NDArray[np.float64]:
        """float64 [N]; see :func:`service.sparsity.levels.coverage_curve`."""
        ...

    async def extract(self, kept: int) -> Extraction:
        """Look at so many tokens of each view."""
        ...

    def predicted_seconds(self, kept: int) -> float:
        """Until an extraction that is asked for now is done."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """The numbers that rules go by; None for those that are not wanted.

    coverage: share of the selector's mass. margin: between the first two probabilities.
    budget_seconds: from ``spent()`` being 0 to the answer. explicit: a sparsity was asked for, or
    `auto`: to get a sparser one for the budget is less than what was asked for.
    """

    coverage: float | None = None
    margin: float | None = None
    budget_seconds: float | None = None
    explicit: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One extraction: its level, its best label as an index, that one's lead over the next."""

    level: Level
    best: int
    score: float
    margin: float


@dataclass(slots=True)
class Outcome:
    """What was chosen and what came out of it.

    Attributes:
        probabilities: float64 [classes], of the last step.
        steps: in order; one unless it is a cascade.
        degraded_by: why it is sparser than what was asked for; None when it is not.
        coverage_reached: share of the selector's mass that the last step looked at, if asked.
        predicted_seconds: of the whole, from the moment when the last level was chosen, if asked.
        stopped: why a cascade went no further.
    """

    probabilities: NDArray[np.float64]
    steps: list[Step] = field(default_factory=list)
    degraded_by: Reason | None = None
    coverage_reached: float | None = None
    predicted_seconds: float | None = None
    stopped: Stop | None = None

    @property
    def level(self) -> Level:
        return self.steps[-1].level


class _Budget:
    """Predicts whether an extraction that is asked for now ends in time."""

    def __init__(
        self, work: Extracts, budget_seconds: float | None, spent: Callable[[], float]
    ) -> None:
        self._work, self._budget, self._spent = work, budget_seconds, spent
        self.predicted: float | None = None

    @property
    def given(self) -> bool:
        return self._budget is not None

    def fits(self, level: Level) -> bool:
        return self._budget is None or self._predict(level) <= self._budget

    def choose(self, level: Level) -> Level:
        """Note what is predicted for the level that is taken, whether it fits or not."""
        if self._budget is not None:
            self.predicted = self._predict(level)
        return level

    def _predict(self, level: Level) -> float:
        return self._spent() + self._work.predicted_seconds(level.kept)


async def run(
    plan: Plan,
    ceiling: Level,
    degraded_by: Reason | None,
    asked: Asked,
    work: Extracts,
    spent: Callable[[], float],
    settle: Callable[[int], None],
) -> Outcome:
    """Choose and extract by the plan's rule.

    Args:
        ceiling: one of the plan's; no more tokens than it are kept.
        degraded_by: why the ceiling is not the plan's first.
        spent: seconds since the clip had arrived.
        settle: told the tokens of one view that are needed at most, once that is known.
    """
    budget = _Budget(work, asked.budget_seconds, spent)
    if asked.margin is not None:
        return await _cascade(plan, ceiling, degraded_by, asked, work, budget)
    curve = await work.curve() if asked.coverage is not None else None

    def rule(steps: tuple[Level, ...]) -> Level:
        if curve is None or asked.coverage is None:
            return steps[0]
        return cover(steps, curve, asked.coverage)

    allowed = plan.under(ceiling)
    wanted, affordable = rule(plan.steps), rule(allowed)
    chosen = affordable
    if budget.given:
        sparser = [step for step in allowed if step.kept <= affordable.kept]
        chosen = budget.choose(next(filter(budget.fits, sparser), sparser[-1]))
    settle(chosen.kept)
    probabilities = probabilities_of((await work.extract(chosen.kept)).logits)
    outcome = Outcome(probabilities, [_step(chosen, probabilities)])
    if chosen.kept < affordable.kept:
        outcome.degraded_by = "budget" if asked.explicit else None
    elif chosen.kept < wanted.kept:
        outcome.degraded_by = degraded_by
    outcome.predicted_seconds = budget.predicted
    if curve is not None:
        outcome.coverage_reached = float(curve[chosen.kept - 1])
    return outcome


async def _cascade(
    plan: Plan,
    ceiling: Level,
    degraded_by: Reason | None,
    asked: Asked,
    work: Extracts,
    budget: _Budget,
) -> Outcome:
    """Sparsest first, denser while the first two labels are too close to each other."""
    margin = asked.margin or 0.0
    levels = ladder(plan.under(ceiling))
    level = budget.choose(levels[0])
    probabilities = probabilities_of((await work.extract(level.kept)).logits)
    outcome = Outcome(probabilities, [_step(level, probabilities)], stopped="densest")
    for level in levels[1:]:
        if outcome.steps[-1].margin >= margin:
            break
        if not budget.fits(level):
            outcome.stopped = "budget"
            break
        budget.choose(level)
        outcome.probabilities = probabilities_of((await work.extract(level.kept)).logits)
        outcome.steps.append(_step(level, outcome.probabilities))
    if outcome.steps[-1].margin >= margin:
        outcome.stopped = "margin"
    elif outcome.stopped == "budget":
        outcome.degraded_by = "budget" if asked.explicit else None
    elif ceiling.kept < plan.steps[0].kept:
        outcome.degraded_by = degraded_by
    outcome.predicted_seconds = budget.predicted
    return outcome


def probabilities_of(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """logits [V, classes] -> [classes]: softmax of each view, then the mean over the views.

    The mean of probabilities rather than of logits is InternVideo2's test protocol.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    of_views: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.asarray(of_views.mean(axis=0))


def _step(level: Level, probabilities: NDArray[np.float64]) -> Step:
    second, first = np.partition(probabilities, -2)[-2:].tolist()
    # Of equal ones the first is the best, as in the answer.
    return Step(level, int(np.argmax(probabilities)), first, first - second)
