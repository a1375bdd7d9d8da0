"""What a request may cost, before its clip is known: what admission reserves and may shrink."""

from dataclasses import dataclass
from typing import Literal

from service.admission.admission import Cost
from service.errors import ContradictoryParameters
from service.pipeline.parameters import AUTO, Parameters
from service.sparsity.levels import Level, SparsityPolicy, ladder

Rule = Literal["fixed", "auto", "cascade"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The levels that a request may be served at.

    Attributes:
        rule: what chooses among the steps.
        steps: densest first; what there is to choose from while nothing presses. A fixed sparsity
            without a budget has one.
        ceilings: densest first, from ``steps[0]`` on: to what the densest may be lowered while
            there is much to do. One when the request may not be served sparser for that.
        views: of the clip; all of them get the same level.
    """

    rule: Rule
    steps: tuple[Level, ...]
    ceilings: tuple[Level, ...]
    views: int

    def under(self, ceiling: Level) -> tuple[Level, ...]:
        """The steps that keep at most as many tokens as the ceiling, or the ceiling itself."""
        return tuple(step for step in self.steps if step.kept <= ceiling.kept) or (ceiling,)

    @property
    def costs(self) -> tuple[Cost, ...]:
        """At most, under each ceiling: what has to be reserved.

        A cascade may have to go through its whole ladder.
        """
        if self.rule == "cascade":
            of_view = [
                tuple(step.kept for step in ladder(self.under(ceiling)))
                for ceiling in self.ceilings
            ]
        else:
            of_view = [(self.under(ceiling)[0].kept,) for ceiling in self.ceilings]
        return tuple(Cost(kept, self.views) for kept in of_view)


def plan(policy: SparsityPolicy, asked: Parameters, degrade_to: float | None) -> Plan:
    """What a classification may cost.

    - a sparsity alone is served at its level;
    - `auto` chooses within the trained range;
    - a cascade and a budget choose from the sparsest level that was trained (or the sparsity that
      was asked for, if that is sparser) to the sparsity that was asked for, or else to the densest
      that was trained: an explicit sparsity is the densest that is allowed;
    - ``max_sparsity`` bounds all of them, and is how far a request may be degraded. Without it,
      requests that are not strict may be degraded to the service's own bound.

    Args:
        degrade_to: the service's own bound on degrading, None when it degrades nobody unasked.

    Raises:
        ContradictoryParameters: ``max_sparsity`` is denser than what is asked for.
    """
    rule: Rule = "fixed"
    if asked.margin is not None:
        rule = "cascade"
    elif asked.sparsity == AUTO:
        rule = "auto"
    chooses = rule != "fixed" or asked.budget_ms is not None
    if isinstance(asked.sparsity, float):
        densest = policy.level(asked.sparsity)
    else:
        densest = policy.lowest if chooses else policy.default
    most = None if asked.max_sparsity is None else policy.level(asked.max_sparsity)
    if most is not None and most.kept > densest.kept:
        raise ContradictoryParameters(
            "max_sparsity",
            "sparsity",
            f"max_sparsity {asked.max_sparsity:g} is less than the sparsity {densest.sparsity:g} "
            + ("asked for" if asked.sparsity is not None else "of requests that name none"),
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
        rule, policy.between(densest, sparsest), policy.between(densest, floor), asked.views.count
    )


def _sparser(one: Level, other: Level) -> Level:
    return one if one.kept <= other.kept else other
