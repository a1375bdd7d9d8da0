"""What a selection target is made from, and what makes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from training.targets.grids import Grid
from training.targets.nearest import Metric
from training.teachers.teacher import TeacherFeatures


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a target can be made from.

    Attributes:
        clip: uint8 [B, T, H, W, 3].
        features: a teacher's, with the parts that the definition needs.
        seeds: one for each clip, None where the caller has none.
        grid: (frames, rows, columns) of the extractor's tokens.
        metric: of distances between features.
        number: the K of a name such as ``topK_distance``; 0 where the name has none.
    """

    clip: Tensor
    features: TeacherFeatures
    seeds: Sequence[int] | None
    grid: Grid
    metric: Metric
    number: int


@dataclass(frozen=True, slots=True)
class Definition:
    """How a target is made.

    Attributes:
        scores: [B, N] on the evidence's grid, frame-major; higher is worth keeping.
        needs: parts of the features without which there is no target.
    """

    scores: Callable[[Evidence], Tensor]
    needs: frozenset[str] = frozenset()


def token_side(clip: Tensor, grid: Grid) -> int:
    """Pixels of a token's side.

    Raises:
        ValueError: the clip does not divide into square tokens.
    """
    T, H, W = clip.shape[1:4]
    patch = H // grid[1]
    if (T, patch * grid[1], patch * grid[2]) != (grid[0], H, W):
        raise ValueError(f"a clip of {T} x {H} x {W} does not divide into {grid} square tokens")
    return patch
