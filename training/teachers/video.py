"""How the local video teacher learns: a dense video ViT on labels, mostly on part of the tokens.

Attention over a whole clip is what a step costs most, and little of a clip moves. So until the last
part of a run the network sees some of the tokens: those whose pixels change most, and others by
chance, so that it gets to know what stands still too. Then it sees all of them, as a teacher will.

Source: our choice, because a dense run takes several times as long; that positions may be left out
in training and put back at its end is known from masked training of image models.

Shape letters: B clips, N tokens, K tokens that a step sees.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bundle.tokens import tokens_to_keep
from model.selection import gather_tokens, select_top_k
from training.baselines.dense import DenseViT
from training.datasets import Augmentation, Batch, Task, TopOne
from training.loop import LoopSettings, Objective
from training.targets import pixel_change


@dataclass(frozen=True, slots=True)
class VideoRecipe:
    """One training of a local video teacher, whole. Defaults: moving-things on two cores.

    Attributes:
        augmentation: of the clips; crops take most of the picture, for what happens must stay in,
            or are close-ups, for some of it is too fine to be found out otherwise.
        sparsities: of the steps on part of the tokens, one drawn per step. Few of them, because a
            CPU's kernels are compiled for each new shape. The lowest keeps 246 of 1024 tokens: from
            256 on, a CPU takes attention the slower way (``model.layers.attend``).
        changing: share of the kept tokens that are those which change most; chance takes the rest.
        dense_from: share of the steps after which all tokens are seen.
        dense_batch: share of the batch's clips that a dense step is shown.
        pooled_weight: of the loss of the mean patch token, which must tell the label through the
            same head: from scratch, tokens learn what they show long before the class token learns
            where to look.
    """

    config: str = "dense_mini16"
    augmentation: Augmentation = Augmentation(  # noqa: RUF009, frozen
        area=(0.7, 1.0), close_ups=0.5, close_up=(0.35, 1.0)
    )
    seed: int = 0
    steps: int = 4000
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3  # AdamW's
    matrix_learning_rate: float = 3e-3  # Muon's
    weight_decay: float = 0.05
    warm_up: float = 0.03
    final_rate: float = 1e-3
    clip_gradient: float = 1.0
    label_smoothing: float = 0.05
    drop_path: float = 0.0
    sparsities: tuple[float, ...] = (0.9, 0.85, 0.8, 0.76)
    changing: float = 0.6
    dense_from: float = 0.93
    dense_batch: float = 0.3
    pooled_weight: float = 0.5

    @property
    def loop(self) -> LoopSettings:
        return LoopSettings.of(self, self.steps)


VIDEO_RECIPES: dict[str, VideoRecipe] = {
    # lookwhen train teachers video RUN moving-things STORE
    # 128,000 clips. Measured: 24 ms of a core to decode one, 9 to 18 to learn from part of its
    # tokens, 250 from all of them (bfloat16, AVX-512), so about an hour on two cores that do
    # nothing else. The paper's video teacher is InternVideo2-B/14; it is what to use where it can
    # be had.
    "mini16": VideoRecipe(),
}


class ChangeBatch(NamedTuple):
    """A batch with where it changes.

    frames uint8 [B, T, H, W, 3]; change float [B, N], see ``pixel_change``; target, one per row, as
    the task stacks them; entry int64 [B]; lost, the clips that could not be read.
    """

    frames: Tensor
    change: Tensor
    target: Tensor
    entry: Tensor
    lost: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FindChange:
    """Adds the change of each token to a batch, in the process that decoded it."""

    patch: int
    tubelet: int

    def __call__(self, batch: Batch) -> ChangeBatch:
        frames = batch.frames.numpy()
        change = torch.from_numpy(np.stack([pixel_change(view, self.patch) for view in frames]))
        # A token of several frames changes as much as the one of them that changes most.
        steps = change.reshape(len(change), frames.shape[1] // self.tubelet, self.tubelet, -1)
        change = steps.amax(dim=2).flatten(1)
        return ChangeBatch(batch.frames, change, batch.target, batch.entry, batch.lost)


class VideoObjective(Objective):
    """Labels for the class token, and for the mean of the patch tokens."""

    def __init__(self, backbone: DenseViT, task: Task, recipe: VideoRecipe) -> None:
        super().__init__()
        self.backbone, self.task, self.recipe = backbone, task, recipe

    def forward(self, batch: ChangeBatch, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe, backbone, tokens = self.recipe, self.backbone, self.backbone.config.tokens
        sparsity = planned_sparsity(recipe, step)
        frames, change, target = batch.frames, batch.change, batch.target
        if sparsity == 0.0:
            rows = max(1, round(recipe.dense_batch * len(frames)))
            frames, change, target = frames[:rows], change[:rows], target[:rows]
        positions = drawn_positions(change, tokens_to_keep(sparsity, tokens), recipe.changing)
        x = backbone.embed(gather_tokens(backbone.tubelets(frames), positions), positions)
        rope = backbone.rotation(positions)
        for block in backbone.blocks:
            x = block(x, rope)
        x = backbone.norm(x)
        logits = backbone.head(x[:, 0])
        pooled = backbone.head(x[:, 1:].mean(dim=1))
        dense = self.task.dense(target, recipe.label_smoothing)
        label_loss, pooled_loss = self.task.loss(logits, dense), self.task.loss(pooled, dense)
        shown = {"label_loss": label_loss.item(), "pooled_loss": pooled_loss.item()}
        if isinstance(self.task, TopOne):
            shown["accuracy"] = (logits.argmax(dim=1) == target).float().mean().item()
        shown["sparsity"] = sparsity
        return label_loss + recipe.pooled_weight * pooled_loss, shown


def planned_sparsity(recipe: VideoRecipe, step: int) -> float:
    """The sparsity of a step, a pure function of seed and step; 0 in the dense part."""
    if step >= round(recipe.dense_from * recipe.steps) or not recipe.sparsities:
        return 0.0
    rng = np.random.default_rng((recipe.seed, 1, step))
    return float(rng.choice(recipe.sparsities))


def drawn_positions(change: Tensor, kept: int, changing: float) -> Tensor:
    """Tokens that a step sees: those that change most, and others by chance.

    Args:
        change: [B, N].
        kept: K, how many in all.
        changing: share of them that is taken by change.

    Returns:
        int64 [B, K], ascending.
    """
    by_change = change.topk(round(changing * kept), dim=1).indices
    # Chance lies below 1.
    return select_top_k(torch.rand_like(change).scatter(1, by_change, 2.0), kept)
