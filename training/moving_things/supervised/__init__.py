"""Train selector, extractor and head at once, on the labels of rendered clips.

What the built-in bundle is made with, ``lookwhen train builtin``. There is no teacher:
the selector learns from a target in pixels (:func:`training.targets.pixel_change`), the extractor
from the labels. Because an untrained selector shows the extractor nothing worth learning from, the
target itself selects at first and hands over to the selector, batch by batch, as that learns.

Runs on a CPU in bfloat16 where that is fast. A run writes ``state.safetensors`` as it goes and,
started again with the same arguments, goes on from there; ``checkpoint.safetensors`` is the result.
"""

from training.moving_things.supervised.objective import (
    Supervised,
    SupervisedStep,
    build,
    supervised_step,
)
from training.moving_things.supervised.recipes import RECIPES, SupervisedRecipe
from training.moving_things.supervised.run import train
from training.moving_things.supervised.views import (
    CloseUps,
    RenderedAugmentation,
    Sample,
    supervised_batches,
)

__all__ = [
    "RECIPES",
    "CloseUps",
    "RenderedAugmentation",
    "Sample",
    "Supervised",
    "SupervisedRecipe",
    "SupervisedStep",
    "build",
    "supervised_batches",
    "supervised_step",
    "train",
]
