"""What the two networks should learn: the selector's scores and the extractor's tokens."""

from training.targets.extractor import ExtractorTargets
from training.targets.kept import draw_kept
from training.targets.pixels import pixel_change
from training.targets.selection import (
    SELECTION_TARGETS,
    SelectionTarget,
    UnknownTarget,
    selection_target,
)

__all__ = [
    "SELECTION_TARGETS",
    "ExtractorTargets",
    "SelectionTarget",
    "UnknownTarget",
    "draw_kept",
    "pixel_change",
    "selection_target",
]
