"""Selection targets by name: what the selector's scores should be, and the paper's rivals to it.

    top1_distance      distance to the nearest neighbour among all patches: the method
    topK_distance      mean distance to the K nearest, any K: top10_distance, top100_distance
    attention          what the teacher looks at
    attention_change   how much that changes between successive frames
    k_center           farthest point sampling on a teacher's patch features
    k_center_pixels    the same on pixels
    random             seeded by clip
    pixel_change       change of pixels, camera motion taken out

Those with features work with any teacher that gives patches or attention: DINOv3's top1_distance is
the paper's, InternVideo2's top1_distance and attention are among its rivals.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.tokens import tokens_to_keep
from model.layers import patchify
from training.targets.centers import k_center
from training.targets.grids import Grid, resample_map
from training.targets.nearest import METRICS, Metric, topk_distance
from training.targets.pixels import pixel_change
from training.teachers.teacher import TeacherFeatures

# As many centers as tokens are kept at the lowest sparsity of training.
_CENTERS_SPARSITY = 0.70


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a target can be made from: ``clip`` uint8 [B, T, H, W, 3], and what it asked for."""

    clip: Tensor
    features: TeacherFeatures
    seeds: Sequence[int]


@dataclass(frozen=True, slots=True)
class SelectionTarget:
    """A target with its options, ready to be computed.

    Attributes:
        name: as in this module's text.
        grid: (frames, rows, columns) of the extractor's tokens.
        needs: the teacher's features without which there is no target: ``patches``, ``attention``,
            or nothing.
    """

    name: str
    grid: Grid
    needs: frozenset[str]
    _compute: Callable[[Evidence], Tensor]

    @torch.no_grad()
    def __call__(
        self,
        clip: Tensor,
        features: TeacherFeatures | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """Score the tokens of clips.

        Args:
            clip: uint8 [B, T, H, W, 3].
            features: a teacher's of these clips, with the parts in ``needs``.
            seeds: one for each clip; only ``random`` uses them.

        Returns:
            float32 [B, N] on ``grid``, frame-major; higher is worth keeping.

        Raises:
            ValueError: a part that is needed is missing, or shapes do not fit together.
        """
        features = features or TeacherFeatures()
        for part in sorted(self.needs):
            if getattr(features, part) is None:
                raise ValueError(f"{self.name} needs a teacher's {part}")
        if seeds is None:
            if self.name == "random":
                raise ValueError("random needs a seed for each clip")
            seeds = ()
        scores = self._compute(Evidence(clip, features, seeds))
        return scores.float()


def selection_target(name: str, grid: Grid, *, metric: Metric = "cosine") -> SelectionTarget:
    """Look a target up.

    Args:
        name: ``top1_distance`` and so on, see this module's text.
        grid: (frames, rows, columns) of the extractor's tokens.
        metric: of distances between features, ``cosine`` or ``l2``; pixels are compared by L2.

    Raises:
        KeyError: no such target; the text lists the known ones.
        ValueError: no such metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")

    def target(needs: set[str], compute: Callable[[Evidence], Tensor]) -> SelectionTarget:
        return SelectionTarget(name, grid, frozenset(needs), compute)

    if match := re.fullmatch(r"top([1-9]\d*)_distance", name):
        k = int(match[1])
        return target({"patches"}, lambda given: _topk_distance(given, grid, k, metric))
    match name:
        case "attention":
            return target({"attention"}, lambda given: resample_map(_attention(given), grid))
        case "attention_change":
            return target(
                {"attention"}, lambda given: resample_map(change(_attention(given)), grid)
            )
        case "k_center":
            return target({"patches"}, lambda given: _k_center(given, grid, metric))
        case "k_center_pixels":
            return target(set(), lambda given: _k_center_pixels(given, grid))
        case "random":
            return target(set(), lambda given: _random(given, grid))
        case "pixel_change":
            return target(set(), lambda given: _pixel_change(given, grid))
    raise KeyError(f"no selection target {name!r}; known: {', '.join(SELECTION_TARGETS)}")


# K may be any number.
SELECTION_TARGETS = (
    "top1_distance",
    "topK_distance",
    "attention",
    "attention_change",
    "k_center",
    "k_center_pixels",
    "random",
    "pixel_change",
)


def change(attention: Tensor) -> Tensor:
    """How much each patch's attention differs from the frame before: [B, t, h, w] -> the same.

    Raises:
        ValueError: there is only one frame.

    Source: the paper compares with the change of attention between successive frames. Absolute
    values, and that the first frame takes the difference to the second, are our choice.
    """
    if attention.shape[1] < 2:
        raise ValueError("change of attention needs at least two frames")
    differences = attention.diff(dim=1).abs()
    return torch.cat([differences[:, :1], differences], dim=1)


def _attention(given: Evidence) -> Tensor:
    assert given.features.attention is not None
    return given.features.attention


def _patches(given: Evidence) -> Tensor:
    assert given.features.patches is not None
    return given.features.patches


def _topk_distance(given: Evidence, grid: Grid, k: int, metric: Metric) -> Tensor:
    patches = _patches(given)
    distances = topk_distance(patches.flatten(1, 3), k, metric=metric)
    return resample_map(distances.reshape(patches.shape[:4]), grid)


def _k_center(given: Evidence, grid: Grid, metric: Metric) -> Tensor:
    patches = _patches(given)
    features = patches.flatten(1, 3)
    scores = k_center(features, _centers(features), metric=metric)
    return resample_map(scores.reshape(patches.shape[:4]), grid)


def _k_center_pixels(given: Evidence, grid: Grid) -> Tensor:
    pixels = patchify(given.clip, _patch(given.clip, grid)).float() / 255
    return k_center(pixels, _centers(pixels), metric="l2")


def _centers(features: Tensor) -> int:
    return max(2, tokens_to_keep(_CENTERS_SPARSITY, features.shape[1]))


def _random(given: Evidence, grid: Grid) -> Tensor:
    if len(given.seeds) != len(given.clip):
        raise ValueError(f"{len(given.seeds)} seeds for {len(given.clip)} clips")
    tokens = grid[0] * grid[1] * grid[2]
    # On the CPU: a clip's scores depend on its seed alone, not on its batch or device.
    rows = [
        torch.rand(tokens, generator=torch.Generator().manual_seed(seed)) for seed in given.seeds
    ]
    return torch.stack(rows).to(given.clip.device)


def _pixel_change(given: Evidence, grid: Grid) -> Tensor:
    patch = _patch(given.clip, grid)
    scores = [torch.from_numpy(pixel_change(one.cpu().numpy(), patch)) for one in given.clip]
    return torch.stack(scores).to(given.clip.device)


def _patch(clip: Tensor, grid: Grid) -> int:
    """Pixels of a token's side."""
    T, H, W = clip.shape[1:4]
    patch = H // grid[1]
    if (T, patch * grid[1], patch * grid[2]) != (grid[0], H, W):
        raise ValueError(f"a clip of {T} x {H} x {W} does not divide into {grid} square tokens")
    return patch
