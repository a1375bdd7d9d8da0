"""The rules that choose K, as generators: a rule yields a look and is sent what the look shows.

A rule waits for nothing and measures nothing. It names a level, the pipeline lets the extractor
look at the clip at that level, and the rule goes on from the logits. It returns the outcome.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bundle.answers import AnswerFacts
from bundle.scores import SOFTMAX, is_unknown, probabilities_of
from service.sparsity.levels import Level, cover, ladder
from service.sparsity.plan import Plan, SweepPlan
from service.sparsity.probabilities import margin_of

Stop = Literal["margin", "densest", "budget"]
Reason = Literal["requests", "tokens", "wait", "budget"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Look:
    """What a rule asks the extractor for.

    Attributes:
        level: K is its ``kept``.
        left: tokens of one view in each look that is still to come after this one. None while the
            rule does not know, so that everything that was reserved may be needed.
    """

    level: Level
    left: tuple[int, ...] | None


# Seconds from the clip's arrival until a look that is asked for now is done, by K. It holds every K
# of the plan where the request has a budget, and is empty otherwise.
Predictions = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look shows, and what further looks would take.

    Attributes:
        logits: float32 [V, classes].
        video: float32 [V, D], the video token.
    """

    logits: NDArray[np.float32]
    video: NDArray[np.float32]
    predictions: Predictions


Rule = Generator[Look, Seen, _T]


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rule starts from, besides the plan.

    Attributes:
        way: which of the plan's costs is reserved; a classification's looks keep no more tokens
            than the ceiling of this number.
        degraded_by: why it is not the first, otherwise None.
        predictions: when the rule starts.
        curve: float64 [N], see :func:`service.sparsity.levels.coverage_curve`; None where the plan
            has no coverage.
        answer: what logits mean.
    """

    way: int
    degraded_by: Reason | None
    predictions: Predictions
    curve: NDArray[np.float64] | None = None
    answer: AnswerFacts = SOFTMAX


@dataclass(frozen=True, slots=True)
class Step:
    """One look: its level, its best label as an index, that one's score, how clear it all is."""

    level: Level
    best: int
    score: float
    margin: float


@dataclass(slots=True)
class Classified:
    """What was chosen and what came out of it.

    Attributes:
        probabilities: float64 [classes], of the last step.
        unknown: whether the last step shows nothing that there is a label for; None where the
            bundle cannot tell.
        steps: in order; one unless it is a cascade.
        degraded_by: why it is sparser than what was asked for; None when it is not.
        coverage_reached: share of the selector's mass that the last step looked at, if asked.
        predicted_seconds: of the whole, from the moment when the last level was chosen, if asked.
        stopped: why a cascade went no further.
    """

    probabilities: NDArray[np.float64]
    unknown: bool | None = None
    steps: list[Step] = field(default_factory=list)
    degraded_by: Reason | None = None
    coverage_reached: float | None = None
    predicted_seconds: float | None = None
    stopped: Stop | None = None

    @property
    def level(self) -> Level:
        return self.steps[-1].level


# float64 probabilities [classes], by K.
Swept = Mapping[int, NDArray[np.float64]]


def classify(plan: Plan, situation: Situation) -> Rule[Classified]:
    """The rule that the plan names."""
    rule = {"fixed": fixed, "auto": auto, "cascade": cascade}[plan.rule]
    return rule(plan, situation)


def explain(plan: Plan | SweepPlan, situation: Situation) -> Rule[Classified | Swept]:
    """The rule of a plan for an explanation."""
    if isinstance(plan, SweepPlan):
        return (yield from sweep(plan, situation))
    return (yield from classify(plan, situation))


def fixed(plan: Plan, situation: Situation) -> Rule[Classified]:
    """One look, at the densest level that is allowed."""
    allowed = plan.under(plan.ceilings[situation.way])
    return (
        yield from _look_once(plan, situation, allowed, wanted=plan.steps[0], affordable=allowed[0])
    )


def auto(plan: Plan, situation: Situation) -> Rule[Classified]:
    """One look, at the sparsest level that holds the coverage."""
    assert situation.curve is not None
    assert plan.coverage is not None
    curve, allowed = situation.curve, plan.under(plan.ceilings[situation.way])
    outcome = yield from _look_once(
        plan,
        situation,
        allowed,
        wanted=cover(plan.steps, curve, plan.coverage),
        affordable=cover(allowed, curve, plan.coverage),
    )
    outcome.coverage_reached = float(curve[outcome.level.kept - 1])
    return outcome


def cascade(plan: Plan, situation: Situation) -> Rule[Classified]:
    """The sparsest level first, then denser ones while the first two labels are too close."""
    margin = plan.asked.wanted_margin
    assert margin is not None
    ceiling = plan.ceilings[situation.way]
    outcome = Classified(np.empty(0), stopped="densest")
    predictions = situation.predictions
    for level in ladder(plan.under(ceiling)):
        if outcome.steps and not _fits(level, plan, predictions):
            outcome.stopped = "budget"
            break
        outcome.predicted_seconds = predictions.get(level.kept)
        seen = yield Look(level, left=None)
        predictions = seen.predictions
        _take(outcome, level, seen, situation.answer)
        if outcome.steps[-1].margin >= margin:
            outcome.stopped = "margin"
            break
    if outcome.stopped == "budget":
        outcome.degraded_by = "budget" if plan.explicit else None
    elif outcome.stopped == "densest" and ceiling.kept < plan.steps[0].kept:
        outcome.degraded_by = situation.degraded_by
    return outcome


def budget(steps: Sequence[Level], plan: Plan, predictions: Predictions) -> Level:
    """The densest step that is predicted to be in time, or the sparsest where none is.

    Args:
        steps: densest first, at least one.
    """
    return next((step for step in steps if _fits(step, plan, predictions)), steps[-1])


def sweep(plan: SweepPlan, situation: Situation) -> Rule[Swept]:
    """A look at each K, densest first."""
    found = {}
    levels = {level.kept: level for level in plan.levels.values()}
    for done, kept in enumerate(plan.kept, start=1):
        seen = yield Look(levels[kept], left=plan.kept[done:])
        found[kept] = probabilities_of(seen.logits, situation.answer, levels[kept].sparsity)
    return found


def _look_once(
    plan: Plan,
    situation: Situation,
    allowed: Sequence[Level],
    *,
    wanted: Level,
    affordable: Level,
) -> Rule[Classified]:
    """One look at the affordable level, or at a sparser one that is in the budget.

    Args:
        allowed: the plan's steps under its ceiling, densest first.
        wanted: what the look would be at if nothing pressed.
    """
    not_denser = [step for step in allowed if step.kept <= affordable.kept]
    chosen = budget(not_denser, plan, situation.predictions)
    seen = yield Look(chosen, left=())
    outcome = Classified(np.empty(0))
    _take(outcome, chosen, seen, situation.answer)
    if chosen.kept < affordable.kept:
        outcome.degraded_by = "budget" if plan.explicit else None
    elif chosen.kept < wanted.kept:
        outcome.degraded_by = situation.degraded_by
    outcome.predicted_seconds = situation.predictions.get(chosen.kept)
    return outcome


def _fits(level: Level, plan: Plan, predictions: Predictions) -> bool:
    return plan.budget_seconds is None or predictions[level.kept] <= plan.budget_seconds


def _take(outcome: Classified, level: Level, seen: Seen, answer: AnswerFacts) -> None:
    """Let the outcome be what this look shows."""
    scores = probabilities_of(seen.logits, answer, level.sparsity)
    best = int(np.argmax(scores))  # of equal ones the first, as in the answer
    outcome.probabilities = scores
    outcome.unknown = is_unknown(scores, seen.video, answer, level.sparsity)
    outcome.steps.append(Step(level, best, float(scores[best]), margin_of(scores, answer)))
