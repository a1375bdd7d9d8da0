"""What a request takes, and how that is priced."""

from collections.abc import Callable
from typing import NamedTuple


class RequestCost(NamedTuple):
    """What a request takes.

    Attributes:
        kept: tokens of one view in each extraction that it may come to, one after the other.
        views: of the clip, all of which are extracted each time.
        selected: whether decoding and selection are done, so that only the extractions are left.
        encodes: whether a picture or a film is encoded in the end.
    """

    kept: tuple[int, ...]
    views: int = 1
    selected: bool = False
    encodes: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of all views and extractions together."""
        return sum(self.kept) * self.views


# Seconds that a cost takes a service that has nothing else to do.
Price = Callable[[RequestCost], float]


def price_by_tokens(cost: RequestCost) -> float:
    """The price before there is an engine, which prices better."""
    return float(cost.tokens)
