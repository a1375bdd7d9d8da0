"""How far a request is degraded: which of the ways to serve it there is room for.

Between two marks of the load, a request that allows it gets fewer tokens, the fewer the nearer the
upper mark. It is refused only when its cheapest way does not fit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from service.admission.cost import RequestCost

Bound = Literal["requests", "tokens", "wait"]


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What may be in flight, and where degrading begins.

    Attributes:
        max_requests: requests accepted at the same time.
        max_tokens: tokens accepted at the same time; a single request may exceed it when alone.
        max_wait_seconds: a request that would be answered later, behind those before it, is
            refused; unless there is nothing before it.
        degrade_from_load: share of the nearest bound above which requests are degraded.
        degrade_full_load: from this share on, as far as each allows.
    """

    max_requests: int
    max_tokens: int
    max_wait_seconds: float
    degrade_from_load: float = 0.25
    degrade_full_load: float = 0.5


class Load(NamedTuple):
    """The share of the nearest bound that is taken, and which bound that is."""

    share: float
    bound: Bound


class Decision(NamedTuple):
    """The best way that fits.

    Attributes:
        way: its index; None when not even the cheapest way fits.
        degraded_by: the bound that kept it from being the first; None when it is the first.
    """

    way: int | None
    degraded_by: Bound | None


def decide(
    costs: Sequence[RequestCost],
    load: Load,
    limits: AdmissionLimits,
    short_of: Callable[[RequestCost], Bound | None],
) -> Decision:
    """Choose among the ways to serve a request.

    Args:
        costs: the cost of each way, best first; at least one.
        short_of: names the bound that a cost exceeds; None when the cost fits.
    """
    above = load.share - limits.degrade_from_load
    pressure = above / (limits.degrade_full_load - limits.degrade_from_load)
    # Each way gets an equal part of the interval between the marks.
    first = min(len(costs) - 1, max(0, math.floor(pressure * len(costs))))
    degraded_by = load.bound if first else None
    for way in range(first, len(costs)):
        short = short_of(costs[way])
        if short is None:
            return Decision(way, degraded_by)
        degraded_by = short
    return Decision(None, degraded_by)
