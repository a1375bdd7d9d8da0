"""Runs the recipes of the local teachers."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import load_checkpoint
from model.classifier import LookWhen
from training.baselines.config import get_dense_config
from training.baselines.dense import DenseViT
from training.datasets import LOST_SHARE, DataSet, training_batches
from training.datasets.identity import data_digest, labelled_identity
from training.frame import Run, carry_out
from training.optimizers import optimizers_of
from training.processes import Processes
from training.provenance import file_digest
from training.running import Running
from training.teachers.crops import crop_batches
from training.teachers.distillation import Distillation, ImageRecipe
from training.teachers.local import check_class_token, save_image_teacher, save_video_teacher
from training.teachers.teacher import TeacherError
from training.teachers.video import FindChange, VideoObjective, VideoRecipe


def train_image(
    recipe: ImageRecipe,
    dataset: DataSet,
    out: Path,
    *,
    processes: Processes,
    data: str = "",
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    lost_share: float = LOST_SHARE,
) -> Path:
    """Train an image teacher on frames of the clips, or go on with it; labels are not looked at.

    Args:
        out: folder for state, log and ``teacher.safetensors``.
        data: what the file says it was trained on; by default the data set's name.

    Returns:
        The teacher's file, for ``create_teacher("local_image", ...)``.

    Raises:
        TrainingError: see :func:`training.loop.run_loop`.
        TooManyLost: too many clips cannot be read.
        KeyError: no such configuration.
        ValueError: crops that do not divide into patches.
    """
    torch.manual_seed(recipe.seed)
    objective = Distillation(recipe)
    teacher = objective.teacher.backbone
    run = Run(
        name="training.teachers train-image",
        recipe=recipe,
        loop=recipe.loop,
        objective=objective,
        optimizers=optimizers_of(recipe, objective.student),
        batches=lambda share: crop_batches(
            dataset, recipe.crops, teacher.config.patch, **share, lost_share=lost_share
        ),
        identity={"clips": data_digest(dataset)},
        data=data or dataset.name,
        save=partial(save_image_teacher, teacher),
        file="teacher.safetensors",
        rows="pictures",
    )
    return carry_out(run, out, processes=processes, workers=workers, running=running)


def train_video(
    recipe: VideoRecipe,
    dataset: DataSet,
    out: Path,
    *,
    processes: Processes,
    data: str = "",
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    lost_share: float = LOST_SHARE,
    start: Path | None = None,
) -> Path:
    """Train a video teacher on labelled clips, or go on with it.

    Args:
        out: folder for state, log and ``teacher.safetensors``.
        start: a LookWhen's checkpoint whose extractor's weights the run starts from, see
            :func:`take_extractor`; random ones without it.
        data: what the file says it was trained on; by default the data set's name.

    Returns:
        The teacher's file, for ``create_teacher("local_video", ...)``.

    Raises:
        TeacherError: the clips have no labels, or the configuration has no class token.
        TrainingError: see :func:`training.loop.run_loop`.
        TooManyLost: too many clips cannot be read.
        KeyError: no such configuration.
        CheckpointError: ``start`` cannot be read.
    """
    if not dataset.labels:
        raise TeacherError(f"{dataset.name}: a video teacher learns from labels, there are none")
    torch.manual_seed(recipe.seed)
    config = get_dense_config(recipe.config)
    check_class_token(config)
    twin = dataclasses.replace(config.twin, labels=dataset.labels)
    backbone = DenseViT(dataclasses.replace(config, twin=twin), recipe.drop_path)
    before: dict[str, Any] = {}
    if start is not None:
        parent, before = load_checkpoint(start)
        take_extractor(backbone, parent)
    objective = VideoObjective(backbone, dataset.task, recipe)
    run = Run(
        name="training.teachers train-video",
        recipe=recipe,
        loop=recipe.loop,
        objective=objective,
        optimizers=optimizers_of(recipe, objective),
        batches=lambda share: training_batches(
            dataset,
            twin,
            **share,
            augmentation=recipe.augmentation,
            lost_share=lost_share,
            finish=FindChange(twin.patch, config.tubelet),
        ),
        identity={
            **labelled_identity(dataset),
            "start": None if start is None else file_digest(start),
        },
        data=data or dataset.name,
        save=partial(save_video_teacher, backbone),
        file="teacher.safetensors",
        continues=before,
    )
    return carry_out(run, out, processes=processes, workers=workers, running=running)


def take_extractor(backbone: DenseViT, parent: LookWhen) -> None:
    """Start a dense backbone from a LookWhen's extractor, and from its head where labels agree.

    The two differ in what stands before the patch tokens, so the class token starts anew.

    Raises:
        TeacherError: the two are of another shape.
    """
    twin = backbone.config.twin
    weights = {
        name.removeprefix("extractor."): tensor
        for name, tensor in parent.state_dict().items()
        if name.startswith("extractor.")
    }
    if parent.config.labels == twin.labels:
        weights |= {
            name: tensor for name, tensor in parent.state_dict().items() if name.startswith("head.")
        }
    own = backbone.state_dict()
    missing = sorted(own.keys() - weights.keys() - {"class_token", "head.weight", "head.bias"})
    wrong = sorted(
        name for name in weights if name not in own or own[name].shape != weights[name].shape
    )
    if missing or wrong:
        raise TeacherError(
            f"the extractor of {parent.config.name} does not fit {backbone.config.name}: "
            f"{(missing + wrong)[0]} differs"
        )
    backbone.load_state_dict({**own, **weights})
