"""Fine-tuning, ``lookwhen train finetune``: teach a checkpoint the classes of a data set.

A new head goes on the video token, and the extractor is trained with it. The selector stays as it
is (LookWhere's way), or is trained through the context that it hands on and, if wanted, by the
change in pixels. One K per step is drawn from the sparsity range.

A run writes ``state.safetensors`` and, started again with the same arguments, goes on from there.
``checkpoint.safetensors`` is the network after the last step. With clips to validate on,
``validation.csv`` has their figures, and ``best.safetensors`` the network that was best on them:
a few hundred clips are soon learnt by heart, and the last step is then seldom the best. The run
itself goes on to its end, because the rate still falls, and the lowest rates often give the best
step. Figures of ``best.safetensors`` on these same clips flatter it: test on others.
"""

from training.finetune.objective import FineTuning, Rows, finetuning_step, with_head
from training.finetune.recipes import RECIPES, FineTuningRecipe
from training.finetune.run import Sharing, finetune

__all__ = [
    "RECIPES",
    "FineTuning",
    "FineTuningRecipe",
    "Rows",
    "Sharing",
    "finetune",
    "finetuning_step",
    "with_head",
]
