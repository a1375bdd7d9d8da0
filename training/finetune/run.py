"""A fine-tuning from its first step, or from the one that it was stopped at."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.checkpoint import load_checkpoint, save_checkpoint
from training.datasets import LOST_SHARE, DataSet, training_batches
from training.datasets.balance import balanced
from training.finetune.objective import FineTuning, Rows, with_head
from training.finetune.recipes import Recipe
from training.loop import run_loop
from training.processes import Processes
from training.provenance import current_commit, file_digest
from training.running import Running
from training.targets import pixel_change
from training.teachers.features import data_digest, labels_digest
from training.validation import Checks, Validation


def finetune(
    recipe: Recipe,
    start: Path,
    out: Path,
    train: DataSet,
    held: DataSet | None = None,
    *,
    processes: Processes,
    data: str = "",
    validate_at: Sequence[float] = (0.7, 0.9),
    validate_every: int = 0,
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    lost_share: float = LOST_SHARE,
) -> Path:
    """Run the recipe, or the rest of it; returns the path of the last step's checkpoint.

    Args:
        start: checkpoint whose weights the run starts from.
        train: clips to learn from.
        held: clips to validate on, every ``validate_every`` steps (0: never) and at the end, at
            the sparsities ``validate_at``.
        data: what provenance says of the clips; by default the data set's name.
        workers: processes that decode.
        lost_share: clips that may be unreadable.

    Raises:
        CheckpointError: ``start`` cannot be read.
        DataSetError: more clips than that are unreadable.
        TrainingError, ValueError: see :func:`training.loop.run_loop` and :func:`with_head`.
    """
    parent, before = load_checkpoint(start)
    model, optimizers = with_head(parent, train.labels, recipe)
    settings = recipe.loop(len(train))
    shown = balanced(train, recipe.balance, recipe.seed, dict(recipe.emphasis))
    commit = current_commit()  # of the code that runs, not of what is there when it ends

    def facts(done: int) -> dict[str, Any]:
        return {
            "recipe": dataclasses.asdict(recipe),
            "name": "training.finetune",
            "task": type(train.task).__name__,
            "data": f"{data or train.name}, {len(train)} clips",
            "mirror": train.mirror_by_label,
            "commit": commit,
            "steps": done,
            "clips_seen": done * recipe.batch + int(before.get("clips_seen", 0)),
            "continues": before,
        }

    objective = FineTuning(model, train.task, recipe).to(processes.device)
    if held is not None:
        validation = Validation(
            held,
            model.config,
            validate_at,
            processes=processes,
            workers=workers,
            lost_share=lost_share,
        )
        objective.checks = Checks(validation, out, validate_every, settings.steps, facts)
    lost: set[str] = set()

    def load(first: int, last: int) -> Iterator[Rows]:
        if objective.checks is not None:
            objective.checks.begin(first)
        batches = training_batches(
            shown,
            model.config,
            batch=recipe.batch,
            seed=recipe.seed,
            first=first,
            last=last,
            workers=workers,
            augmentation=recipe.augmentation,
            lost_share=lost_share * len(train) / len(shown),
            rank=processes.rank,
            world=processes.world,
            pin=processes.pins,
        )
        with ThreadPoolExecutor() as pool:
            for batch in batches:
                change = torch.empty(len(batch.frames), 0)
                if recipe.map_weight:
                    maps = pool.map(
                        lambda view: pixel_change(view, model.config.patch), batch.frames.numpy()
                    )
                    change = torch.from_numpy(np.stack(list(maps)))
                yield Rows(batch.frames, batch.clip_small, batch.target, change)
        lost.update(batches.ledger.lost)

    identity = {
        **dataclasses.asdict(recipe),
        "start": file_digest(start),
        "clips": data_digest(train),
        "labels": labels_digest(train),
        "mirror": "never" if train.mirror is None else train.mirror_by_label,
    }
    checkpoint = out / "checkpoint.safetensors"
    ran = run_loop(
        objective,
        optimizers,
        load,
        settings,
        out,
        recipe=identity,
        processes=processes,
        running=running,
    )
    unreadable = len(set().union(*processes.gather(lost)))  # the log has their names
    if processes.first and (ran or not checkpoint.exists()):
        save_checkpoint(model, checkpoint, {**facts(settings.steps), "unreadable": unreadable})
    processes.wait()
    return checkpoint
