"""``lookwhen train pretrain``: teach selector and extractor by distillation, without labels.

The selector learns which tokens an image teacher finds unlike all others of the clip
(top1_distance, or one of its rivals), the extractor what a video teacher says of the clip and what
an image teacher says of its frames, from the kept tokens alone. Both at once, one K per step.

Teachers look on the fly (``--image NAME WEIGHTS``) or have been stored
(``lookwhen train teachers store``, then ``--image-store PATH``). With torchrun, any number
of processes share a step.

Source: paper section on pre-training, and LookWhere's losses where the paper is silent.
"""

from training.pretrain.objective import Heads, PreTraining, pretraining_step
from training.pretrain.recipes import RECIPES, PreTrainingRecipe
from training.pretrain.run import pretrain

__all__ = ["RECIPES", "Heads", "PreTraining", "PreTrainingRecipe", "pretrain", "pretraining_step"]
