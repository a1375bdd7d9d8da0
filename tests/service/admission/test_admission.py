"""Who is let in, at what cost, and who is served sparser for the others' sake."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission.admission import Admission
from service.admission.cost import RequestCost
from service.admission.degrading import AdmissionLimits
from service.admission.reservation import Reservation
from service.admission.throughput import Throughput
from service.errors import Overloaded


def admission_of(
    max_requests: int, max_tokens: int, max_wait_seconds: float, **marks: float
) -> Admission:
    return Admission(AdmissionLimits(max_requests, max_tokens, max_wait_seconds, **marks))


def costs(*tokens: int) -> list[RequestCost]:
    return [RequestCost((count,)) for count in tokens]


def at_tokens_per_second(admission: Admission, rate: float) -> None:
    """Price tokens alone, and forget what was measured."""
    admission.throughput = Throughput()
    admission.use(lambda cost: cost.tokens / rate, RequestCost((100,)), RequestCost(()))


def fill(admission: Admission, ways: list[RequestCost]) -> list[Reservation]:
    """Admit the same request until it is refused."""
    held = []
    while True:
        try:
            held.append(admission.admit(ways))
        except Overloaded:
            return held


def test_a_full_house_is_refused_before_any_work() -> None:
    admission = admission_of(2, 1000, 60)
    with admission.admit(costs(10)), admission.admit(costs(10)):
        assert (admission.requests, admission.tokens) == (2, 20)
        with pytest.raises(Overloaded):
            admission.admit(costs(1))
    assert (admission.requests, admission.tokens) == (0, 0)


def test_tokens_bound_what_is_in_flight() -> None:
    admission = admission_of(10, 100, 60)
    with admission.admit(costs(60)):
        with pytest.raises(Overloaded) as caught:
            admission.admit(costs(41))
        assert caught.value.reason == "tokens"
        with admission.admit(costs(40)):
            assert admission.tokens == 100


def test_a_request_larger_than_the_bound_is_served_when_alone() -> None:
    admission = admission_of(10, 100, 60)
    with admission.admit(costs(500)), pytest.raises(Overloaded):
        admission.admit(costs(1))


def test_retry_after_is_when_what_is_before_will_be_answered() -> None:
    admission = admission_of(1, 10_000, 60)
    at_tokens_per_second(admission, 100)
    with admission.admit(costs(730)), pytest.raises(Overloaded) as caught:
        admission.admit(costs(1))
    assert caught.value.headers["retry-after"] == "8"
    assert caught.value.reason == "requests"


def test_what_would_wait_longer_than_its_deadline_is_refused() -> None:
    admission = admission_of(10, 10_000, 5)
    at_tokens_per_second(admission, 100)
    with admission.admit(costs(450)):
        with pytest.raises(Overloaded) as caught:
            admission.admit(costs(51))
        assert caught.value.reason == "wait"
        with admission.admit(costs(50)):
            assert admission.requests == 2
            assert admission.wait_seconds == pytest.approx(5)
    with admission.admit(costs(501)):
        assert admission.requests == 1, "nothing is before it, so that it may be answered in time"


def test_small_requests_get_in_no_easier_than_a_large_one() -> None:
    admission = admission_of(100, 100_000, 5)
    at_tokens_per_second(admission, 100)

    admission.use(admission.price, RequestCost((100,)), large=RequestCost((80,)))
    held = fill(admission, costs(8))
    assert admission.wait_seconds == pytest.approx(5 - 0.8, abs=0.08)
    with pytest.raises(Overloaded) as caught:
        admission.admit(costs(80))
    assert caught.value.reason == "wait"
    held.pop().__exit__(None, None, None)
    with admission.admit(costs(80)):
        pass
    for reservation in held:
        reservation.__exit__(None, None, None)

    admission.use(admission.price, RequestCost((100,)), large=RequestCost((1000,)))
    fill(admission, costs(8))
    # No more than a quarter of the wait is left for what hardly fits at all.
    assert admission.wait_seconds == pytest.approx(5 - 1.25, abs=0.08)


def test_what_is_kept_for_large_requests_is_no_room_that_degrading_waits_for() -> None:
    admission = admission_of(100, 100_000, 5, degrade_from_load=0.5, degrade_full_load=1.0)
    at_tokens_per_second(admission, 100)
    admission.use(admission.price, RequestCost((100,)), large=RequestCost((100,)))
    held = fill(admission, costs(10, 5))
    assert (held[0].way, held[-1].way) == (0, 1)
    assert admission.load == (pytest.approx(1, abs=0.02), "wait")

    # Who is in already may take all of it.
    held[0].decide_again(costs(30))
    assert held[0].tokens == 30


def test_a_reservation_changes_its_tokens_or_keeps_those_it_had() -> None:
    admission = admission_of(10, 100, 60)
    with admission.admit(costs(50)) as first, admission.admit(costs(10)):
        first.decide_again(costs(90))
        assert admission.tokens == 100
        with pytest.raises(Overloaded):
            first.decide_again(costs(91))
        assert admission.tokens == 100
        first.decide_again(costs(5))
        assert admission.tokens == 15
    assert admission.tokens == 0


def test_the_pace_follows_what_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("service.admission.admission.time.monotonic", lambda: now)
    admission = admission_of(10, 10_000, 60)
    at_tokens_per_second(admission, 50)
    for _ in range(120):
        with admission.admit(costs(100)) as reservation:
            now += 5.0  # an upload is the client's time
            reservation.begin()
            now += 0.5
            reservation.answered(100)
    assert admission.throughput.tokens_per_second == pytest.approx(200, rel=0.01)
    assert admission.throughput.seconds(1) == pytest.approx(0.25, rel=0.01)
    with admission.admit(costs(100)) as reservation:
        reservation.begin()
        now += 0.5  # refused by the decoder, alone: says nothing about the throughput
    assert admission.throughput.tokens_per_second == pytest.approx(200, rel=0.01)
    for _ in range(120):
        with admission.admit(costs(100)) as reservation:
            reservation.begin()
            with admission.admit(costs(1)) as refused:
                refused.begin()
                now += 0.5  # but the time that others take, others wait
            now += 0.5
            reservation.answered(100)
    assert admission.throughput.tokens_per_second == pytest.approx(100, rel=0.01)


def test_the_wait_is_told_rightly_of_a_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse requests are mostly decoding: tokens alone would say nothing about the dense ones."""
    random = np.random.default_rng(0)
    now = 0.0
    monkeypatch.setattr("service.admission.admission.time.monotonic", lambda: now)
    admission = admission_of(10_000, 10**9, 10**9)
    admission.use(
        lambda cost: 0.02 * cost.views + cost.tokens / 10_000, RequestCost((100,)), RequestCost(())
    )
    queue = [admission.admit(costs(50))]
    queue[0].begin()
    ratios = []
    for _ in range(2000):
        while len(queue) < 20:
            queue.append(admission.admit(costs(int(random.choice([50, 100, 1000])))))
            queue[-1].begin()
        held = [reservation.seconds for reservation in queue]
        ratios.append(admission.wait_seconds / (1.5 * sum(held)))
        with queue.pop(0) as first:  # one after the other, in a time that scatters
            now += 1.5 * first.seconds * random.exponential()
            first.answered(first.tokens)
    assert np.median(ratios[200:]) == pytest.approx(1, abs=0.05)
    assert np.percentile(np.abs(np.log(ratios[200:])), 90) < np.log(1.6)


def test_between_the_marks_each_way_gets_an_equal_part() -> None:
    ways = costs(100, 50, 25, 10)
    chosen = {}
    for held in (0, 490, 510, 590, 610, 690, 710, 790, 810, 880, 890):
        admission = admission_of(99, 1000, 60, degrade_from_load=0.5, degrade_full_load=0.9)
        with admission.admit(costs(held)), admission.admit(ways) as reservation:
            chosen[held] = (reservation.way, reservation.degraded_by)
            assert admission.tokens == held + ways[reservation.way].tokens
    assert chosen == {
        0: (0, None), 490: (0, None), 510: (0, None), 590: (0, None),
        610: (1, "tokens"), 690: (1, "tokens"), 710: (2, "tokens"), 790: (2, "tokens"),
        810: (3, "tokens"), 880: (3, "tokens"), 890: (3, "tokens"),
    }  # fmt: skip


def test_no_refusal_until_the_cheapest_way_is_full() -> None:
    admission = admission_of(10_000, 1000, 60)
    served: list[int] = []
    held = []
    while admission.tokens <= 1000 - 10:
        held.append(admission.admit(costs(100, 50, 10)))
        served.append(held[-1].way)
    with pytest.raises(Overloaded):
        admission.admit(costs(100, 50, 10))
    assert served == sorted(served), "never better than those before while nobody leaves"
    assert set(served) == {0, 1, 2}
    for reservation in held:
        with reservation:
            pass
    assert (admission.requests, admission.tokens) == (0, 0)


def test_one_that_may_not_be_degraded_is_refused_while_others_get_in() -> None:
    admission = admission_of(99, 1000, 60)
    with admission.admit(costs(950)):
        with pytest.raises(Overloaded):
            admission.admit(costs(100))
        with admission.admit(costs(100, 40)) as reservation:
            assert (reservation.way, reservation.degraded_by) == (1, "tokens")


def test_slots_and_waiting_press_as_tokens_do() -> None:
    admission = admission_of(10, 1_000_000, 60)
    held = [admission.admit(costs(1)) for _ in range(9)]
    with admission.admit(costs(100, 10)) as reservation:
        assert (reservation.way, reservation.degraded_by) == (1, "requests")
    assert len(held) == 9

    admission = admission_of(99, 1_000_000, 60)
    at_tokens_per_second(admission, 100)
    with admission.admit(costs(5400)):
        assert admission.load == (0.9, "wait")
        with admission.admit(costs(100, 10)) as reservation:
            assert (reservation.way, reservation.degraded_by) == (1, "wait")


def test_it_is_decided_again_by_what_is_there_then() -> None:
    admission = admission_of(99, 1000, 60)
    others = admission.admit(costs(900))
    with admission.admit(costs(100, 10)) as reservation:
        assert (reservation.way, admission.tokens) == (1, 910)
        with others:
            pass
        reservation.decide_again(costs(100, 10))
        assert (reservation.way, reservation.degraded_by, admission.tokens) == (0, None, 100)
        with admission.admit(costs(890)):
            reservation.decide_again(costs(100, 10))
            assert (reservation.way, reservation.degraded_by) == (1, "tokens")


def test_what_was_admitted_is_not_refused_later() -> None:
    """The rate may fall meanwhile; tokens that are held go on being held."""
    admission = admission_of(99, 1000, 5)
    at_tokens_per_second(admission, 1000)
    with admission.admit(costs(400)), admission.admit(costs(400)) as reservation:
        admission.throughput.measured(passed=1000, priced=1, tokens=1000)
        with pytest.raises(Overloaded):
            admission.admit(costs(1))
        reservation.decide_again(costs(400))
        with pytest.raises(Overloaded):
            reservation.decide_again(costs(401))
        assert admission.tokens == 800


def test_what_is_not_needed_is_given_back() -> None:
    admission = admission_of(99, 1000, 60)
    with admission.admit(costs(600)) as reservation:
        reservation.shrink(RequestCost((50,)))
        assert admission.tokens == 50
        reservation.shrink(RequestCost((70,)))
        assert admission.tokens == 50, "it never grows by shrinking"
    assert admission.tokens == 0


def test_what_is_done_before_the_end_counts_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("service.admission.admission.time.monotonic", lambda: now)
    admission = admission_of(99, 10_000, 60)
    at_tokens_per_second(admission, 100)
    for _ in range(120):
        with admission.admit(costs(900)) as reservation:
            reservation.begin()
            reservation.shrink(RequestCost((600,)))  # it turns out that no more are needed
            for left in ((200,), ()):
                now += 1.0
                reservation.advance(RequestCost(left))
                assert admission.tokens == sum(left)
            reservation.answered(600)
    assert admission.throughput.seconds(6) == pytest.approx(2, rel=0.01)
    assert admission.throughput.tokens_per_second == pytest.approx(300, rel=0.01)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 200), min_size=1, max_size=4, unique=True),
            st.sampled_from(["stay", "leave", "again", "shrink"]),
        ),
        max_size=60,
    )
)
def test_the_bounds_hold_whatever_comes(events: list[tuple[list[int], str]]) -> None:
    admission = admission_of(8, 500, 60)
    inside = []
    for ways, then in events:
        most, least = max(ways), min(ways)
        try:
            reservation = admission.admit(costs(*sorted(ways, reverse=True)))
        except Overloaded:
            # Then even the cheapest finds no room, or no slot.
            assert admission.requests == 8 or admission.tokens + least > 500
            continue
        if then == "leave":
            with reservation:
                pass
            continue
        inside.append(reservation)
        if then == "again":
            reservation.decide_again(costs(most if reservation.way == 0 else least))
        if then == "shrink":
            reservation.shrink(RequestCost((least // 2,)))
        assert admission.tokens == sum(held.tokens for held in inside) <= 500
        assert admission.requests == len(inside) <= 8


def test_a_price_that_rises_changes_nothing_in_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding has a price only after clips were decoded; the throughput knows of it before."""
    now, decoding = 0.0, 0.0
    monkeypatch.setattr("service.admission.admission.time.monotonic", lambda: now)
    admission = admission_of(100, 10**6, 60)
    admission.use(lambda cost: decoding + cost.tokens / 5000, RequestCost((100,)), RequestCost(()))
    queue: list[Reservation] = []
    for _ in range(300):
        while len(queue) < 32:
            queue.append(admission.admit(costs(100)))
            queue[-1].begin()
        with queue.pop(0) as first:
            now += 0.52
            decoding = 0.5
            first.answered(100)
        assert admission.wait_seconds < 1.1 * 32 * 0.52
    assert admission.wait_seconds == pytest.approx(31 * 0.52, rel=0.01)


def test_what_keeps_from_the_best_way_is_told() -> None:
    admission = admission_of(99, 1_000_000, 60)
    at_tokens_per_second(admission, 100)
    with admission.admit(costs(600)):
        with admission.admit(costs(5800, 1000)) as reservation:
            assert (reservation.way, reservation.degraded_by) == (1, "wait")
        with pytest.raises(Overloaded) as caught:
            admission.admit(costs(5800, 5700))
        assert caught.value.reason == "wait"


def test_fewer_tokens_of_more_views_are_no_less() -> None:
    admission = admission_of(99, 1_000_000, 10)
    admission.use(
        lambda cost: cost.views + cost.tokens / 1000, RequestCost((1000,)), RequestCost(())
    )
    with admission.admit(costs(4000)), admission.admit(costs(1000)) as reservation:
        with pytest.raises(Overloaded) as caught:
            reservation.decide_again([RequestCost((75,), views=12)])
        assert caught.value.reason == "wait"
        assert (admission.requests, admission.tokens) == (2, 5000)
        reservation.decide_again(costs(900))
        assert admission.tokens == 4900
