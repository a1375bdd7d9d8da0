"""What the steps of a tuning learn: the network at several K, then the selector."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bundle.tokens import tokens_to_keep
from model.layers import PreNormBlock
from networks.learned_selector import LearnedSelector
from networks.network import VideoNetwork
from networks.selecting import SelectingNetwork
from networks.selectors import ClipSelector, make_selector, selector_input
from training.datasets import Batch, Task
from training.loop import Objective
from training.losses import map_loss
from training.targets import SelectionTarget
from training.teachers import Teacher, TeacherFeatures
from training.tune.recipe import SelectorRecipe, TuningRecipe


class Tuning(Objective):
    """Answers at several K: like the dense answer of before, and right."""

    def __init__(
        self,
        network: VideoNetwork,
        task: Task | None,
        recipe: TuningRecipe,
        choose: Callable[[Batch], Tensor] | None = None,
    ) -> None:
        """Tune ``network``, in place.

        Args:
            network: what is trained; what it says now of all tokens is what is distilled.
            task: the labels' loss; None leaves labels out.
            recipe: what a step draws.
            choose: scores a batch's tokens, [B, N], in place of the recipe's selectors.

        Raises:
            ValueError: there is nothing to learn from.
        """
        super().__init__()
        if not recipe.distil_weight and (task is None or not recipe.label_weight):
            raise ValueError(
                "there is nothing to learn from: neither the dense answer nor labels that are "
                "the network's"
            )
        self.model = SelectingNetwork(network, None)
        self.task, self.recipe = task, recipe
        teacher = copy.deepcopy(network).requires_grad_(False).eval()
        # Where nn.Module does not see it: it is no part of the run's state.
        self._teacher = [teacher] if recipe.distil_weight else []
        self._choose = [choose] if choose is not None else []
        given = selector_input(network.config)
        self._choosers: dict[str, ClipSelector] = {
            name: make_selector(name, given) for name in recipe.select_by if name != "random"
        }

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe, config = self.recipe, self.model.config
        sparsities, by = drawn(recipe, step)
        scores = self._scores(by, batch)
        said: Tensor | None = None
        if self._teacher:
            (teacher,) = self._teacher
            said = dense_answer(teacher.to(batch.frames.device), batch.frames).softmax(dim=-1)
        kept = [tokens_to_keep(sparsity, config.tokens) for sparsity in sparsities]
        answers = self.model.sweep(batch.frames, batch.clip_small, kept, selection=scores)
        total, shown = batch.frames.new_zeros((), dtype=torch.float32), {}
        distilled = labelled = 0.0
        for answer in answers:
            if said is not None:
                spoken = F.log_softmax(answer.logits.float(), dim=-1)
                loss = F.kl_div(spoken, said, reduction="batchmean")
                total = total + recipe.distil_weight * loss
                distilled += loss.item()
            if self.task is not None and recipe.label_weight:
                dense = self.task.dense(batch.target, recipe.label_smoothing)
                loss = self.task.loss(answer.logits, dense)
                total = total + recipe.label_weight * loss
                labelled += loss.item()
        count = len(kept)
        if said is not None:
            shown["distil_loss"] = distilled / count
        if self.task is not None and recipe.label_weight:
            shown["label_loss"] = labelled / count
        return total / count, {**shown, "sparsest": max(sparsities)}

    def _scores(self, by: str, batch: Batch) -> Tensor:
        """What the step's tokens are chosen by, [B, N]."""
        if self._choose:
            chosen: Tensor = self._choose[0](batch)
            return chosen
        if by == "random":  # in training anew for each view
            shape = (len(batch.frames), self.model.config.tokens)
            return torch.rand(shape, device=batch.frames.device)
        scores: Tensor = self._choosers[by].to(batch.frames.device)(batch.clip_small)
        return scores


def drawn(recipe: TuningRecipe, step: int) -> tuple[tuple[float, ...], str]:
    """The sparsities of a step, different ones, densest first; and what selects.

    A pure function of its arguments, so that all processes and a resumed run draw the same.
    """
    rng = np.random.default_rng((recipe.seed, 3, step))
    chosen = rng.choice(len(recipe.sparsities), recipe.counts, replace=False)
    sparsities = tuple(sorted(recipe.sparsities[i] for i in chosen))
    return sparsities, recipe.select_by[int(rng.integers(len(recipe.select_by)))]


@torch.no_grad()
def dense_answer(network: VideoNetwork, frames: Tensor) -> Tensor:
    """Logits of all tokens, float32 [B, classes]."""
    positions = torch.arange(network.config.tokens, device=frames.device)
    logits: Tensor = network(network.tubelets(frames), positions.expand(len(frames), -1)).logits
    return logits.float()


@torch.no_grad()
def dense_features(network: VideoNetwork, frames: Tensor) -> Tensor:
    """All patch tokens after the last block: float32 [B, steps, rows, columns, D]."""
    config = network.config
    positions = torch.arange(config.tokens, device=frames.device).expand(len(frames), -1)
    x = network.embed(network.tubelets(frames), positions)
    rope = network.rotation(positions)
    for block in network.blocks:
        assert isinstance(block, PreNormBlock)
        x = block(x, rope)
    return x[:, config.prefix :].float().reshape(len(frames), *config.grid, -1)


class SelectorLearning(Objective):
    """A selector's scores against a target made from a network's, or a teacher's, features."""

    def __init__(
        self,
        selector: LearnedSelector,
        target: SelectionTarget,
        features: Callable[[Tensor], TeacherFeatures],
        recipe: SelectorRecipe,
    ) -> None:
        """``features``: of views, uint8 [B, T, H, W, 3], with the parts that the target needs."""
        super().__init__()
        self.selector = selector
        self.target, self.recipe = target, recipe
        self._features = [features]  # no part of the run's state

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        wanted = self.target(batch.frames, self._features[0](batch.frames))
        loss = map_loss(self.selector(batch.clip_small), wanted, self.recipe.map_temperature)
        return loss, {}


class OwnFeatures:
    """A network's own tokens as a teacher's patches."""

    def __init__(self, network: VideoNetwork) -> None:
        self.network = network.requires_grad_(False).eval()

    def __call__(self, frames: Tensor) -> TeacherFeatures:
        return TeacherFeatures(patches=dense_features(self.network.to(frames.device), frames))


class TeachersFeatures:
    """What a teacher gives of whole frames."""

    def __init__(self, teacher: Teacher, target: SelectionTarget) -> None:
        self.teacher, self.attention = teacher, "attention" in target.needs

    def __call__(self, frames: Tensor) -> TeacherFeatures:
        features: TeacherFeatures = self.teacher(frames, attention=self.attention)
        return features
