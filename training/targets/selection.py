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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.targets.definition import Definition, Evidence
from training.targets.from_features import ATTENTION, ATTENTION_CHANGE, K_CENTER, TOPK_DISTANCE
from training.targets.from_pixels import K_CENTER_PIXELS, PIXEL_CHANGE, RANDOM
from training.targets.grids import Grid
from training.targets.nearest import METRICS, Metric
from training.teachers.teacher import TeacherFeatures

# A K in a name stands for any number from 1 on.
_DEFINITIONS: dict[str, Definition] = {
    "topK_distance": TOPK_DISTANCE,
    "attention": ATTENTION,
    "attention_change": ATTENTION_CHANGE,
    "k_center": K_CENTER,
    "k_center_pixels": K_CENTER_PIXELS,
    "random": RANDOM,
    "pixel_change": PIXEL_CHANGE,
}
SELECTION_TARGETS = ("top1_distance", *_DEFINITIONS)


class UnknownTarget(KeyError):
    """There is no such target; the text lists the known ones."""

    def __str__(self) -> str:
        return str(self.args[0])


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
    _definition: Definition
    _metric: Metric
    _number: int

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
        given = Evidence(clip, features, seeds, self.grid, self._metric, self._number)
        return self._definition.scores(given).float()


def selection_target(name: str, grid: Grid, *, metric: Metric = "cosine") -> SelectionTarget:
    """Look a target up.

    Args:
        name: ``top1_distance`` and so on, see this module's text.
        grid: (frames, rows, columns) of the extractor's tokens.
        metric: of distances between features, ``cosine`` or ``l2``; pixels are compared by L2.

    Raises:
        UnknownTarget: no such target.
        ValueError: no such metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    for pattern, definition in _DEFINITIONS.items():
        if match := re.fullmatch(pattern.replace("K", r"([1-9]\d*)"), name):
            number = int(match[1]) if match.groups() else 0
            return SelectionTarget(name, grid, definition.needs, definition, metric, number)
    raise UnknownTarget(f"no selection target {name!r}; known: {', '.join(SELECTION_TARGETS)}")
