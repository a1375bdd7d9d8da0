"""From the sparsity that was asked for to the tokens that are kept."""

import bisect
from dataclasses import dataclass

from bundle.tokens import tokens_to_keep

# 0.3 + 0.6 is a hair below 0.9; whoever computes a level that way still means it.
_REPRESENTATION_ERROR = 1e-9


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request asked for and what it gets."""

    asked: float | None
    used: float
    kept: int


@dataclass(frozen=True, slots=True)
class SparsityPolicy:
    """Sparsity on a grid of levels, so that few shapes have to be warm, compiled and labelled.

    Attributes:
        levels: ascending, with 0 among them; empty takes every sparsity exactly as asked.
        tokens: N, tokens of one view.
        default: when nobody asks, the bundle's.
    """

    levels: tuple[float, ...]
    tokens: int
    default: float

    def decide(self, asked: float | None) -> Decision:
        """The nearest level that is not sparser than asked: never fewer tokens than asked for.

        Our choice: whoever asks for 0.93 has judged 0.93 to be good enough, not 0.95.
        """
        used = self.default if asked is None else asked
        if self.levels:
            used = self.levels[bisect.bisect_right(self.levels, used + _REPRESENTATION_ERROR) - 1]
        return Decision(asked, used, tokens_to_keep(used, self.tokens))

    def warm_levels(self, lowest: float, highest: float) -> list[int]:
        """Kept tokens to warm: everything, the trained range's ends, and the default."""
        return [self.decide(sparsity).kept for sparsity in (0.0, lowest, self.default, highest)]
