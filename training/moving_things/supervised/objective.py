"""What a step of training by labels learns, and the network that it is learnt by."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import ModelConfig, get_config
from training.hand_over import target_selects
from training.loop import Objective
from training.losses import map_loss
from training.moving_things.labels import LABELS, TURNING
from training.moving_things.supervised.recipes import SupervisedRecipe
from training.moving_things.supervised.views import Sample
from training.optimizers import optimizers_of


def build(recipe: SupervisedRecipe) -> tuple[LookWhen, list[Optimizer]]:
    """The model as the seed initialises it, and its optimisers."""
    torch.manual_seed(recipe.seed)
    config = dataclasses.replace(get_config(recipe.config), labels=LABELS)
    model = LookWhen(config, recipe.drop_path)
    model.selector.requires_grad_(recipe.train_selector)
    if not recipe.map_weight:
        model.selector.head.requires_grad_(False)  # nothing would tell it what to choose
    return model, optimizers_of(recipe, model)


@dataclass(frozen=True, slots=True)
class SupervisedStep:
    """What chance decides for one step, as a pure function of seed and step."""

    sparsity: float
    by_target: bool
    share: float  # of the batch's clips that the step is shown


def supervised_step(recipe: SupervisedRecipe, config: ModelConfig, step: int) -> SupervisedStep:
    """Draw the step's sparsity, whether the target selects, and how many clips it is shown."""
    rng = np.random.default_rng((recipe.seed, 1, step))
    progress = step / recipe.steps
    levels = np.linspace(config.lowest_sparsity, config.highest_sparsity, recipe.levels)
    if progress < recipe.sparse_until:
        levels = levels[recipe.levels // 2 :]
    sparsity = rng.choice(levels)
    share = 1.0
    if rng.random() < recipe.dense_share and progress >= recipe.sparse_until:
        sparsity = rng.choice(recipe.dense_sparsities)
        share = recipe.dense_batch
    by_target = target_selects(recipe.hand_over, progress, rng)
    return SupervisedStep(float(sparsity), by_target, share)


class Supervised(Objective):
    """Labels for extractor and head, the pixels' change for the selector."""

    def __init__(self, model: LookWhen, recipe: SupervisedRecipe) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe

    def forward(self, batch: Sample, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe, model = self.recipe, self.model
        drawn = supervised_step(recipe, model.config, step)
        rows = max(1, round(drawn.share * len(batch.label)))
        frames, small, change, moving, label = (tensor[:rows] for tensor in batch[:5])
        kept = tokens_to_keep(drawn.sparsity, model.config.tokens)
        predicted = model(
            frames,
            small,
            kept,
            selection=change if drawn.by_target else None,
        )
        pooled = model.head(predicted.features.patches.mean(dim=1))
        label_loss, pooled_loss = (
            self._label_loss(logits.float(), label) for logits in (predicted.logits, pooled)
        )
        with torch.no_grad():
            truly = moving.sum(dim=1)
            own = predicted.scores.float().topk(kept, dim=1).indices
            found = moving.gather(1, own).sum(dim=1)
            recall = (found / truly.clamp(min=1))[truly > 0]
            accuracy = (predicted.logits.argmax(dim=1) == label).float().mean()
        total = label_loss + recipe.pooled_weight * pooled_loss
        shown = {"label_loss": label_loss.item(), "pooled_loss": pooled_loss.item()}
        if recipe.map_weight:
            selector_loss = map_loss(predicted.scores, change, recipe.map_temperature)
            total = total + recipe.map_weight * selector_loss
            shown["map_loss"] = selector_loss.item()
        return total, {
            "accuracy": accuracy.item(),
            "recall": recall.mean().item() if len(recall) else 1.0,
            **shown,
            "sparsity": drawn.sparsity,
            "by_target": float(drawn.by_target),
        }

    def _label_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        recipe, ways = self.recipe, sorted(TURNING)
        loss = recipe.label_weight * F.cross_entropy(
            logits, label, label_smoothing=recipe.label_smoothing
        )
        turning = torch.isin(label, torch.tensor(ways, device=label.device))
        if recipe.turning_weight and turning.any():
            way = (label[turning] == ways[1]).long()
            loss = loss + recipe.turning_weight * F.cross_entropy(logits[turning][:, ways], way)
        return loss
