"""What a pre-training does, and the recipes that have names."""

import dataclasses
from dataclasses import dataclass, field

from training.datasets import Augmentation
from training.loop import LoopSettings
from training.losses import LossWeights
from training.targets import ExtractorTargets
from training.targets.nearest import Metric

# The selection target of which nothing can be learnt.
BY_CHANCE = "random"


@dataclass(frozen=True, slots=True)
class PreTrainingRecipe:
    """One pre-training, whole. Defaults: the paper's, or LookWhere's where it is silent.

    Attributes:
        epochs: passes over the clips; ``steps``, where given, instead of them.
        recompute: blocks in the backward pass, to save memory; see LoopSettings.
        learning_rate: AdamW's. Ours: neither paper states one that is published.
        matrix_learning_rate: Muon's for matrices inside blocks; None leaves them to AdamW.
        selection, metric: the selector's target, see training.targets.selection.
        selection_teacher: whose features that is made from, ``image`` or ``video``.
        map_temperature: of the standardised target (ours: distances between 0 and 2 through a
            softmax over thousands of tokens are almost uniform).
        targets, weights: the extractor's targets and what each loss counts; a map loss of weight 0
            is not computed, and leaves the selector to learn through the context alone.
        layer_norm_targets: bring each target vector to mean 0 and deviation 1, for teachers
            whose tokens have another scale than ours; that normalised over time has it already.
        hand_over: the target selects before the first, the selector from the second of these
            shares of the steps on; (0, 0), as in LookWhere, suits weights that have learnt already.
        levels: K from this many sparsities, evenly over the range; None draws any (LookWhere's).
    """

    config: str = "lookwhen_b16"
    seed: int = 0
    epochs: float = 20.0
    steps: int | None = None
    batch: int = 1024
    accumulate: int = 1
    recompute: bool = False
    learning_rate: float = 2e-4
    matrix_learning_rate: float | None = None
    weight_decay: float = 0.05
    warm_up: float = 0.1
    final_rate: float = 5e-3
    clip_gradient: float = 1.0
    drop_path: float = 0.0
    selection: str = "top1_distance"
    metric: Metric = "cosine"
    selection_teacher: str = "image"
    map_temperature: float = 1.0
    targets: ExtractorTargets = field(default_factory=ExtractorTargets)
    weights: LossWeights = field(default_factory=LossWeights)
    layer_norm_targets: bool = False
    hand_over: tuple[float, float] = (0.0, 0.0)
    levels: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.selection == BY_CHANCE and self.weights.map:
            raise ValueError(
                f"the selection target {BY_CHANCE!r} is noise, from which no map can be learnt: "
                f"the map loss must weigh 0, got {self.weights.map:g}"
            )

    def by_chance(self) -> "PreTrainingRecipe":
        """The same, but chance selects from the first step to the last: the rival to all targets.

        The selector gives the context all the same, and learns through it. It has no map to learn,
        because what it would learn from noise would cost the context.
        """
        return dataclasses.replace(
            self,
            selection=BY_CHANCE,
            hand_over=(1.0, 1.0),
            weights=dataclasses.replace(self.weights, map=0.0),
        )

    def loop(self, clips: int) -> LoopSettings:
        """The loop's part, for a data set of ``clips``."""
        if self.steps:
            return LoopSettings.of(self, self.steps)
        return LoopSettings.of_epochs(self, clips)


RECIPES = {
    # The paper's: 20 epochs over Kinetics-400 and SSv2 from DINOv3 ViT-B/16, with InternVideo2-B/14
    # as video teacher, then fine-tuning; published 84.6 and 72.0 % at 70 %, 82.6 and 69.3 % at
    # 90 % sparsity (Kinetics-400 at 4x3 views, SSv2 at 2x3). About 409,000 clips:
    #   torchrun --nproc-per-node=8 --no-python lookwhen train pretrain runs/paper kinetics K400
    #     K400/clips --split train --also ssv2 SSV2 SSV2/clips train
    #     --image dinov3_vitb16 DINOV3.pth --video internvideo2_b14 B14.bin --dinov3 DINOV3.pth
    # In two parts, 64 clips at once on each of eight GPUs, it takes 45 GB of each (--predict).
    "paper": PreTrainingRecipe(accumulate=2),
    # Small enough for two cores: local teachers, moving-things, from random weights.
    "mini": PreTrainingRecipe(
        config="lookwhen_mini16",
        epochs=2.0,
        batch=32,
        learning_rate=1e-3,
        matrix_learning_rate=3e-3,
        warm_up=0.02,
        final_rate=1e-3,
        weights=LossWeights(map=0.5),
        layer_norm_targets=True,
        hand_over=(0.1, 0.35),
        levels=7,
        augmentation=Augmentation(area=(0.8, 1.0)),
    ),
    # Real clips on few cores: the teacher is an image network from the package index in both roles,
    # and its weights embed the student's patches too.
    #   lookwhen train pretrain runs/real index CLIPS/index.csv CLIPS --recipe real
    #     --image efficientnet_lite0 installed --video efficientnet_lite0 installed
    #     --stem installed
    "real": PreTrainingRecipe(
        config="lookwhen_lite80",
        epochs=10.0,
        batch=16,
        learning_rate=1e-3,
        matrix_learning_rate=2e-3,
        warm_up=0.05,
        final_rate=1e-3,
        targets=ExtractorTargets(patches=False),
        weights=LossWeights(map=0.5),
        layer_norm_targets=True,
        hand_over=(0.1, 0.35),
        levels=7,
    ),
    # And from a network that knows such clips already (--start), at lower rates.
    "mini-continued": PreTrainingRecipe(
        config="lookwhen_mini16",
        epochs=1.2,
        batch=32,
        learning_rate=5e-4,
        matrix_learning_rate=1e-3,
        warm_up=0.05,
        final_rate=1e-3,
        weights=LossWeights(map=0.5),
        layer_norm_targets=True,
        levels=7,
        augmentation=Augmentation(area=(0.8, 1.0)),
    ),
}
