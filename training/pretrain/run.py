"""A pre-training from its first step, or from the one that it was stopped at."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.config import get_config
from training.datasets import LOST_SHARE, Batch, Batches, DataSet, training_batches
from training.loop import run_loop
from training.optimizers import build_optimizers
from training.pretrain.objective import PreTraining
from training.pretrain.recipes import Recipe
from training.processes import Processes
from training.provenance import current_commit
from training.running import Running
from training.sources import FeatureSource
from training.teachers.features import data_digest


def pretrain(
    recipe: Recipe,
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
                lost_share=lost_share,
                rank=processes.rank,
                world=processes.world,
                pin=processes.pins,
            )
        )
        return seen[-1]

    identity = {
        **dataclasses.asdict(recipe),
        "steps": loop.steps,
        "clips": data_digest(dataset),
        "image": image and image.identity,
        "video": video and video.identity,
        "start": _digest(start),
    }
    checkpoint = out / "checkpoint.safetensors"
    ran = run_loop(
        objective,
        optimizers,
        load,
        loop,
        out,
        recipe=identity,
        processes=processes,
        running=running,
    )
    mine = {name for batches in seen for name in batches.ledger.lost}
    lost = sorted(set().union(*processes.gather(mine)))
    if processes.first and (ran or not checkpoint.exists()):
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
    processes.wait()
    return checkpoint


def _digest(start: LookWhen | None) -> str | None:
    """SHA-256 of the weights that a run starts from."""
    if start is None:
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(start.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
