"""What the two parts of a tuning do."""

from dataclasses import dataclass

from networks.selectors import SELECTORS
from training.datasets import Augmentation
from training.loop import LoopSettings


@dataclass(frozen=True, slots=True)
class TuningRecipe:
    """Tuning a network for several K. Epochs, rate and three K a step are FluxViT's; the rest, of
    which it says nothing or has another network, is our choice.

    Attributes:
        epochs: how often a clip is seen, on average.
        batch: clips per step, of all processes together; accumulate: parts that a process takes
            them in; recompute: blocks in the backward pass, to save memory.
        layer_decay: see :func:`training.optimizers.layer_scales`.
        sparsities: that steps draw from. Dense is among them, so that the dense answer stays.
        counts: how many of them a step has, all on the same views.
        select_by: selectors without weights, one drawn for each step. Chance is among them, so
            that the network does not depend on which selector it will have.
        distil_weight: of the KL divergence from what the network said of all tokens before.
        label_weight: of the labels' loss, where the data set's labels are the network's.
    """

    epochs: float = 5
    batch: int = 64
    accumulate: int = 1
    recompute: bool = False
    seed: int = 0
    learning_rate: float = 2e-4
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    warm_up: float = 0.2  # share of the steps
    final_rate: float = 1e-3  # share of the peak
    clip_gradient: float = 1.0
    sparsities: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 0.8, 0.85)
    counts: int = 3
    select_by: tuple[str, ...] = ("group", "random")
    distil_weight: float = 1.0
    label_weight: float = 0.5
    label_smoothing: float = 0.1
    augmentation: Augmentation = Augmentation()  # noqa: RUF009, frozen

    def __post_init__(self) -> None:
        if not 1 <= self.counts <= len(self.sparsities):
            raise ValueError(
                f"a step has 1 to {len(self.sparsities)} of the sparsities, got {self.counts}"
            )
        if not all(0 <= sparsity < 1 for sparsity in self.sparsities):
            raise ValueError(f"sparsities lie in [0, 1), got {list(self.sparsities)}")
        for name in self.select_by:
            if name not in SELECTORS:
                raise ValueError(f"there is no selector {name!r}, but {', '.join(SELECTORS)}")
        if min(self.distil_weight, self.label_weight) < 0:
            raise ValueError("weights of losses are at least 0")

    def loop(self, clips: int) -> LoopSettings:
        return LoopSettings.of_epochs(self, clips)


@dataclass(frozen=True, slots=True)
class SelectorRecipe:
    """Training a selector for a network that stays as it is: our choice.

    Attributes:
        epochs, batch, accumulate, recompute: as of :class:`TuningRecipe`.
        target: what the scores should be, see :mod:`training.targets.selection`; the method's is
            ``top1_distance``.
        map_temperature: of that target, standardised; see :func:`training.losses.map_loss`.
    """

    epochs: float = 5
    batch: int = 64
    accumulate: int = 1
    recompute: bool = False
    seed: int = 0
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warm_up: float = 0.1
    final_rate: float = 1e-3
    clip_gradient: float = 1.0
    target: str = "top1_distance"
    map_temperature: float = 1.0
    augmentation: Augmentation = Augmentation()  # noqa: RUF009, frozen

    def loop(self, clips: int) -> LoopSettings:
        return LoopSettings.of_epochs(self, clips)
