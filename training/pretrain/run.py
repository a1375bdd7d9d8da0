"""A pre-training from its first step, or from the one that it was stopped at."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.config import get_config
from training.datasets import Batch, Batches, DataSet, training_batches
from training.loop import run_loop
from training.optimizers import build_optimizers
from training.pretrain.objective import PreTraining
from training.pretrain.recipes import Recipe
from training.processes import Processes
from training.provenance import current_commit
from training.sources import FeatureSource


def pretrain(
    recipe: Recipe,
    dataset: DataSet,
    out: Path,
    *,
    processes: Processes,
    image: FeatureSource | None = None,
    video: FeatureSource | None = None,
    workers: int = 0,
    save_every: int = 100,
    start: LookWhen | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Run the recipe, or the rest of it; returns the checkpoint's path.

    The checkpoint is a LookWhen without labels: its logits are the video token.

    Args:
        start: a network to start from, on any device; random weights without it.
        facts: what else the checkpoint should say of its making.

    Raises:
        ValueError: a target without a teacher, or a batch that does not divide.
        TooManyLost: more clips cannot be read than may be.
        TrainingError: see :func:`training.loop.run_loop`.
    """
    torch.manual_seed(recipe.seed)
    config = dataclasses.replace(get_config(recipe.config), labels=())
    model = LookWhen(config, recipe.drop_path)
    if start is not None:
        weights = start.state_dict()
        model.load_state_dict({n: w for n, w in weights.items() if not n.startswith("head.")})
    commit = current_commit()
    loop = recipe.loop(len(dataset))
    objective = PreTraining(model, recipe, loop.steps, image=image, video=video)
    objective.to(processes.device)
    optimizers = build_optimizers(
        objective,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
    )
    plain = any(source is not None and source.plain_views_only for source in (image, video))
    seen: list[Batches] = []

    def load(first: int, last: int) -> Iterable[Batch]:
        seen.append(
            training_batches(
                dataset,
                config,
                batch=recipe.batch,
                seed=recipe.seed,
                first=first,
                last=last,
                workers=workers,
                augmentation=None if plain else recipe.augmentation,
                rank=processes.rank,
                world=processes.world,
            )
        )
        return seen[-1]

    run_loop(
        objective,
        optimizers,
        load,
        loop,
        out,
        recipe=dataclasses.asdict(recipe),
        processes=processes,
        save_every=save_every,
    )
    lost = sum(processes.gather(sum(len(batches.ledger.lost) for batches in seen)))
    checkpoint = out / "checkpoint.safetensors"
    if processes.first:
        save_checkpoint(
            model.cpu(),
            checkpoint,
            {
                "recipe": dataclasses.asdict(recipe),
                "name": "training.pretrain",
                "data": f"{dataset.name}, {len(dataset)} clips",
                "clips_seen": loop.steps * recipe.batch,
                "unreadable": lost,
                "commit": commit,
                **(facts or {}),
            },
        )
    return checkpoint
