"""Predictions: fitted to what was measured, never falling, corrected while they are used."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.schema import Macs
from service.engine.cost import CostModel, DecodingCost, Fit, StageName, fit, fit_to_macs
from service.engine.work import TERMS, Work

TRUE = (2e-3, 1e-3, 4e-6, 2e-9, 3e-6)


def model(
    fitted: Fit, room: int = 4, turns: int = 1, backlog: float = 0.0, busy: bool = False
) -> CostModel:
    def runs(stage: StageName, tokens: int, views: int) -> int:
        return -(-views // room)

    fits: dict[StageName, Fit] = {"select": fitted, "extract": fitted}
    return CostModel(fits, 128, runs, turns, lambda due: min(backlog, due), lambda: busy)


def test_a_run_is_made_of_its_terms() -> None:
    work = Work.of_run([100, 60])
    assert dict(zip(TERMS, work.terms(), strict=True)) == {
        "run": 1,
        "row": 2,
        "token": 160,
        "token_pair": 2 * 100 * 100,
        "padded_token": 40,
    }
    assert work + work == work.scaled(2)


def test_the_fit_finds_what_runs_are_made_of() -> None:
    noise = np.random.default_rng(0)
    shapes = [(k,) * rows for k in (10, 50, 100, 300, 1000) for rows in (1, 2, 4)]
    shapes += [(100, 50), (300, 75, 75, 75)]
    true = Fit(TRUE)
    runs = [
        (work, true.seconds(work) * noise.uniform(0.98, 1.02)) for work in map(Work.of_run, shapes)
    ]
    found = fit(runs)
    assert found.measurements == len(runs)
    assert found.median_error < 0.02
    assert found.largest_error < 0.06
    for lengths in ((400,), (20,) * 8, (200, 150, 100)):
        work = Work.of_run(lengths)
        assert found.seconds(work) == pytest.approx(true.seconds(work), rel=0.06)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 3000), st.floats(1e-4, 10)),
        min_size=1,
        max_size=12,
    )
)
def test_more_never_costs_less_whatever_was_measured(
    measured: list[tuple[int, int, float]],
) -> None:
    found = fit([(Work.of_run([kept] * rows), seconds) for rows, kept, seconds in measured])
    assert min(found.coefficients) >= 0
    cost = model(found)
    by_kept = [cost.extract_seconds(kept, 2) for kept in (1, 10, 100, 1000, 3000)]
    by_views = [cost.extract_seconds(100, views) for views in (1, 3, 4, 5, 12)]
    assert by_kept == sorted(by_kept)
    assert by_views == sorted(by_views)


def test_views_pay_for_their_runs_and_share_turns() -> None:
    cost = model(Fit((1.0, 0.1, 0.0, 0.0, 0.0)))
    assert cost.select_seconds(1) == pytest.approx(1.1)
    assert cost.select_seconds(4) == pytest.approx(1.4), "one run of four"
    assert cost.select_seconds(12) == pytest.approx(3 + 1.2)
    two = model(Fit((1.0, 0.1, 0.0, 0.0, 0.0)), turns=2)
    assert two.select_seconds(4) == pytest.approx(1.4)
    assert two.select_seconds(8) == pytest.approx(2.8), "two runs side by side share the device"
    for _ in range(200):
        two.measured("select", Work.of_run([128] * 4), 1.4, shared=True)
    assert two.select_seconds(8) == pytest.approx(1.4, rel=0.01), "or do not, if so measured"


def test_who_comes_when_others_are_there_waits_and_shares() -> None:
    fitted = Fit((1.0, 0.0, 0.0, 0.0, 0.0))
    assert model(fitted, turns=2).until_extracted(100, 1, math.inf) == pytest.approx(1.0)
    beside = model(fitted, turns=2, busy=True)
    assert beside.until_extracted(100, 1, math.inf) == pytest.approx(2.0)
    behind = model(fitted, turns=2, busy=True, backlog=3.0)
    assert behind.until_extracted(100, 1, math.inf) == pytest.approx(5.0)
    assert behind.until_extracted(100, 1, 2.0) == pytest.approx(4.0), "what is due later waits"


def test_multiply_accumulates_stand_in_for_measurements() -> None:
    macs = Macs(
        selector=1000, extractor_fixed=100, extractor_per_token=10, extractor_per_token_pair=1
    )
    fits: dict[StageName, Fit] = {
        "select": fit_to_macs("select", macs, 1e-3),
        "extract": fit_to_macs("extract", macs, 1e-3),
    }
    cost = CostModel(
        fits, 128, lambda stage, tokens, views: views, 1, lambda due: 0.0, lambda: False
    )
    assert cost.select_seconds(3) == pytest.approx(3.0)
    assert cost.extract_seconds(20, 2) == pytest.approx(2 * (macs.at(20) - 1000) * 1e-3)


def test_predictions_follow_what_is_measured_slowly() -> None:
    cost = model(Fit((0.0, 1.0, 0.0, 0.0, 0.0)))
    work = Work.of_run([100])
    assert cost.measured("extract", work, 2.0) == 1.0, "what had been predicted"
    assert 1.0 < cost.seconds("extract", work) < 1.1
    for _ in range(200):
        cost.measured("extract", work, 2.0)
    assert cost.seconds("extract", work) == pytest.approx(2.0, rel=0.01)
    assert cost.correction("select") == 1.0, "of the other stage nothing was learnt"
    assert cost.correction("extract", shared=True) == 1.0, "nor of runs beside others"
    cost.measured("extract", work, 1000.0)
    assert cost.seconds("extract", work) < 2.2, "one that was held up says little"


def test_decoding_is_learnt_from_clips() -> None:
    decoding = DecodingCost()
    assert decoding.seconds(10**7) == 0.0
    for pixels in (10**6, 10**7, 10**8) * 10:
        decoding.measured(pixels, 0.01 + 2e-9 * pixels)
    fixed, per_megapixel = decoding.line()
    assert fixed == pytest.approx(0.01, rel=0.01)
    assert per_megapixel == pytest.approx(2e-3, rel=0.01)
    assert decoding.seconds(5 * 10**7) == pytest.approx(0.11, rel=0.01)


def test_decoding_of_one_size_says_nothing_about_a_start() -> None:
    decoding = DecodingCost()
    for seconds in (0.1, 0.11, 0.09):
        decoding.measured(10**7, seconds)
    assert decoding.line() == (pytest.approx(0, abs=1e-9), pytest.approx(0.01, rel=0.05))
    falling = DecodingCost()
    falling.measured(10**6, 1.0)
    falling.measured(10**8, 0.1)
    assert falling.line()[1] == 0
    assert falling.seconds(10**9) == pytest.approx(0.55, rel=0.05)


def test_a_clip_pays_for_its_way() -> None:
    macs = Macs(
        selector=1000, extractor_fixed=100, extractor_per_token=10, extractor_per_token_pair=1
    )
    stages: tuple[StageName, ...] = ("select", "extract")
    cost = CostModel(
        {stage: fit_to_macs(stage, macs, 1e-3) for stage in stages},
        128, lambda stage, tokens, views: views, 1, lambda due: 0.0, lambda: False,
    )  # fmt: skip
    one, other = cost.extract_seconds(20, 2), cost.extract_seconds(50, 2)
    assert cost.clip_seconds([20], 2) == pytest.approx(2.0 + one), "no clip was decoded yet"
    for seconds in (0.1, 0.3):
        cost.decoding.measured(10**6, seconds)
    assert cost.decoding.usual_seconds == pytest.approx(0.2, rel=0.02)
    usual = cost.decoding.usual_seconds
    assert cost.clip_seconds([20, 50], 2) == pytest.approx(usual + 2.0 + one + other)
    assert cost.clip_seconds([50], 2, selected=True) == pytest.approx(other)
    assert cost.clip_seconds([], 2, selected=True) == 0
