"""How many tokens a request gets: sparsity on a grid, and the rules that choose from it.

Everything here is arithmetic on numbers that are already known; nothing waits, nothing measures.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.schema import SparsityRange
from bundle.tokens import tokens_to_keep
from service.sparsity.loss import Loss

# 0.3 + 0.6 is a hair below 0.9; a client that computes a level that way still means it. The same
# holds for a share of the mass that was summed up token by token.
_REPRESENTATION_ERROR = 1e-9

# Each step of a cascade looks at three times the tokens of the last: of the ladders compared in
# docs/control.md the one that answers as well as the others for the fewest tokens and looks.
LADDER_GROWTH = 3.0


@dataclass(frozen=True, slots=True)
class Level:
    """A sparsity, and the tokens that it keeps of one view."""

    sparsity: float
    kept: int


@dataclass(frozen=True, slots=True)
class SparsityPolicy:
    """Sparsity on a grid of levels, so that few shapes have to be warm, compiled and labelled.

    Attributes:
        levels: ascending, with 0 among them; empty takes every sparsity exactly as asked.
        choices: what the service chooses from where it is left to choose; the levels, if any.
        tokens: N, tokens of one view.
        trained: the bundle's range, within which the service chooses, and its default.
        weighs: whether the selector's scores say how much each token is worth.
        losses: what sparsities were measured to cost, ascending; empty where nothing was.
    """

    levels: tuple[float, ...]
    choices: tuple[float, ...]
    tokens: int
    trained: SparsityRange
    weighs: bool = True
    losses: tuple[Loss, ...] = ()

    def level(self, asked: float) -> Level:
        """The nearest level that is not sparser than asked: never fewer tokens than asked for.

        Our choice: a client that asks for 0.93 has judged 0.93 to be good enough, not 0.95.
        """
        if self.levels:
            index = bisect.bisect_right(self.levels, asked + _REPRESENTATION_ERROR) - 1
            asked = self.levels[index]
        return Level(asked, tokens_to_keep(asked, self.tokens))

    @property
    def default(self) -> Level:
        """When nobody asks."""
        return self.level(self.trained.default)

    @property
    def lowest(self) -> Level:
        """The densest that was trained."""
        return self.level(self.trained.lowest)

    @property
    def highest(self) -> Level:
        """The sparsest that was trained."""
        return self.level(self.trained.highest)

    def between(self, densest: Level, sparsest: Level) -> tuple[Level, ...]:
        """All levels from the densest to the sparsest, both included; one when they are the same.

        Levels that keep equally many tokens, of a very small view, are one.
        """
        if densest.kept == sparsest.kept:
            return (densest,)
        found = {densest.kept: densest}
        for sparsity in self.choices:
            kept = tokens_to_keep(sparsity, self.tokens)
            if sparsest.kept < kept < densest.kept:
                found.setdefault(kept, Level(sparsity, kept))
        if sparsest.kept < densest.kept:
            found[sparsest.kept] = sparsest
        return tuple(sorted(found.values(), key=lambda level: -level.kept))

    def warm_levels(self) -> list[int]:
        """Kept tokens to warm: everything, the trained range's ends, and all there is to choose."""
        named = (self.level(0.0), self.lowest, self.default, self.highest)
        return [level.kept for level in (*named, *map(self.level, self.choices))]


def coverage_curve(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of the selector's mass that the best 1, 2, ..., N tokens of a clip hold.

    The selector is trained so that the softmax of its scores over a whole view follows that of the
    selection target (training/losses.py: map_loss), which makes that softmax its own statement of
    how much each token is worth.

    Args:
        scores: [V, N]; of several views, the mean of their shares is taken.

    Returns:
        float64 [N], ascending up to 1.
    """
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    mass = np.exp(shifted)
    mass /= mass.sum(axis=1, keepdims=True)
    held: NDArray[np.float64] = np.cumsum(-np.sort(-mass, axis=1), axis=1).mean(axis=0)
    held[-1] = 1.0  # whatever summation makes of it
    return held


def cover(steps: Sequence[Level], curve: NDArray[np.float64], coverage: float) -> Level:
    """The sparsest step that holds ``coverage`` of the mass; the densest when none does.

    All views of a clip get the same K: their answers are averaged, so that what the views hold on
    average is what counts, and equally long rows are one batch without padding.

    Args:
        steps: densest first, at least one.
        curve: from :func:`coverage_curve`.
        coverage: share of the mass, above 0 and at most 1.
    """
    enough = [step for step in steps if curve[step.kept - 1] >= coverage - _REPRESENTATION_ERROR]
    return enough[-1] if enough else steps[0]


def ladder(steps: Sequence[Level], growth: float = LADDER_GROWTH) -> tuple[Level, ...]:
    """The steps of a cascade, sparsest first: each at least ``growth`` times the tokens before it.

    The densest is always the last, so that what a cascade may cost is known and can be reserved.

    Args:
        steps: densest first, at least one.
    """
    taken = [steps[-1]]
    for step in reversed(steps):
        if step.kept >= growth * taken[-1].kept:
            taken.append(step)
    if taken[-1].kept < steps[0].kept:
        # A last step of hardly more tokens than the one before it would tell little new.
        if len(taken) > 1 and steps[0].kept < growth**0.5 * taken[-1].kept:
            taken.pop()
        taken.append(steps[0])
    return tuple(taken)
