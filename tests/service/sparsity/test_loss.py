"""What sparsity was measured to cost, and the level that ``max_loss`` chooses by it."""

import pytest

from bundle.schema import AccuracyPoint, Precision, SparsityRange
from service.errors import ContradictoryParameters, InvalidParameter
from service.settings import DEFAULT_LEVELS
from service.sparsity.levels import SparsityPolicy
from service.sparsity.loss import losses, sparsest_within
from service.sparsity.parameters import Parameters
from service.sparsity.plan import Plan, plan_classification


def points(
    *measured: tuple[float, float], precision: Precision = "fp32", clips: int = 1000
) -> list[AccuracyPoint]:
    return [
        AccuracyPoint(sparsity=sparsity, top1=top1, clips=clips, precision=precision)
        for sparsity, top1 in measured
    ]


MEASURED = points((0.95, 0.90), (0.0, 0.93), (0.5, 0.95), (0.9, 0.94), (0.98, 0.70))


def planned(known: list[AccuracyPoint], degrade_to: float | None = None, **asked: object) -> Plan:
    policy = SparsityPolicy(
        DEFAULT_LEVELS, DEFAULT_LEVELS, 1000, SparsityRange(lowest=0.7, highest=0.95, default=0.9),
        losses=losses(known, "fp32"),
    )  # fmt: skip
    return plan_classification(policy, Parameters(**asked), degrade_to)  # type: ignore[arg-type]


def test_losses_are_against_the_best_with_their_interval() -> None:
    found = losses(MEASURED, "fp32")
    assert [loss.sparsity for loss in found] == [0.0, 0.5, 0.9, 0.95, 0.98]
    assert [round(loss.points, 6) for loss in found] == [2, 0, 1, 5, 25]
    best, near = found[1], found[2]
    assert (best.low, best.high) == (0, 0)
    # The interval of two proportions, 0.95 and 0.94 of 1000 each.
    assert near.high - near.points == pytest.approx(2.0, abs=0.02)
    assert near.low == pytest.approx(1 - 2.0, abs=0.02)


def test_of_two_that_are_best_the_sparser_is() -> None:
    assert sparsest_within(losses(points((0.5, 0.9), (0.9, 0.9)), "fp32"), 0).sparsity == 0.9


def test_each_precision_has_its_own_and_float32_stands_in() -> None:
    both = [*MEASURED, *points((0.5, 0.9), (0.9, 0.8), precision="int8")]
    assert [loss.points for loss in losses(both, "int8")] == pytest.approx([0, 10])
    assert len(losses(both, "fp16")) == 5
    assert losses(points((0.5, 0.9), precision="int8"), "fp32") == ()


@pytest.mark.parametrize(
    ("most", "level"), [(0, 0.5), (0.99, 0.5), (1, 0.9), (4.99, 0.9), (5, 0.95), (100, 0.98)]
)
def test_the_sparsest_that_loses_no_more_is_served(most: float, level: float) -> None:
    plan = planned(MEASURED, max_loss=most)
    assert [step.sparsity for step in plan.steps] == [level]
    assert plan.loss is not None
    assert plan.loss.points <= most
    assert plan.explicit


def test_a_budget_and_a_busy_service_may_go_sparser() -> None:
    assert planned(MEASURED, max_loss=1, budget_ms=10.0).steps[-1].sparsity == 0.95
    assert planned(MEASURED, degrade_to=0.95, max_loss=1).ceilings[-1].sparsity == 0.95
    assert len(planned(MEASURED, degrade_to=0.95, max_loss=1, strict=True).ceilings) == 1


def test_what_was_not_measured_is_not_promised() -> None:
    with pytest.raises(InvalidParameter) as error:
        planned([], max_loss=2)
    assert error.value.members["field"] == "max_loss"
    assert "accuracy was not measured" in error.value.detail


@pytest.mark.parametrize("other", [{"sparsity": 0.5}, {"sparsity": "auto"}, {"cascade": True}])
def test_it_is_asked_for_alone(other: dict[str, object]) -> None:
    with pytest.raises(ContradictoryParameters, match="max_loss"):
        planned(MEASURED, max_loss=2, **other)
    with pytest.raises(ContradictoryParameters, match="that max_loss allows"):
        planned(MEASURED, max_loss=5, max_sparsity=0.5)
