"""What a training by labels does, and the recipes that have names: the built-in model's runs."""

import dataclasses
from dataclasses import dataclass

from training.loop import LoopSettings
from training.moving_things.supervised.views import CloseUps


@dataclass(frozen=True, slots=True)
class SupervisedRecipe:
    """One training run, whole. Defaults: the built-in bundle's."""

    config: str = "lookwhen_mini16"
    seed: int = 0
    batch: int = 32
    steps: int = 6600
    learning_rate: float = 1e-3  # AdamW's
    matrix_learning_rate: float = 3e-3  # Muon's
    final_rate: float = 1e-3  # share of the peak
    weight_decay: float = 0.05
    warm_up: float = 0.02  # share of the steps
    clip_gradient: float = 1.0
    label_smoothing: float = 0.05
    drop_path: float = 0.0
    map_weight: float = 0.5
    # Of the standardised target: at 1 the target's weight lies on some fifty tokens, at 0.5 on
    # seven, too few to rank all that moves.
    map_temperature: float = 1.0
    # The selector takes over from the target between these shares of the steps.
    hand_over: tuple[float, float] = (0.1, 0.35)
    # Sparsities come from a grid over the trained range: a CPU's kernels are compiled for each new
    # shape, which costs as much as the step itself when every step has another K.
    levels: int = 7
    # Until this share of the steps only the sparser half of the grid, which is cheaper, and easier
    # to learn from because little but the event is kept.
    sparse_until: float = 0.35
    # Share of the later steps at one of these, so that dense answers are not far from what was
    # trained; on fewer clips, so that they cost no more than the others.
    dense_share: float = 0.12
    dense_sparsities: tuple[float, ...] = (0.0, 0.25, 0.5)
    dense_batch: float = 0.3  # share of the batch
    # The mean of the patch tokens must tell the label as well, through the same head: from scratch,
    # tokens learn what they show long before the video token learns where to look.
    pooled_weight: float = 0.5
    # A selector that has learnt may stay as it is, and then is not gone through backwards.
    train_selector: bool = True
    # Which clips are shown more often, and from nearer.
    close_ups: CloseUps | None = None
    # Of the loss over all labels, and of one over nothing but the ways of turning, on the clips in
    # which something turns.
    label_weight: float = 1.0
    turning_weight: float = 0.0

    @property
    def loop(self) -> LoopSettings:
        return LoopSettings.of(self, self.steps)


# Further from where a run ended, with a selector that has learnt: no target to lean on, the whole
# trained range from the first step, lower rates.
_CONTINUED = SupervisedRecipe(
    learning_rate=5e-4, matrix_learning_rate=1.5e-3, hand_over=(0.0, 0.0), sparse_until=0.0
)

RECIPES = {
    # The built-in bundle, from scratch.
    "default": SupervisedRecipe(),
    # And further from there, in another order of clips.
    "default-continued": dataclasses.replace(_CONTINUED, seed=1, steps=1000),
    # Which way things turn, which from scratch is never found out: from near first, where what a
    # token shows of a turn is larger, and as a question of its own: among all labels it stayed a
    # guess for several times as long. The target selects again: to the selector this is new.
    "turning-near": SupervisedRecipe(
        seed=2,
        steps=600,
        learning_rate=1e-3,
        matrix_learning_rate=3e-3,
        hand_over=(0.6, 1.0),
        sparse_until=1.0,
        dense_share=0.0,
        label_weight=0.0,
        turning_weight=1.0,
        close_ups=CloseUps(others=False, share=1.0, side=(0.35, 0.65)),
    ),
    # Then from ever further away, among all other events.
    "turning-far": SupervisedRecipe(
        seed=3,
        steps=1500,
        learning_rate=1e-3,
        matrix_learning_rate=3e-3,
        hand_over=(0.0, 0.0),
        sparse_until=0.3,
        turning_weight=1.0,
        close_ups=CloseUps(repeat=5, share=0.7, side=(0.4, 1.0)),
    ),
    # And as they will be seen, at lower rates.
    "turning-settled": dataclasses.replace(
        _CONTINUED,
        seed=4,
        steps=2000,
        turning_weight=1.0,
        close_ups=CloseUps(repeat=3, share=0.3, side=(0.6, 1.0)),
    ),
    # Last, nothing but clips as they are, and more of the dense steps: what else there is to tell
    # apart had suffered, and dense answers most.
    "settled": dataclasses.replace(
        _CONTINUED, seed=5, steps=1200, dense_share=0.3, turning_weight=0.5
    ),
    # All of it together, at the low rates at which turning is learnt from whole pictures as well:
    # at those above, what had been learnt of it from near was lost.
    "together": dataclasses.replace(
        _CONTINUED,
        seed=6,
        steps=2100,
        learning_rate=3e-4,
        matrix_learning_rate=8e-4,
        train_selector=False,
        dense_share=0.25,
        turning_weight=1.0,
        close_ups=CloseUps(repeat=4),
    ),
}
