"""A tuning from its first step, or from the one that it was stopped at."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from networks.checkpoint import load_network, save_network
from networks.config import NetworkConfig
from networks.learned_selector import LearnedSelector, LearnedSelectorConfig
from networks.network import VideoNetwork
from training.datasets import (
    LOST_SHARE,
    Augmentation,
    Batches,
    DataSet,
    Task,
    TopOne,
    training_batches,
)
from training.datasets.identity import data_digest, labelled_identity
from training.datasets.loading import StepShare
from training.evaluation.clips import fit_labels
from training.frame import Run, carry_out
from training.optimizers import adamw_of, layer_scales
from training.processes import Processes
from training.provenance import file_digest
from training.running import Running
from training.targets import selection_target
from training.teachers import TeacherFeatures, create_teacher
from training.teachers.features import weights_digest
from training.tune.objective import OwnFeatures, SelectorLearning, TeachersFeatures, Tuning
from training.tune.recipe import SelectorRecipe, TuningRecipe

TUNED_FILE = "tuned.safetensors"


def tune(
    start: Path,
    out: Path,
    train: DataSet,
    recipe: TuningRecipe,
    selector: SelectorRecipe | None,
    *,
    teacher: tuple[str, str] | None = None,
    processes: Processes,
    data: str = "",
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    lost_share: float = LOST_SHARE,
) -> Path:
    """Tune a network, then train a selector for it; returns the path of the result.

    Args:
        start: a file of :func:`networks.checkpoint.save_network`.
        out: folder of the selector's run and of the result; the network's run is in ``network/``.
        train: clips to learn from; labels count where they are the network's.
        recipe: of the network's tuning.
        selector: of the selector's training; None leaves it out.
        teacher: name and weights of the teacher that the selector learns from, in place of the
            network itself.
        data: what provenance says of the clips; by default the data set's name.
        workers: processes that decode.
        lost_share: clips that may be unreadable.

    Raises:
        CheckpointError: ``start`` cannot be read.
        TeacherError: the teacher cannot be had.
        TrainingError, ValueError: see :func:`training.loop.run_loop` and :class:`Tuning`.
    """
    network, before = load_network(start)
    train, task = fitted(network.config, train)
    said = f"{data or train.name}, {len(train)} clips"
    network.train()
    objective = Tuning(network, task, recipe)
    ran = Run(
        name="training.tune",
        recipe=recipe,
        loop=recipe.loop(len(train)),
        objective=objective,
        optimizers=adamw_of(
            recipe,
            objective.model,
            layer_scales(objective.model, network.config, recipe.layer_decay),
        ),
        batches=partial(batches_of, train, network.config, recipe.augmentation, lost_share),
        identity={
            "start": file_digest(start),
            **({"clips": data_digest(train)} if task is None else labelled_identity(train)),
        },
        data=said,
        save=partial(save_network, network),
        file="checkpoint.safetensors",
        continues=before,
        more={"sparsities": list(recipe.sparsities), "labels_used": task is not None},
    )
    tuned = carry_out(ran, out / "network", processes=processes, workers=workers, running=running)
    if selector is None:
        return tuned
    network, facts = load_network(tuned)
    return _train_selector(
        network, facts, tuned, out, train, selector, teacher=teacher, processes=processes,
        data=said, workers=workers, running=running, lost_share=lost_share,
    )  # fmt: skip


def _train_selector(
    network: VideoNetwork,
    facts: dict[str, Any],
    tuned: Path,
    out: Path,
    train: DataSet,
    recipe: SelectorRecipe,
    *,
    teacher: tuple[str, str] | None,
    processes: Processes,
    data: str,
    workers: int,
    running: Running,
    lost_share: float,
) -> Path:
    """The second run; its result holds the network too."""
    target = selection_target(recipe.target, network.config.grid)
    features: Callable[[Tensor], TeacherFeatures] = OwnFeatures(network)
    learnt_from = "its own features"
    if teacher is not None:
        name, weights = teacher
        features = TeachersFeatures(create_teacher(name, weights).to(processes.device), target)
        learnt_from = f"{name} {weights_digest(weights)}"
    elif target.needs - {"patches"}:
        raise ValueError(
            f"{recipe.target} needs a teacher's {', '.join(sorted(target.needs))}: name one with "
            "--image"
        )
    torch.manual_seed(recipe.seed)
    selector = LearnedSelector(LearnedSelectorConfig.of(network.config))

    def save(path: Path, made: dict[str, Any]) -> None:
        # The facts are the network's; how its selector was made stands beside them.
        own = {key: made[key] for key in ("recipe", "data", "steps", "clips_seen", "commit")}
        save_network(
            network, path, {**facts, "selector": {**own, "learnt_from": learnt_from}}, selector
        )

    ran = Run(
        name="training.tune selector",
        recipe=recipe,
        loop=recipe.loop(len(train)),
        objective=SelectorLearning(selector, target, features, recipe),
        optimizers=adamw_of(recipe, selector),
        batches=partial(batches_of, train, network.config, recipe.augmentation, lost_share),
        identity={
            "network": file_digest(tuned), "teacher": learnt_from, "clips": data_digest(train),
        },
        data=data,
        save=save,
        file=TUNED_FILE,
    )  # fmt: skip
    return carry_out(ran, out, processes=processes, workers=workers, running=running)


def batches_of(
    train: DataSet,
    config: NetworkConfig,
    augmentation: Augmentation,
    lost_share: float,
    share: StepShare,
) -> Batches:
    """A run's batches of some steps."""
    return training_batches(
        train, config, **share, augmentation=augmentation, lost_share=lost_share
    )


def fitted(config: NetworkConfig, dataset: DataSet) -> tuple[DataSet, Task | None]:
    """A data set numbered as the network is, and its task; no task where its labels are others."""
    known = set(config.labels)
    if not isinstance(dataset.task, TopOne) or not dataset.labels or set(dataset.labels) - known:
        return dataset, None
    numbered = fit_labels(dataset, config.labels)
    return numbered, numbered.task
