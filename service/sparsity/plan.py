"""What a request may cost, before its clip is known: what admission reserves and may shrink."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from service.admission.cost import RequestCost
from service.errors import ContradictoryParameters, InvalidParameter
from service.sparsity.levels import Level, SparsityPolicy, ladder
from service.sparsity.loss import Loss, sparsest_within
from service.sparsity.parameters import (
    AUTO,
    HIGHEST_SPARSITY,
    ChoiceParameters,
    ClipParameters,
    ExplainParameters,
    SweepParameters,
)

RuleName = Literal["fixed", "auto", "cascade"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The levels that a classification may be served at.

    Attributes:
        asked: the request's parameters.
        rule: what chooses among the steps.
        steps: densest first; what there is to choose from while nothing presses. A fixed sparsity
            without a budget has one.
        ceilings: densest first, from ``steps[0]`` on: to what the densest may be lowered while
            there is much to do. One when the request may not be served sparser for that.
        loss: by which ``max_loss`` chose, if that was asked for.
    """

    asked: ChoiceParameters
    rule: RuleName
    steps: tuple[Level, ...]
    ceilings: tuple[Level, ...]
    loss: Loss | None = None

    @property
    def explicit(self) -> bool:
        """A sparsity was asked for, `auto` or ``max_loss``: a sparser one for the budget is less
        than that."""
        return self.asked.sparsity is not None or self.loss is not None

    @property
    def coverage(self) -> float | None:
        """Share of the selector's mass that `auto` has to reach, otherwise None."""
        return self.asked.wanted_coverage

    @property
    def budget_seconds(self) -> float | None:
        """Seconds from the clip's arrival to the answer; None without a budget."""
        return None if self.asked.budget_ms is None else self.asked.budget_ms / 1000

    def under(self, ceiling: Level) -> tuple[Level, ...]:
        """The steps that keep at most as many tokens as the ceiling, or the ceiling itself."""
        return tuple(step for step in self.steps if step.kept <= ceiling.kept) or (ceiling,)

    @property
    def choices(self) -> frozenset[int]:
        """Every K that a look may have."""
        return frozenset(level.kept for level in (*self.steps, *self.ceilings))

    @property
    def costs(self) -> tuple[RequestCost, ...]:
        """What has to be reserved under each ceiling, best first; see :meth:`Admission.admit`.

        A cascade may have to go through its whole ladder.
        """
        if self.rule == "cascade":
            of_view = [
                tuple(step.kept for step in ladder(self.under(ceiling)))
                for ceiling in self.ceilings
            ]
        else:
            of_view = [(self.under(ceiling)[0].kept,) for ceiling in self.ceilings]
        return tuple(_cost(self.asked, kept) for kept in of_view)


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The levels that a sweep looks at.

    Attributes:
        asked: the request's parameters.
        levels: by the sparsity asked for, in that order.
        coverage, budget_seconds: as in :class:`Plan`; a sweep has neither.
    """

    asked: ClipParameters
    levels: Mapping[float, Level]
    coverage: None = None
    budget_seconds: None = None

    @property
    def kept(self) -> tuple[int, ...]:
        """Tokens of one view in each look, densest first. Sparsities may share a level."""
        return tuple(sorted(self.choices, reverse=True))

    @property
    def choices(self) -> frozenset[int]:
        """Every K that a look has."""
        return frozenset(level.kept for level in self.levels.values())

    @property
    def costs(self) -> tuple[RequestCost, ...]:
        """What has to be reserved; a sweep has one way to be served."""
        return (_cost(self.asked, self.kept),)


def _cost(asked: ClipParameters, kept: tuple[int, ...]) -> RequestCost:
    return RequestCost(kept, asked.views.count, encodes=asked.drawing is not None)


def plan_sweep(policy: SparsityPolicy, asked: SweepParameters) -> SweepPlan:
    """What a sweep costs: each sparsity is looked at on its level."""
    return _plan_levels(policy, asked, asked.sparsities)


def _plan_levels(
    policy: SparsityPolicy, asked: ClipParameters, sparsities: Sequence[float]
) -> SweepPlan:
    return SweepPlan(asked, {sparsity: policy.level(sparsity) for sparsity in sparsities})


def plan_explanation(
    policy: SparsityPolicy, asked: ExplainParameters, degrade_to: float | None
) -> Plan | SweepPlan:
    """What an explanation costs: that of a sweep where sparsities are listed, otherwise that of a
    classification; raises as :func:`plan_classification` does."""
    if asked.sparsities is not None:
        return _plan_levels(policy, asked, asked.sparsities)
    return plan_classification(policy, asked, degrade_to)


def plan_classification(
    policy: SparsityPolicy, asked: ChoiceParameters, degrade_to: float | None
) -> Plan:
    """What a classification may cost.

    - a sparsity alone is served at its level, and so is the one that ``max_loss`` chooses;
    - `auto` chooses within the trained range;
    - a cascade and a budget choose from the sparsest level that was trained (or the sparsity that
      was asked for, if that is sparser) to the sparsity that was asked for, or else to the densest
      that was trained: an explicit sparsity is the densest that is allowed;
    - ``max_sparsity`` bounds all of them, and is how far a request may be degraded. Without it,
      requests that are not strict may be degraded to the service's own bound.

    Args:
        degrade_to: the service's own bound on degrading, None when it degrades nobody unasked.

    Raises:
        InvalidParameter: `auto`, of a selector whose scores do not say what a token is worth, as a
            sparsity or for the windows of a timeline;
            ``max_loss``, of a bundle of which nothing was measured.
        ContradictoryParameters: ``max_sparsity`` is denser than what is asked for.
    """
    if asked.sparsity == AUTO and not policy.weighs:
        limit = f"a number from 0 to {HIGHEST_SPARSITY} (auto needs a selector that was trained)"
        raise InvalidParameter("sparsity", AUTO, limit)
    if asked.proposes and not policy.weighs:
        limit = "all (auto needs a selector that was trained)"
        raise InvalidParameter("windows", AUTO, limit)
    rule: RuleName = "fixed"
    if asked.cascade:
        rule = "cascade"
    elif asked.sparsity == AUTO:
        rule = "auto"
    chooses = rule != "fixed" or asked.budget_ms is not None
    loss = None
    if asked.max_loss is not None:
        if not policy.losses:
            limit = "nothing, because this bundle's accuracy was not measured; ask for a sparsity"
            raise InvalidParameter("max_loss", f"{asked.max_loss:g}", limit)
        loss = sparsest_within(policy.losses, asked.max_loss)
    if loss is not None:
        densest = policy.level(loss.sparsity)
    elif isinstance(asked.sparsity, float):
        densest = policy.level(asked.sparsity)
    else:
        densest = policy.lowest if chooses else policy.default
    most = None if asked.max_sparsity is None else policy.level(asked.max_sparsity)
    if most is not None and most.kept > densest.kept:
        raise ContradictoryParameters(
            "max_sparsity",
            "sparsity",
            f"max_sparsity {asked.max_sparsity:g} is less than the sparsity {densest.sparsity:g} "
            + _origin(asked, chooses),
        )
    sparsest = _sparser(densest, policy.highest) if chooses else densest
    if most is not None and most.kept > sparsest.kept:
        sparsest = most
    floor = densest
    if most is not None:
        floor = most
    elif degrade_to is not None and not asked.strict:
        floor = _sparser(densest, policy.level(degrade_to))
    return Plan(
        asked,
        rule,
        steps=policy.between(densest, sparsest),
        ceilings=policy.between(densest, floor),
        loss=loss,
    )


def _origin(asked: ChoiceParameters, chooses: bool) -> str:
    """Where the densest level of a plan comes from, in words for the caller."""
    if isinstance(asked.sparsity, float):
        return "asked for"
    if asked.max_loss is not None:
        return "that max_loss allows"
    return "from which on the service chooses" if chooses else "of requests that name none"


def _sparser(one: Level, other: Level) -> Level:
    return one if one.kept <= other.kept else other
