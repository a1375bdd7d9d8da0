"""What a step of fine-tuning learns, and the network that it is learnt by."""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen, Prediction
from model.resizing import at_size
from networks.building import build_network
from networks.config import NetworkConfig
from networks.network import VideoNetwork
from networks.selecting import SelectingNetwork
from networks.selectors import make_selector, selector_input
from training.datasets import Task
from training.datasets.shapes import ViewConfig
from training.evaluation.validation import Checks, Measurable
from training.finetune.recipes import FineTuningRecipe
from training.loop import Objective
from training.losses import map_loss
from training.mixing import draw_mixture, mix
from training.optimizers import build_optimizers, layer_scales
from training.targets import draw_kept


class Rows(NamedTuple):
    """frames and clip_small as in Batch; target as the task stacks them; change float32 [B, N],
    the map's target, or [B, 0] where there is no map loss."""

    frames: Tensor
    clip_small: Tensor
    target: Tensor
    change: Tensor


def finetuning_step(recipe: FineTuningRecipe, config: ViewConfig, step: int) -> tuple[float, float]:
    """The step's sparsity, and the share of its rows that it is learnt from.

    A pure function of its arguments, so that all processes and a resumed run draw the same.
    """
    rng = np.random.default_rng((recipe.seed, 1, step))
    if rng.random() < recipe.dense_share:
        return float(rng.choice(recipe.dense_sparsities)), recipe.dense_rows
    if isinstance(config, NetworkConfig):
        span = recipe.sparsities or (0.0, 0.0)  # as it was trained: dense
    else:
        span = (config.lowest_sparsity, config.highest_sparsity)
    if recipe.levels == 0:
        kept = draw_kept(config.tokens, span, recipe.seed, step)
        return 1 - kept / config.tokens, 1.0
    levels = np.linspace(*span, recipe.levels)
    return float(rng.choice(levels)), 1.0


class FineTuning(Objective):
    """The task's loss on the logits, and on the selector's map if that is to adapt."""

    def __init__(self, model: Measurable, task: Task, recipe: FineTuningRecipe) -> None:
        super().__init__()
        self.model, self.task, self.recipe = model, task, recipe
        self.checks: Checks | None = None

    def forward(self, batch: Rows, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe = self.recipe
        sparsity, share = finetuning_step(recipe, self.model.config, step)
        rows = max(1, round(share * len(batch.frames)))
        frames, small, target, change = (tensor[:rows] for tensor in batch)
        dense = self.task.dense(target, recipe.label_smoothing)
        if recipe.mixup:
            mixture = draw_mixture(rows, recipe.mixup, recipe.mixup_share)
            # Where two clips overlap, changes add up, unless they cancel.
            frames, small, dense, change = (
                mix(values, mixture) for values in (frames, small, dense, change)
            )
        kept = tokens_to_keep(sparsity, self.model.config.tokens)
        by_chance = None
        if recipe.select_by == "random":
            by_chance = torch.rand(rows, self.model.config.tokens, device=frames.device)
        predicted = self.model(frames, small, kept, selection=by_chance)
        loss = label_loss = self.task.loss(predicted.logits, dense)
        shown = {"label_loss": label_loss.item(), "sparsity": sparsity}
        if recipe.map_weight:
            assert isinstance(predicted, Prediction)  # published networks have no map
            selector_loss = map_loss(predicted.scores, change, recipe.map_temperature)
            loss = label_loss + recipe.map_weight * selector_loss
            shown["map_loss"] = selector_loss.item()
        return loss, shown

    def begun(self, step: int) -> None:
        if self.checks is not None:
            self.checks.begin(step)

    def stepped(self, step: int) -> None:
        if self.checks is not None:
            self.checks.after(step + 1, self.model)


def with_head(
    parent: LookWhen, labels: tuple[str, ...], recipe: FineTuningRecipe
) -> tuple[LookWhen, list[Optimizer]]:
    """The parent's weights under a head for the labels, and the optimisers of the recipe.

    A parent with a stem and without its summary gets one that says nothing yet.

    Raises:
        ValueError: fewer than two labels, a head is to be kept that is of other labels, or the
            recipe's size does not divide into patches.
    """
    if len(labels) < 2:
        raise ValueError(f"there are {len(labels)} classes; it takes two to tell apart")
    if recipe.keep_head and parent.config.labels != labels:
        raise ValueError("the checkpoint's head is of other labels than the data set's")
    if recipe.size is not None:
        parent = at_size(parent, recipe.size)
    config = dataclasses.replace(
        parent.config, labels=labels, stem_summary=parent.config.stem is not None
    )
    if recipe.sparsities is not None:
        lowest, highest = recipe.sparsities
        config = dataclasses.replace(config, lowest_sparsity=lowest, highest_sparsity=highest)
    torch.manual_seed(recipe.seed)
    model = LookWhen(config, recipe.drop_path)
    weights = parent.state_dict()
    if not recipe.keep_head:
        weights = {k: v for k, v in weights.items() if not k.startswith("head.")}
    model.load_state_dict({**model.state_dict(), **weights})
    if (summary := model.extractor.summary) is not None:
        summary.dropout.p = recipe.summary_dropout
        if not parent.config.stem_summary:  # the network answers as before until it has learnt
            torch.nn.init.zeros_(summary.projection.weight)
    if not recipe.train_selector:
        model.selector.requires_grad_(False)
    elif not recipe.map_weight:
        model.selector.head.requires_grad_(False)  # nothing would tell it what to choose
    return model, build_optimizers(
        model,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate if recipe.optimizer == "muon" else None,
        weight_decay=recipe.weight_decay,
        scales=layer_scales(model, config, recipe.layer_decay, selector=recipe.selector_rate),
    )


def network_with_head(
    parent: VideoNetwork, labels: tuple[str, ...], recipe: FineTuningRecipe
) -> tuple[SelectingNetwork, list[Optimizer]]:
    """The same for a published network; tokens, where some are left out, are those of ``group``.

    Raises:
        ValueError: fewer than two labels, a head is to be kept that is of other labels, or the
            recipe has what a published network has not: a selector to train, or another size.
    """
    if len(labels) < 2:
        raise ValueError(f"there are {len(labels)} classes; it takes two to tell apart")
    check_published(recipe, parent.config)
    if recipe.keep_head and parent.config.labels != labels:
        raise ValueError("the checkpoint's head is of other labels than the data set's")
    config = dataclasses.replace(parent.config, labels=labels)
    torch.manual_seed(recipe.seed)
    network = build_network(config, recipe.drop_path)
    weights = parent.state_dict()
    if not recipe.keep_head:
        weights = {k: v for k, v in weights.items() if not k.startswith("head.")}
    network.load_state_dict({**network.state_dict(), **weights})
    model = SelectingNetwork(network, make_selector("group", selector_input(config)))
    return model, build_optimizers(
        model,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate if recipe.optimizer == "muon" else None,
        weight_decay=recipe.weight_decay,
        scales=layer_scales(model, config, recipe.layer_decay),
    )


def check_published(recipe: FineTuningRecipe, config: NetworkConfig) -> None:
    """Refuse what a published network has not.

    Raises:
        ValueError: a selector to train, or another size.
    """
    if recipe.train_selector or recipe.size is not None:
        raise ValueError(
            f"{config.name} has a fixed size and no selector to train with it; "
            "`lookwhen train tune` trains one"
        )
