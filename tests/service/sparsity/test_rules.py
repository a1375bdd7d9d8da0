"""The rules that choose K while a clip is worked on, by tables of what each level would answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bundle.answers import AnswerFacts
from bundle.sampling import Views
from bundle.schema import SparsityRange
from bundle.scores import SOFTMAX, probabilities_of
from service.settings import DEFAULT_LEVELS
from service.sparsity.levels import SparsityPolicy
from service.sparsity.parameters import Parameters, SweepParameters
from service.sparsity.plan import plan_classification, plan_sweep
from service.sparsity.rules import Classified, Seen, Situation, classify, sweep

POLICY = SparsityPolicy(
    DEFAULT_LEVELS, DEFAULT_LEVELS, 1000, SparsityRange(lowest=0.7, highest=0.95, default=0.9)
)


@dataclass(frozen=True)
class Table:
    """What a clip answers at each K, and what a look takes. Its selector's mass is even."""

    margins: Mapping[int, float] = field(default_factory=dict)
    seconds_per_token: float = 0.0

    def logits(self, kept: int) -> NDArray[np.float32]:
        margin = self.margins.get(kept, 1.0)
        scores = np.array([[(1 - margin) / 2, (1 + margin) / 2]])
        return np.log(scores + 1e-12).astype(np.float32)


CURVE = np.arange(1, 1001) / 1000
VIDEO = np.array([[1.0, -1.0]], np.float32)


def run(
    table: Table,
    *,
    way: int = 0,
    began: float = 0.0,
    answer: AnswerFacts = SOFTMAX,
    **asked: object,
) -> Classified:
    """Play a rule to its end; ``began`` is what had passed when it started."""
    read = Parameters(cascade="margin" in asked, **asked)  # type: ignore[arg-type]
    plan = plan_classification(POLICY, read, None)
    seconds, looked = began, []

    def predictions() -> dict[int, float]:
        if plan.budget_seconds is None:
            return {}
        return {kept: seconds + kept * table.seconds_per_token for kept in plan.choices}

    reason = "tokens" if way else None
    rule = classify(plan, Situation(way, reason, predictions(), CURVE, answer))  # type: ignore[arg-type]
    look = next(rule)
    while True:
        kept = look.level.kept
        looked.append(kept)
        assert look.left in (None, ()), "one look, or as many as were reserved"
        seconds += kept * table.seconds_per_token
        try:
            look = rule.send(Seen(table.logits(kept), VIDEO, predictions()))
        except StopIteration as end:
            outcome: Classified = end.value
            break
    assert sum(looked) <= plan.costs[way].tokens, "never more than was reserved"
    assert [step.level.kept for step in outcome.steps] == looked
    return outcome


def test_a_sparsity_alone_is_what_is_used() -> None:
    outcome = run(Table(), sparsity=0.8)
    assert outcome.level.sparsity == 0.8
    assert outcome.degraded_by is None
    assert (outcome.coverage_reached, outcome.predicted_seconds, outcome.stopped) == (None,) * 3


def test_under_load_it_is_the_ceiling() -> None:
    outcome = run(Table(), way=1, sparsity=0.8, max_sparsity=0.9)
    assert outcome.level.sparsity == 0.85
    assert outcome.degraded_by == "tokens"


def test_auto_tells_what_it_reached() -> None:
    outcome = run(Table(), sparsity="auto", coverage=0.18)
    assert (outcome.level.kept, outcome.coverage_reached) == (200, 0.2)
    assert outcome.degraded_by is None
    clamped = run(Table(), sparsity="auto", coverage=0.9)
    assert (clamped.level.kept, clamped.coverage_reached) == (300, 0.3)


def test_auto_is_degraded_only_where_the_ceiling_binds() -> None:
    asked = {"sparsity": "auto", "max_sparsity": 0.95}
    easy = run(Table(), way=2, coverage=0.06, **asked)
    assert (easy.level.kept, easy.degraded_by) == (75, None), "200 were allowed, 75 are enough"
    hard = run(Table(), way=2, coverage=0.28, **asked)
    assert (hard.level.kept, hard.degraded_by) == (200, "tokens")
    assert hard.coverage_reached == pytest.approx(0.2)


def test_a_budget_takes_the_densest_that_fits() -> None:
    per_token = 0.0001  # 300 tokens take 30 ms
    outcome = run(Table({}, per_token), budget_ms=100.0)
    assert (outcome.level.kept, outcome.predicted_seconds) == (300, pytest.approx(0.03))
    outcome = run(Table({}, per_token), budget_ms=22.0)
    assert (outcome.level.kept, outcome.degraded_by) == (200, None), "nobody asked for a sparsity"
    # What has passed already counts.
    outcome = run(Table({}, per_token), began=0.01, budget_ms=22.0)
    assert (outcome.level.kept, outcome.predicted_seconds) == (100, pytest.approx(0.02))
    # None fits: the sparsest, and the prediction says so.
    outcome = run(Table({}, per_token), began=5.0, budget_ms=22.0)
    assert (outcome.level.kept, outcome.predicted_seconds) == (50, pytest.approx(5.005))


def test_an_explicit_sparsity_is_the_densest_of_a_budget() -> None:
    assert run(Table({}, 0.0001), sparsity=0.9, budget_ms=1e6).level.kept == 100
    outcome = run(Table({}, 0.0001), sparsity=0.5, budget_ms=41.0)
    assert (outcome.level.kept, outcome.degraded_by) == (400, "budget")
    outcome = run(Table({}, 0.0001), sparsity="auto", coverage=0.29, budget_ms=16.0)
    assert (outcome.level.kept, outcome.degraded_by) == (150, "budget")


def test_a_cascade_goes_on_while_it_is_in_doubt() -> None:
    margins = {50: 0.1, 150: 0.8, 300: 0.9}
    outcome = run(Table(margins), margin=0.5)
    assert [step.level.kept for step in outcome.steps] == [50, 150]
    assert outcome.stopped == "margin"
    assert outcome.steps[-1].margin == pytest.approx(0.8, abs=1e-6)
    assert [step.best for step in outcome.steps] == [1, 1]
    np.testing.assert_allclose(outcome.probabilities, [0.1, 0.9], atol=1e-6)

    assert run(Table(margins), margin=0.05).steps[-1].level.kept == 50
    never = run(Table(dict.fromkeys(margins, 0.2)), margin=0.5)
    assert (len(never.steps), never.stopped, never.degraded_by) == (3, "densest", None)
    bounded = run(Table(dict.fromkeys(margins, 0.2)), sparsity=0.9, margin=0.5)
    assert [step.level.sparsity for step in bounded.steps] == [0.95, 0.9]


def test_a_cascade_under_load_and_under_a_budget() -> None:
    doubtful = dict.fromkeys((50, 75, 100, 150, 300), 0.2)
    outcome = run(Table(doubtful), way=1, sparsity=0.9, max_sparsity=0.95, margin=0.5)
    assert [step.level.kept for step in outcome.steps] == [50, 75]
    assert (outcome.stopped, outcome.degraded_by) == ("densest", "tokens")
    sure = run(Table(), way=1, sparsity=0.9, max_sparsity=0.95, margin=0.5)
    assert (sure.stopped, sure.degraded_by) == ("margin", None), "it would not have gone further"

    outcome = run(Table(doubtful, 0.0001), margin=0.5, budget_ms=21.0)
    assert [step.level.kept for step in outcome.steps] == [50, 150]
    assert (outcome.stopped, outcome.degraded_by) == ("budget", None)
    assert outcome.predicted_seconds == pytest.approx(0.02)
    asked = run(Table(doubtful, 0.0001), sparsity=0.7, margin=0.5, budget_ms=21.0)
    assert asked.degraded_by == "budget"


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(0, 1),
    st.floats(1, 100),
    st.floats(0, 0.05),
)
def test_a_cascade_ends_for_the_reason_it_gives(
    margins: list[float], margin: float, budget_ms: float, began: float
) -> None:
    table = Table(dict(zip((50, 150, 300), margins, strict=True)), 0.0001)
    outcome = run(table, began=began, margin=margin, budget_ms=budget_ms)
    *before, last = outcome.steps
    assert all(step.margin < margin for step in before)
    assert (outcome.stopped == "margin") == (last.margin >= margin)
    if outcome.stopped == "densest":
        assert last.level.kept == 300
    if before:
        assert outcome.predicted_seconds is not None
        assert outcome.predicted_seconds <= budget_ms / 1000, "only the first step may be late"


def test_equal_scores_have_no_margin_and_the_first_label() -> None:
    outcome = run(Table({100: 0.0}), sparsity=0.9)
    assert (outcome.steps[0].best, outcome.steps[0].margin) == (0, 0.0)
    assert outcome.steps[0].score == 0.5


def test_what_is_unknown_is_told_at_the_level_of_the_last_look() -> None:
    assert run(Table(), sparsity=0.9).unknown is None
    thresholds = [{"sparsity": 0.9, "threshold": 0.8}, {"sparsity": 0.7, "threshold": 0.3}]
    answer = AnswerFacts.model_validate({"unknown": thresholds})
    table = Table({100: 0.5})  # 0.75 for the first label
    assert run(table, sparsity=0.9, answer=answer).unknown is True
    cascaded = run(Table({100: 0.5, 50: 0.0}), margin=0.6, answer=answer)
    assert cascaded.level.kept == 150, "denser than where it was not clear, near 0.9"
    assert cascaded.unknown is False
    by_video = {"known": {"weights": [0.0, 1.0], "bias": 0.0}, "unknown": thresholds}
    found = run(Table(), sparsity=0.7, answer=AnswerFacts.model_validate(by_video))
    assert found.unknown is True, "its score is 0.27"


def test_probabilities_are_of_all_views() -> None:
    logits = np.array([[0.0, 5.0], [5.0, 0.0]], np.float32)
    np.testing.assert_allclose(probabilities_of(logits), [0.5, 0.5])


def test_a_sweep_looks_at_each_level_once_and_says_what_is_left() -> None:
    asked = SweepParameters(sparsities=(0.5, 0.9, 0.91), views=Views(2, 1))
    plan = plan_sweep(POLICY, asked)
    table = Table({500: 0.2, 100: 0.6})
    rule = sweep(plan, Situation(0, None, {}))
    first = next(rule)
    assert (first.level.kept, first.left) == (500, (100,))
    second = rule.send(Seen(table.logits(500), VIDEO, {}))
    assert (second.level.kept, second.left) == (100, ())
    with pytest.raises(StopIteration) as end:
        rule.send(Seen(table.logits(100), VIDEO, {}))
    found = end.value.value
    np.testing.assert_allclose(found[500], [0.4, 0.6], atol=1e-6)
    np.testing.assert_allclose(found[100], [0.2, 0.8], atol=1e-6)
    assert plan.costs[0].tokens == 600 * 2
