"""A pre-training from its first step, or from the one that it was stopped at."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.config import get_config
from training.datasets import LOST_SHARE, DataSet, training_batches
from training.datasets.identity import data_digest
from training.frame import Run, carry_out
from training.optimizers import optimizers_of
from training.pretrain.objective import PreTraining
from training.pretrain.recipes import PreTrainingRecipe
from training.processes import Processes
from training.running import Running
from training.sources import FeatureSource


def pretrain(
    recipe: PreTrainingRecipe,
    dataset: DataSet,
    out: Path,
    *,
    processes: Processes,
    image: FeatureSource | None = None,
    video: FeatureSource | None = None,
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    lost_share: float = LOST_SHARE,
    start: LookWhen | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Run the recipe, or the rest of it; returns the checkpoint's path.

    The checkpoint is a LookWhen without labels: its logits are the video token.

    Args:
        lost_share: clips that may be unreadable.
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
    loop = recipe.loop(len(dataset))
    objective = PreTraining(model, recipe, loop.steps, image=image, video=video)
    plain = any(source is not None and source.plain_views_only for source in (image, video))
    run = Run(
        name="training.pretrain",
        recipe=recipe,
        loop=loop,
        objective=objective,
        optimizers=optimizers_of(recipe, objective),
        batches=lambda share: training_batches(
            dataset,
            config,
            **share,
            augmentation=None if plain else recipe.augmentation,
            lost_share=lost_share,
        ),
        identity={
            "steps": loop.steps,
            "clips": data_digest(dataset),
            "image": image and image.identity,
            "video": video and video.identity,
            "start": _digest(start),
        },
        data=f"{dataset.name}, {len(dataset)} clips",
        save=lambda path, facts: save_checkpoint(model.cpu(), path, facts),
        name_lost=True,
        more=facts or {},
    )
    return carry_out(run, out, processes=processes, workers=workers, running=running)


def _digest(start: LookWhen | None) -> str | None:
    """SHA-256 of the weights that a run starts from."""
    if start is None:
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(start.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
