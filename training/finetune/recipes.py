"""What a fine-tuning does, and the recipes that have names."""

from dataclasses import dataclass
from typing import Literal

from training.datasets import Augmentation
from training.loop import LoopSettings


@dataclass(frozen=True, slots=True)
class FineTuningRecipe:
    """One fine-tuning, whole. The authors publish none of this for their fine-tuning: the defaults
    are what is usual for a video ViT-B.

    Attributes:
        epochs: how often a clip is seen, on average.
        batch: clips per step, of all processes together; accumulate: parts that a process takes
            them in.
        recompute: blocks in the backward pass, to save memory; see LoopSettings.
        optimizer: "adamw", or "muon" for the matrices inside blocks.
        matrix_learning_rate: Muon's.
        layer_decay: see :func:`training.optimizers.layer_scales`.
        mixup: alpha of the Beta distribution, 0 for none; mixup_share: of the clips.
        balance: how much more often rare classes are shown, from 0 to 1.
        emphasis: labels, and how many times as often they are shown, for those that take longer.
        select_by: "selector", or "random" tokens, to compare with.
        train_selector: through the context that it hands on; choosing has no gradient.
        selector_rate: share that the selector's rates are of the extractor's.
        map_weight: of the loss of its map against the change in pixels, so that what it chooses
            adapts too; map_temperature: of that target, standardised.
        sparsities: range of the training; by default the checkpoint's.
        levels: sparsities come from this number of steps of that range, because a CPU's kernels are
            compiled for each new shape; 0 takes any.
        dense_share: of the steps are at one of ``dense_sparsities``, on ``dense_rows`` of the
            clips, so that they cost no more than others.
        stored_views: of each clip, that a stem looks at once for all epochs; the selector is then
            frozen, and nothing is mixed. 0 has the stem look at new views in every step, which
            takes many times as long. Networks without a stem take no notice.
        summary_dropout: of what a stem's network adds to the video token, see
            :class:`model.stem.StemSummary`.
        keep_head: go on with the checkpoint's head, whose labels must be the data set's.
        size: pixels on a side of a view; by default the checkpoint's. More pixels show smaller
            things, and are more tokens.
    """

    epochs: float = 30
    batch: int = 64
    accumulate: int = 1
    recompute: bool = False
    seed: int = 0
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 5e-4
    matrix_learning_rate: float = 1e-3
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    warm_up: float = 0.1  # share of the steps
    final_rate: float = 1e-3  # share of the peak
    clip_gradient: float = 1.0
    label_smoothing: float = 0.1
    mixup: float = 0.8
    mixup_share: float = 1.0
    drop_path: float = 0.1
    balance: float = 0.0
    emphasis: tuple[tuple[str, float], ...] = ()
    select_by: Literal["selector", "random"] = "selector"
    train_selector: bool = False
    selector_rate: float = 0.1
    map_weight: float = 0.0
    map_temperature: float = 1.0
    sparsities: tuple[float, float] | None = None
    levels: int = 7
    dense_share: float = 0.0
    dense_sparsities: tuple[float, ...] = (0.0, 0.25, 0.5)
    dense_rows: float = 1 / 3
    stored_views: int = 0
    summary_dropout: float = 0.0
    keep_head: bool = False
    size: int | None = None
    augmentation: Augmentation = Augmentation()  # noqa: RUF009, frozen

    def __post_init__(self) -> None:
        if self.map_weight and not self.train_selector:
            raise ValueError("a map loss needs a selector that is trained")
        if self.stored_views and (self.train_selector or self.mixup or self.dense_share):
            raise ValueError(
                "stored views are of the tokens that the frozen selector keeps of one clip within "
                "the range: train_selector, mixup and dense_share must be off"
            )
        if self.stored_views and self.select_by != "selector":
            raise ValueError("stored views are of the tokens that the selector keeps")

    def loop(self, clips: int) -> LoopSettings:
        return LoopSettings.of_epochs(self, clips)


# Each recipe is run by
#   torchrun --nproc-per-node 8 --no-python lookwhen train finetune PRETRAINED OUT KIND \
#       ANNOTATIONS CLIPS --split train --validation-split val --recipe NAME --workers 12
# Cost: matrix products of lookwhen_b16, counted (model.macs), 0.35 TFLOP for a clip that is seen;
# decoding comes on top. Scores: the authors', none was reproduced here.
RECIPES = {
    # A few hundred clips on a laptop, from the built-in checkpoint or one that was pre-trained on
    # clips alike (KIND folders or index, --validation 0.15). 240 clips are seen 24,000 times, about
    # as many views as the built-in model's training has seen in ten minutes on two cores.
    "own": FineTuningRecipe(epochs=100, batch=16, mixup=0.2, balance=1.0),
    # The same of a network with a stem. Few clips teach its small transformer by heart unless decay
    # is strong; these rates are the best of about ten that were tried on two of the five parts of
    # docs/experiments.md's everyday actions.
    "stem": FineTuningRecipe(
        batch=16,
        mixup=0.0,
        balance=1.0,
        learning_rate=3e-4,
        layer_decay=1.0,
        weight_decay=3.0,
        drop_path=0.3,
        summary_dropout=0.5,
        levels=6,
        stored_views=2,
    ),
    # 240,000 clips, 2.5 EFLOP. Published: 82.6 at 90 %, 84.6 at 70 % sparsity, 4x3 views.
    "kinetics": FineTuningRecipe(),
    # 169,000 clips, 1.8 EFLOP. Published: 69.3 at 90 %, 72.0 at 70 % sparsity, 2x3 views.
    "ssv2": FineTuningRecipe(),
    # 15,000 clips, 0.26 EFLOP. Published: 84.8 at 90 % sparsity.
    "diving48": FineTuningRecipe(epochs=50),
    # 67,000 clips, 0.70 EFLOP. Published: 23.8 at 90 % sparsity, of 20,000 clips.
    "epic-kitchens": FineTuningRecipe(),
    # 119,000 clips, 0.83 EFLOP. Published: 95.2 at 90 % sparsity, of 20,000 clips.
    "jester": FineTuningRecipe(epochs=20),
    # 8,000 clips, 0.14 EFLOP. Published: mAP 39.3 at 90 % sparsity.
    "charades": FineTuningRecipe(epochs=50, mixup=0.2, label_smoothing=0.0),
}
