"""A fine-tuning from its first step, or from the one that it was stopped at."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from networks.checkpoint import holds_network, load_network, save_network
from training.datasets import LOST_SHARE, Batch, Batches, DataSet, training_batches
from training.datasets.balance import balanced
from training.datasets.identity import labelled_identity
from training.datasets.loading import StepShare
from training.evaluation.validation import Checks, Measurable, Validation
from training.finetune.objective import FineTuning, Rows, network_with_head, with_head
from training.finetune.recipes import FineTuningRecipe
from training.finetune.stored_views import StoredViews, look_at_views
from training.frame import Run, carry_out
from training.processes import Processes
from training.progress import Counter, uncounted
from training.provenance import file_digest
from training.running import Running
from training.targets import pixel_change


class Sharing(NamedTuple):
    """Clips among which are those of several trainings, and the folder of their stored views."""

    clips: DataSet
    folder: Path


def finetune(
    recipe: FineTuningRecipe,
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
    sharing: Sharing | None = None,
    count: Counter = uncounted,
) -> Path:
    """Run the recipe, or the rest of it; returns the path of the last step's checkpoint.

    Args:
        start: checkpoint whose weights the run starts from: LookWhen's, or a published network's.
        train: clips to learn from.
        held: clips to validate on, every ``validate_every`` steps (0: never) and at the end, at
            the sparsities ``validate_at``.
        data: what provenance says of the clips; by default the data set's name.
        workers: processes that decode.
        lost_share: clips that may be unreadable.
        sharing: where stored views lie and of which clips they are, for several trainings that
            start alike and share them; by default those of ``train``, in ``out``.
        count: shows how far it is with views that are stored; the steps have a log of their own.

    Raises:
        CheckpointError: ``start`` cannot be read.
        DataSetError: more clips than that are unreadable.
        TrainingError, ValueError: see :func:`training.loop.run_loop` and :func:`with_head`.
    """
    model: Measurable
    if holds_network(start):
        network, before = load_network(start)
        model, optimizers = network_with_head(network, train.labels, recipe)
    else:
        parent, before = load_checkpoint(start)
        model, optimizers = with_head(parent, train.labels, recipe)
    save = partial(_save, model)
    stored: StoredViews | None = None
    if recipe.stored_views and isinstance(model, LookWhen) and model.config.stem is not None:
        sharing = sharing or Sharing(train, out / "views")
        stored, there = look_at_views(
            model,
            sharing.clips,
            sharing.folder,
            draws=recipe.stored_views,
            lowest=model.config.lowest_sparsity,
            augmentation=recipe.augmentation,
            seed=recipe.seed,
            weights=file_digest(start),
            device=processes.device,
            workers=workers,
            lost_share=lost_share,
            count=count,
        )
        train = train.where(set(there.entries).__contains__)
    shown = balanced(train, recipe.balance, recipe.seed, dict(recipe.emphasis))
    objective = FineTuning(model, train.task, recipe)

    def batches(share: StepShare) -> Batches:
        if stored is not None:
            return stored.batches(shown, share)
        return training_batches(
            shown,
            model.config,
            **share,
            augmentation=recipe.augmentation,
            lost_share=lost_share * len(train) / len(shown),
        )

    run = Run(
        name="training.finetune",
        recipe=recipe,
        loop=recipe.loop(len(train)),
        objective=objective,
        optimizers=optimizers,
        batches=batches,
        prepare=partial(_rows, patch=model.config.patch, with_change=recipe.map_weight > 0),
        identity={"start": file_digest(start), **labelled_identity(train)},
        data=f"{data or train.name}, {len(train)} clips",
        save=save,
        continues=before,
        more={"task": type(train.task).__name__, "mirror": train.mirror_by_label},
    )
    if held is not None:
        validation = Validation(
            held,
            model.config,
            validate_at,
            processes=processes,
            workers=workers,
            lost_share=lost_share,
        )
        objective.checks = Checks(validation, out, validate_every, run.loop.steps, run.facts, save)
    return carry_out(run, out, processes=processes, workers=workers, running=running)


def _save(model: Measurable, path: Path, facts: dict[str, Any]) -> None:
    if isinstance(model, LookWhen):
        save_checkpoint(model, path, facts)
    else:
        save_network(model.network, path, facts)


def _rows(batches: Iterable[Batch], *, patch: int, with_change: bool) -> Iterator[Rows]:
    """What a step learns from; the change in pixels is found by threads, one view each."""
    with ThreadPoolExecutor() as pool:
        for batch in batches:
            change = torch.empty(len(batch.frames), 0)
            if with_change:
                maps = pool.map(partial(pixel_change, patch=patch), batch.frames.numpy())
                change = torch.from_numpy(np.stack(list(maps)))
            yield Rows(batch.frames, batch.clip_small, batch.target, change)
