"""Sparsity asked to tokens kept; who is let in; how parameters are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.sampling import Views
from bundle.tokens import tokens_to_keep
from service import parameters
from service.admission import Admission
from service.errors import (
    ConflictingParameter,
    InvalidParameter,
    Overloaded,
    UnknownParameter,
)
from service.policy import SparsityPolicy
from service.settings import Settings

LEVELS = Settings.model_fields["sparsity_levels"].default


def test_asked_is_rounded_to_the_level_that_is_not_sparser() -> None:
    policy = SparsityPolicy(LEVELS, tokens=1000, default=0.7)
    assert policy.decide(0.93).used == 0.925
    assert policy.decide(0.94999).used == 0.925
    assert policy.decide(0.95).used == 0.95
    assert policy.decide(0.3 + 0.6).used == 0.9  # 0.8999999999999999
    assert policy.decide(0.05).used == 0.0
    assert policy.decide(0.0).kept == 1000
    assert policy.decide(0.95).kept == 50


def test_nobody_asking_means_the_bundles_default() -> None:
    decision = SparsityPolicy(LEVELS, tokens=1000, default=0.72).decide(None)
    assert (decision.asked, decision.used, decision.kept) == (None, 0.7, 300)


@given(st.floats(0, 0.99))
def test_never_fewer_tokens_than_asked_for(asked: float) -> None:
    decision = SparsityPolicy(LEVELS, tokens=3136, default=0.7).decide(asked)
    assert decision.kept >= tokens_to_keep(asked, 3136)


@given(st.floats(0, 0.99))
def test_without_levels_every_sparsity_is_exact(asked: float) -> None:
    decision = SparsityPolicy((), tokens=3136, default=0.7).decide(asked)
    assert decision.used == asked
    assert decision.kept == tokens_to_keep(asked, 3136)


def test_a_full_house_is_refused_before_any_work() -> None:
    admission = Admission(max_requests=2, max_tokens=1000, max_wait_seconds=60)
    with admission.admit(10), admission.admit(10):
        assert (admission.requests, admission.tokens) == (2, 20)
        with pytest.raises(Overloaded):
            admission.admit(1)
    assert (admission.requests, admission.tokens) == (0, 0)


def test_tokens_bound_what_is_in_flight() -> None:
    admission = Admission(max_requests=10, max_tokens=100, max_wait_seconds=60)
    with admission.admit(60):
        with pytest.raises(Overloaded):
            admission.admit(41)
        with admission.admit(40):
            assert admission.tokens == 100


def test_a_request_larger_than_the_bound_is_served_when_alone() -> None:
    admission = Admission(max_requests=10, max_tokens=100, max_wait_seconds=60)
    with admission.admit(500), pytest.raises(Overloaded):
        admission.admit(1)


def test_retry_after_is_queued_tokens_by_tokens_per_second() -> None:
    admission = Admission(max_requests=1, max_tokens=10_000, max_wait_seconds=60)
    admission.seed(tokens_per_second=100)
    with admission.admit(730), pytest.raises(Overloaded) as caught:
        admission.admit(1)
    assert caught.value.headers["retry-after"] == "8"


def test_what_would_wait_longer_than_its_deadline_is_refused() -> None:
    admission = Admission(max_requests=10, max_tokens=10_000, max_wait_seconds=5)
    admission.seed(tokens_per_second=100)
    with admission.admit(501), pytest.raises(Overloaded):
        admission.admit(1)
    with admission.admit(499), admission.admit(1):
        assert admission.requests == 2


def test_a_reservation_changes_its_tokens_or_keeps_those_it_had() -> None:
    admission = Admission(max_requests=10, max_tokens=100, max_wait_seconds=60)
    with admission.admit(50) as first, admission.admit(10):
        first.resize(90)
        assert admission.tokens == 100
        with pytest.raises(Overloaded):
            first.resize(91)
        assert admission.tokens == 100
        first.resize(5)
        assert admission.tokens == 15
    assert admission.tokens == 0


def test_the_rate_follows_what_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("service.admission.time.monotonic", lambda: now)
    admission = Admission(max_requests=10, max_tokens=10_000, max_wait_seconds=60)
    for _ in range(40):
        with admission.admit(100) as reservation:
            now += 5.0  # an upload is the client's time
            reservation.begin()
            now += 0.5
            reservation.answered()
    assert admission.tokens_per_second == pytest.approx(200, rel=0.01)
    with admission.admit(100) as reservation:
        reservation.begin()
        now += 0.5  # refused by the decoder: says nothing about the rate
    assert admission.tokens_per_second == pytest.approx(200, rel=0.01)


def test_parameters_have_defaults() -> None:
    read = parameters.parse({}, "4x3", max_views=12)
    assert (read.sparsity, read.top, read.views) == (None, 5, Views(4, 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("sparsity", text) for text in ("", "nan", "inf", "-0.1", "0.991", "1", "0_5", "٠.٥", "x",
                                          " 0.5", "1e400", "0x1p-1")],
        *[("top", text) for text in ("", "0", "-1", "1.5", "1001", "1_0", "٣", "9" * 50)],
        *[("views", text) for text in ("", "1", "0x1", "1x2", "5x3", "13x1", "1X1", "1x1x1",
                                       "999x3", "1x1\n")],
    ],
)  # fmt: skip
def test_bad_values_name_the_parameter_and_the_limit(name: str, value: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parameters.parse({name: value}, "1x1", max_views=12)
    assert caught.value.members["field"] == name
    assert caught.value.members["limit"]


@pytest.mark.parametrize("text", ["0", "0.99", ".5", "9e-1", "0.123456789"])
def test_sparsity_is_a_decimal_number(text: str) -> None:
    assert parameters.parse({"sparsity": text}, "1x1", 12).sparsity == float(text)


def test_the_same_twice_is_no_conflict() -> None:
    assert parameters.collect([("top", "3"), ("top", "3")]) == {"top": "3"}
    with pytest.raises(ConflictingParameter):
        parameters.collect([("top", "3"), ("top", "4")])
    with pytest.raises(UnknownParameter):
        parameters.collect([("sparcity", "0.5")])
