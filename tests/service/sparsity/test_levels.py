"""From the sparsity asked for, and from the selector's scores, to the tokens that are kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bundle.sampling import Views
from bundle.schema import SparsityRange
from bundle.tokens import tokens_to_keep
from service.admission.cost import RequestCost
from service.errors import ContradictoryParameters
from service.settings import DEFAULT_LEVELS
from service.sparsity.levels import Level, SparsityPolicy, cover, coverage_curve, ladder
from service.sparsity.parameters import Parameters
from service.sparsity.plan import Plan, plan_classification

TRAINED = SparsityRange(lowest=0.7, highest=0.95, default=0.9)


def policy_of(
    levels: tuple[float, ...] = DEFAULT_LEVELS,
    tokens: int = 1000,
    trained: SparsityRange = TRAINED,
) -> SparsityPolicy:
    return SparsityPolicy(levels, levels or DEFAULT_LEVELS, tokens, trained)


def test_asked_is_rounded_to_the_level_that_is_not_sparser() -> None:
    policy = policy_of()
    assert policy.level(0.93).sparsity == 0.925
    assert policy.level(0.94999).sparsity == 0.925
    assert policy.level(0.95).sparsity == 0.95
    assert policy.level(0.3 + 0.6).sparsity == 0.9  # 0.8999999999999999
    assert policy.level(0.05).sparsity == 0.0
    assert policy.level(0.0).kept == 1000
    assert policy.level(0.95).kept == 50


def test_nobody_asking_means_the_bundles_default() -> None:
    trained = SparsityRange(lowest=0.5, highest=0.9, default=0.72)
    assert policy_of(trained=trained).default == Level(0.7, 300)


@given(st.floats(0, 0.99))
def test_never_fewer_tokens_than_asked_for(asked: float) -> None:
    assert policy_of(tokens=3136).level(asked).kept >= tokens_to_keep(asked, 3136)


@given(st.floats(0, 0.99))
def test_without_levels_every_sparsity_is_exact(asked: float) -> None:
    level = policy_of((), 3136).level(asked)
    assert level == Level(asked, tokens_to_keep(asked, 3136))


@given(st.floats(0, 0.99), st.floats(0, 0.99), st.booleans(), st.integers(1, 300))
def test_levels_between_two_lead_from_one_to_the_other(
    a: float, b: float, exact: bool, tokens: int
) -> None:
    policy = policy_of(() if exact else DEFAULT_LEVELS, tokens)
    densest, sparsest = policy.level(min(a, b)), policy.level(max(a, b))
    found = policy.between(densest, sparsest)
    assert found[0] == densest
    assert found[-1].kept == sparsest.kept
    kept = [level.kept for level in found]
    assert kept == sorted(set(kept), reverse=True)


SCORES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 64)),
    elements=st.floats(-50, 50, width=32),
)


@pytest.mark.slow
@given(SCORES)
def test_the_curve_is_the_mass_of_the_best_tokens(scores: np.ndarray) -> None:
    curve = coverage_curve(scores)
    assert curve.shape == scores.shape[1:]
    assert curve[-1] == 1.0
    assert (np.diff(curve) >= -1e-12).all()
    # Each further token holds at most what the one before it holds.
    assert (np.diff(curve, 2) <= 1e-9).all()
    mass = np.exp(scores.astype(np.float64))
    best = (mass.max(axis=1) / mass.sum(axis=1)).mean()
    assert curve[0] == pytest.approx(best)


def test_equal_scores_hold_equal_shares() -> None:
    curve = coverage_curve(np.zeros((2, 10), np.float32))
    np.testing.assert_allclose(curve, np.arange(1, 11) / 10)


@pytest.mark.slow
@given(SCORES, st.floats(0.001, 1))
def test_cover_takes_the_sparsest_that_holds_enough(scores: np.ndarray, coverage: float) -> None:
    policy = policy_of(tokens=scores.shape[1])
    steps = policy.between(policy.level(0), policy.level(0.99))
    curve = coverage_curve(scores)
    chosen = cover(steps, curve, coverage)
    assert curve[chosen.kept - 1] >= coverage - 1e-8
    for step in steps:
        if step.kept < chosen.kept:
            assert curve[step.kept - 1] < coverage


def test_cover_stays_within_its_steps() -> None:
    policy = policy_of()
    steps = policy.between(policy.lowest, policy.highest)
    flat = coverage_curve(np.zeros((1, 1000), np.float32))
    assert cover(steps, flat, 0.9) == policy.lowest, "700 tokens would be needed, 300 are allowed"
    assert cover(steps, flat, 0.01) == policy.highest
    assert cover(steps, flat, 0.2) == Level(0.8, 200)
    assert cover(steps, flat, 0.2001) == Level(0.75, 250)


def test_views_count_on_average() -> None:
    """One view needs a tenth of its tokens for all of its mass, the other needs all."""
    sharp = np.full((1, 10), -100, np.float32)
    sharp[0, 3] = 100
    flat = np.zeros((1, 10), np.float32)
    curve = coverage_curve(np.concatenate([sharp, flat]))
    np.testing.assert_allclose(curve, (1 + np.arange(1, 11) / 10) / 2)


def test_a_ladder_trebles_and_ends_at_the_densest() -> None:
    policy = policy_of()
    steps = policy.between(policy.lowest, policy.highest)
    assert [step.sparsity for step in ladder(steps)] == [0.95, 0.85, 0.7]
    assert [step.sparsity for step in ladder(steps, 2.0)] == [0.95, 0.9, 0.8, 0.7]
    assert ladder(steps[:1]) == steps[:1]
    assert ladder(steps[:2])[-1] == steps[0]


@given(st.floats(0, 0.99), st.floats(0, 0.99), st.integers(1, 3136))
def test_a_ladder_climbs_in_few_steps(a: float, b: float, tokens: int) -> None:
    policy = policy_of(tokens=tokens)
    steps = policy.between(policy.level(min(a, b)), policy.level(max(a, b)))
    rungs = ladder(steps)
    kept = [rung.kept for rung in rungs]
    assert kept == sorted(set(kept))
    assert set(rungs) <= set(steps)
    assert (rungs[0], rungs[-1]) == (steps[-1], steps[0]) or len(rungs) == 1
    assert len(rungs) <= 6, "trebling from a hundredth of the tokens to all of them"


def planned(degrade_to: float | None = None, **asked: object) -> Plan:
    parameters = Parameters(cascade="margin" in asked, **asked)  # type: ignore[arg-type]
    return plan_classification(policy_of(), parameters, degrade_to)


def spans(levels: tuple[Level, ...]) -> tuple[float, float]:
    return levels[0].sparsity, levels[-1].sparsity


def test_what_is_asked_for_is_what_may_be_chosen_from() -> None:
    assert planned().steps == (Level(0.9, 100),)
    assert planned(sparsity=0.5).steps == (Level(0.5, 500),)
    assert spans(planned(sparsity="auto", coverage=0.9).steps) == (0.7, 0.95)
    assert spans(planned(budget_ms=10.0).steps) == (0.7, 0.95)
    assert spans(planned(margin=0.3).steps) == (0.7, 0.95)
    # An explicit sparsity is the densest.
    assert spans(planned(sparsity=0.5, budget_ms=10.0).steps) == (0.5, 0.95)
    assert spans(planned(sparsity=0.9, margin=0.3).steps) == (0.9, 0.95)
    assert spans(planned(sparsity=0.98, budget_ms=10.0).steps) == (0.98, 0.98)
    # max_sparsity bounds what is chosen, and what may be degraded to.
    assert spans(planned(sparsity="auto", coverage=0.9, max_sparsity=0.85).steps) == (0.7, 0.85)
    assert spans(planned(sparsity="auto", coverage=0.9, max_sparsity=0.98).steps) == (0.7, 0.95)
    assert spans(planned(sparsity="auto", coverage=0.9, max_sparsity=0.98).ceilings) == (0.7, 0.98)


def test_who_may_be_degraded_and_how_far() -> None:
    assert planned(sparsity=0.7).ceilings == (Level(0.7, 300),)
    assert spans(planned(sparsity=0.7, max_sparsity=0.9).ceilings) == (0.7, 0.9)
    assert spans(planned(0.95, sparsity=0.7).ceilings) == (0.7, 0.95)
    assert planned(0.95, sparsity=0.7, strict=True).ceilings == (Level(0.7, 300),)
    assert planned(0.5, sparsity=0.7).ceilings == (Level(0.7, 300),), "denser is no degradation"
    assert spans(planned(0.95, sparsity=0.7, max_sparsity=0.8).ceilings) == (0.7, 0.8)


@pytest.mark.parametrize("asked", [{"sparsity": 0.9}, {"sparsity": None}])
def test_max_sparsity_below_the_sparsity_is_a_contradiction(asked: dict[str, float | None]) -> None:
    with pytest.raises(ContradictoryParameters) as caught:
        planned(**asked, max_sparsity=0.8)
    assert caught.value.members["field"] == "max_sparsity"
    assert "0.9" in caught.value.detail


def tokens_of(made: Plan) -> tuple[int, ...]:
    return tuple(cost.tokens for cost in made.costs)


def test_costs_are_the_worst_case_under_each_ceiling() -> None:
    assert tokens_of(planned(sparsity=0.7)) == (300,)
    assert planned(sparsity=0.7, views=Views(2, 3)).costs == (RequestCost((300,), views=6),)
    assert tokens_of(planned(sparsity=0.9, max_sparsity=0.95)) == (100, 75, 50)
    assert tokens_of(planned(sparsity="auto", coverage=0.5)) == (300,)
    assert planned(margin=0.5).costs == (RequestCost((50, 150, 300)),)
    assert tokens_of(planned(sparsity=0.9, margin=0.5, max_sparsity=0.95)) == (
        50 + 100,
        50 + 75,
        50,
    )
    # Beyond its own range, a rule has nothing left to choose.
    far = planned(sparsity="auto", coverage=0.5, max_sparsity=0.98)
    assert tokens_of(far)[-1] == 20
    assert far.under(far.ceilings[-1]) == (Level(0.98, 20),)


@given(
    st.sampled_from(["auto", None, 0.0, 0.5, 0.9, 0.97]),
    st.one_of(st.none(), st.floats(0, 0.99)),
    st.one_of(st.none(), st.floats(0, 0.99)),
    st.sampled_from([{}, {"margin": 0.5}, {"budget_ms": 9.0}]),
)
def test_costs_never_grow_towards_the_sparsest_ceiling(
    sparsity: object, most: float | None, degrade_to: float | None, rule: dict[str, float]
) -> None:
    try:
        made = planned(degrade_to, sparsity=sparsity, max_sparsity=most, **rule)
    except ContradictoryParameters:
        assert most is not None or (sparsity == "auto" and "margin" in rule)
        return
    assert list(tokens_of(made)) == sorted(tokens_of(made), reverse=True)
    assert len(made.costs) == len(made.ceilings)
    assert made.ceilings[0] == made.steps[0]
