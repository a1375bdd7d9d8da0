"""The size of what a graph is asked to do, in the terms that its time is made of."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

# What the fields of Work are called where coefficients are shown.
TERMS = ("run", "row", "token", "token_pair", "padded_token")


@dataclass(frozen=True, slots=True)
class Work:
    """Amounts that add up over runs of one graph.

    Attributes:
        runs: of the graph.
        rows: views.
        tokens: real ones.
        pairs: of tokens that attention compares, padding included.
        padding: tokens that are there only to make rows equally long.
    """

    runs: float = 0.0
    rows: float = 0.0
    tokens: float = 0.0
    pairs: float = 0.0
    padding: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def scaled(self, factor: float) -> "Work":
        return Work(*(factor * amount for amount in astuple(self)))

    @classmethod
    def of_run(cls, lengths: Sequence[int]) -> "Work":
        """One run with rows of these many tokens, padded to the longest."""
        rows, longest, real = len(lengths), max(lengths), sum(lengths)
        return cls(1, rows, real, rows * longest * longest, rows * longest - real)

    def terms(self) -> tuple[float, ...]:
        """In the order of :data:`TERMS`."""
        return self.runs, self.rows, self.tokens, self.pairs, self.padding
