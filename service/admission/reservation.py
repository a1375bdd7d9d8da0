"""A slot and a cost that a request holds while it is served."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from service.admission.cost import RequestCost
from service.admission.degrading import Bound

if TYPE_CHECKING:  # it makes reservations, and imports this module for that
    from service.admission.admission import Admission


class Reservation:
    """A slot and a cost that are held until the ``with`` block ends, however it ends.

    Attributes:
        cost: held.
        seconds: its price when it was taken.
        way: which of the costs it is.
        degraded_by: the bound that kept it from being the first; None when it is.
    """

    def __init__(
        self, admission: "Admission", cost: RequestCost, way: int, degraded_by: Bound | None
    ) -> None:
        self._admission = admission
        self.way, self.degraded_by = way, degraded_by
        self._working = False
        self._done_tokens: int | None = None
        self._hold(cost)
        self._taken = cost

    @property
    def tokens(self) -> int:
        return self.cost.tokens

    def _hold(self, cost: RequestCost) -> None:
        self.cost = cost
        self.seconds = self._admission.price(cost)

    def decide_again(self, costs: Sequence[RequestCost]) -> None:
        """Hold what fits now, when the form fields are known and the upload has taken its time.

        Raises:
            Overloaded: there is no room for the cheapest, which costs more than what is held.
        """
        admission = self._admission
        admission.give_back(self)
        try:
            self.way, self.degraded_by = admission.choose(costs, self.cost)
            self._taken = costs[self.way]
            self._hold(self._taken)
        finally:
            admission.take(self)

    def shrink(self, cost: RequestCost) -> None:
        """Give back all but this, when it is known that no more is needed."""
        if cost.tokens < self.tokens:
            self._taken = cost
            self.advance(cost)

    def advance(self, left: RequestCost) -> None:
        """Give back all but what is left: the rest is done, and counts for the throughput."""
        self._admission.give_back(self)
        self._hold(left)
        self._admission.take(self)

    def begin(self) -> None:
        """The upload is complete: from here on the time that passes is ours."""
        self._working = True
        self._admission.begin()

    def answered(self, tokens: int) -> None:
        """The work was done, and was these tokens: it counts for the throughput."""
        self._done_tokens = tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._admission.give_back(self)
        if self._working:
            self._admission.end(self._taken, self._done_tokens)
