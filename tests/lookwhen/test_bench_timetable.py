"""How a measurement divides its time, and what it says of what it measured."""

import pytest

from lookwhen.bench.asking import BenchError
from lookwhen.bench.measuring import STAGES, Count, Level, Turn
from lookwhen.bench.result import recorded, row
from lookwhen.bench.timetable import MOST_TURNS, Pace, least_seconds, slots, turns
from service.http.model_schemas import AccuracyAnswer

SLOW, FAST = Pace(latency=0.1, rate=10.0, callers=5), Pace(latency=0.02, rate=50.0, callers=5)
LEAST = (0.1 + 2 * 0.5) + (0.02 + 2 * 0.1) + 0.5


def test_a_sparsity_takes_a_clip_alone_and_two_rounds_of_all_callers() -> None:
    assert SLOW.round_seconds == pytest.approx(0.5)
    # and the last one's callers wait for what is under way
    assert least_seconds([SLOW, FAST]) == pytest.approx(LEAST)


def test_more_time_is_more_turns_up_to_a_dozen() -> None:
    paces = {0.0: SLOW, 0.9: FAST}
    for fit, planned in ((1, 1), (2, 2), (3, 3), (8, 3), (9, 3), (12, 4)):
        assert turns(fit * LEAST + 0.01, paces) == planned
    assert turns(10_000, paces) == MOST_TURNS


def test_too_little_time_says_how_much_is_lacking() -> None:
    with pytest.raises(BenchError, match=r"^1 seconds are left, and one turn of 2 sparsities takes "
                       r"2 .* give 5 more --seconds for 3 turns, or fewer"):  # fmt: skip
        turns(1.0, {0.0: SLOW, 0.9: FAST})


@pytest.mark.parametrize("seconds", [4.0, 12.0, 60.0])
def test_slots_fill_a_turn(seconds: float) -> None:
    paces = {0.0: SLOW, 0.9: FAST}
    planned = slots(seconds, 3, paces)
    # What a slot does not name: the first clip alone, the first answer of each caller, the last.
    besides = sum(pace.latency + pace.round_seconds for pace in paces.values())
    besides += SLOW.round_seconds
    used = sum(slot.alone + slot.counted for slot in planned.values())
    assert used + besides == pytest.approx(max(seconds / 3, LEAST))
    # Whatever is beyond the least is shared alike.
    assert planned[0.0].alone == pytest.approx(planned[0.9].alone)
    assert all(slot.counted >= pace.round_seconds for slot, pace in
               zip(planned.values(), paces.values(), strict=True))  # fmt: skip


def level(used: float, factor: float) -> Level:
    """Two turns, of which the second was ten times as slow."""
    answer = {
        "sparsity": {"used": used, "within_range": True},
        "tokens": {"kept": 102}, "macs": 7,
    }  # fmt: skip
    made = Level(used, answer, Pace(0.1, 10.0, 4))
    for slower in (1.0, 10.0):
        seconds = factor * slower
        stages = {stage: [seconds / 2] * 3 for stage in STAGES}
        count = Count(round(100 / factor / slower), 2.0)
        made.turns.append(Turn([seconds, 2 * seconds, seconds], stages, count))
    return made


def test_ratios_are_those_of_the_same_turn() -> None:
    dense, sparse = level(0.0, 1.0), level(0.9, 0.25)
    said = row(sparse, dense, point(0.9, "fp32", 0.97))
    alone, busy = said["one_caller"], said["all_callers"]
    assert alone["times_faster"] == {"median": 4.0, "low": 4.0, "high": 4.0}
    assert busy["times_throughput"] == {"median": 4.0, "low": 4.0, "high": 4.0}
    assert alone["clips"] == 6
    assert alone["latency_seconds"]["median"] == pytest.approx((0.5 + 2.5) / 2)
    assert alone["latency_seconds"]["p95"] == 5.0
    assert busy["clips"] == 400 + 40
    assert busy["clips_per_second"] == pytest.approx({"median": 110, "low": 65, "high": 155})
    assert alone["stages_seconds"]["decode"]["low"] == pytest.approx(0.125)
    assert said["accuracy"]["top1"] == 0.97


def point(sparsity: float, precision: str, top1: float) -> AccuracyAnswer:
    return AccuracyAnswer(
        sparsity=sparsity, top1=top1, top5=None, clips=1800, precision=precision,
        agreement=None, folds=None,
    )  # fmt: skip


def test_accuracy_is_that_of_the_precision_that_is_served() -> None:
    points = [point(0.9, "fp32", 0.97), point(0.9, "int8", 0.95), point(0.5, "fp32", 0.98)]
    for precision, top1 in (("int8", 0.95), ("fp32", 0.97), ("bf16", 0.97)):
        found = recorded(points, 0.9, precision)
        assert found is not None
        assert found.top1 == top1
    # Of what was not measured nothing is said, however near the neighbours are.
    assert recorded(points, 0.7, "fp32") is None
