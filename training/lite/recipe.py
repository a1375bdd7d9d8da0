"""What the two parts of LITE's training do; all of it is our choice."""

from dataclasses import dataclass

from training.datasets import Augmentation
from training.loop import LoopSettings
from training.tune.recipe import TuningRecipe


@dataclass(frozen=True, slots=True)
class LiteRecipe:
    """Training the selector, whose network stays as it is.

    Attributes:
        epochs, batch, accumulate, recompute: as of :class:`~training.tune.recipe.TuningRecipe`.
        layers: blocks that the oracle looks at.
        temperature: what the oracle's values, 0 to 1, are divided by before their softmax; most
            are next to nothing, and a low one keeps the loss on the few that are not.
    """

    epochs: float = 2
    batch: int = 64
    accumulate: int = 1
    recompute: bool = False
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1
    final_rate: float = 1e-3
    clip_gradient: float = 1.0
    layers: int = 3
    temperature: float = 0.2
    augmentation: Augmentation = Augmentation()  # noqa: RUF009, frozen

    def loop(self, clips: int) -> LoopSettings:
        return LoopSettings.of_epochs(self, clips)


# The network's part: labels alone, one K a step, drawn from a tenth to all of the tokens.
LITE_TUNING = TuningRecipe(
    sparsities=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    counts=1,
    distil_weight=0.0,
    label_weight=1.0,
)
