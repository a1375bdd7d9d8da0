"""A training by labels from its first step, or from the one that it was stopped at."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from training.datasets import read_dataset
from training.frame import Run, carry_out
from training.moving_things.store import ClipStore
from training.moving_things.supervised.objective import Supervised, build
from training.moving_things.supervised.recipes import SupervisedRecipe
from training.moving_things.supervised.views import supervised_batches
from training.processes import Processes
from training.provenance import file_digest
from training.running import Running


def train(
    recipe: SupervisedRecipe,
    data: Path,
    out: Path,
    *,
    processes: Processes,
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    start: Path | None = None,
) -> Path:
    """Run the recipe, or the rest of it; returns the checkpoint's path.

    Args:
        start: a checkpoint whose weights the run starts from, in place of random ones; a
            pre-trained one without labels will do.

    Raises:
        DataSetError: there is no store in ``data``.
        TrainingError: see :func:`training.loop.run_loop`.
        CheckpointError: ``start`` cannot be read, or is of another shape.
    """
    model, optimizers = build(recipe)
    before: dict[str, Any] = {}
    if start is not None:
        parent, before = load_checkpoint(start)
        # A pre-trained network has no labels yet: its head starts at random.
        same = dataclasses.replace(
            parent.config, labels=parent.config.labels or model.config.labels
        )
        if same != model.config:
            raise CheckpointError(f"{start}: is not of the shape {model.config.name}")
        model.load_state_dict(model.state_dict() | parent.state_dict())

    dataset, meta = read_dataset("moving-things", data), ClipStore(data).meta
    run = Run(
        name="training.supervised",
        recipe=recipe,
        loop=recipe.loop,
        objective=Supervised(model, recipe),
        optimizers=optimizers,
        batches=lambda share: supervised_batches(dataset, model.config, recipe.close_ups, **share),
        identity={
            "clips": f"{meta['clips']} of seed {meta['seed']}",
            "start": None if start is None else file_digest(start),
        },
        data=f"moving_things, {meta['clips']} clips of seed {meta['seed']}",
        save=partial(save_checkpoint, model),
        continues=before,
    )
    return carry_out(run, out, processes=processes, workers=workers, running=running)
