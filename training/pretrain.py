"""``python -m training.pretrain``: teach selector and extractor by distillation, without labels.

The selector learns which tokens an image teacher finds unlike all others of the clip
(top1_distance, or one of its rivals), the extractor what a video teacher says of the clip and what
an image teacher says of its frames, from the kept tokens alone. Both at once, one K per step.

Teachers look on the fly (``--image NAME WEIGHTS``) or have been stored
(``python -m training.teachers store``, then ``--image-store PATH``). With torchrun, any number of
processes share a step.

Source: paper section on pre-training, and LookWhere's losses where the paper is silent.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.tokens import tokens_to_keep
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig, get_config
from model.dinov3 import WeightsError, initialise_from_dinov3
from model.extractor import Features
from model.layers import Mlp, initialise
from training.datasets import (
    KINDS,
    Augmentation,
    Batch,
    Batches,
    DataSet,
    DataSetError,
    read_dataset,
    training_batches,
    without_labels,
)
from training.datasets.command_line import Source, source_arguments
from training.loop import LoopSettings, Objective, TrainingError, run_loop
from training.losses import LossWeights, extractor_losses, map_loss
from training.optimizers import build_optimizers
from training.processes import Processes, join_processes
from training.provenance import current_commit
from training.sources import FeatureSource, OnTheFly, open_stores
from training.targets import ExtractorTargets, selection_target
from training.targets.nearest import METRICS, Metric
from training.teachers import TEACHERS, TeacherError, create_teacher
from training.teachers.weights import read_weights


@dataclass(frozen=True, slots=True)
class Recipe:
    """One pre-training, whole. Defaults: the paper's, or LookWhere's where it is silent.

    Attributes:
        epochs: passes over the clips; ``steps``, where given, instead of them.
        learning_rate: AdamW's. Ours: neither paper states one that is published.
        matrix_learning_rate: Muon's for matrices inside blocks; None leaves them to AdamW.
        selection, metric: the selector's target, see training.targets.selection.
        selection_teacher: whose features that is made from, ``image`` or ``video``.
        map_temperature: of the standardised target (ours: distances between 0 and 2 through a
            softmax over thousands of tokens are almost uniform).
        targets, weights: the extractor's targets and what each loss counts.
        layer_norm_targets: bring each target vector to mean 0 and deviation 1, for teachers
            whose tokens have another scale than ours; that normalised over time has it already.
        hand_over: the target selects until the first, the selector from the second of these
            shares of the steps; (0, 0), as in LookWhere, suits weights that have learnt already.
        levels: K from this many sparsities, evenly over the range; None draws any (LookWhere's).
    """

    config: str = "lookwhen_b16"
    seed: int = 0
    epochs: float = 20.0
    steps: int | None = None
    batch: int = 1024
    accumulate: int = 1
    learning_rate: float = 2e-4
    matrix_learning_rate: float | None = None
    weight_decay: float = 0.05
    warm_up: float = 0.1
    final_rate: float = 5e-3
    clip_gradient: float = 1.0
    drop_path: float = 0.0
    selection: str = "top1_distance"
    metric: Metric = "cosine"
    selection_teacher: str = "image"
    map_temperature: float = 1.0
    targets: ExtractorTargets = field(default_factory=ExtractorTargets)
    weights: LossWeights = field(default_factory=LossWeights)
    layer_norm_targets: bool = False
    hand_over: tuple[float, float] = (0.0, 0.0)
    levels: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def loop(self, clips: int) -> LoopSettings:
        """The loop's part, for a data set of ``clips``."""
        steps = self.steps or max(1, round(self.epochs * clips / self.batch))
        return LoopSettings(
            steps=steps,
            batch=self.batch,
            accumulate=self.accumulate,
            seed=self.seed,
            warm_up=self.warm_up,
            final_rate=self.final_rate,
            clip_gradient=self.clip_gradient,
        )


RECIPES = {
    # The paper's: 20 epochs over Kinetics-400 and SSv2 from DINOv3 ViT-B/16, with InternVideo2-B/14
    # as video teacher, then fine-tuning; published 84.6 and 72.0 % at 70 %, 82.6 and 69.3 % at
    # 90 % sparsity (Kinetics-400 at 4x3 views, SSv2 at 2x3). About 409,000 clips:
    #   torchrun --nproc-per-node=8 -m training.pretrain runs/paper kinetics K400 K400/clips
    #     --split train --also ssv2 SSV2 SSV2/clips train --image dinov3_vitb16 DINOV3.pth
    #     --video internvideo2_b14 B14.bin --dinov3 DINOV3.pth
    "paper": Recipe(),
    # Small enough for two cores: local teachers, moving-things, from random weights.
    "mini": Recipe(
        config="lookwhen_mini16",
        epochs=2.0,
        batch=32,
        learning_rate=1e-3,
        matrix_learning_rate=3e-3,
        warm_up=0.02,
        final_rate=1e-3,
        weights=LossWeights(map=0.5),
        layer_norm_targets=True,
        hand_over=(0.1, 0.35),
        levels=7,
        augmentation=Augmentation(area=(0.8, 1.0)),
    ),
}


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What chance decides for one step, as a pure function of seed and step."""

    kept: int
    by_target: bool


def plan(recipe: Recipe, config: ModelConfig, step: int, steps: int) -> StepPlan:
    """Draw the step's K, and whether the target selects; every process draws the same."""
    rng = np.random.default_rng((recipe.seed, 1, step))
    low, high = config.lowest_sparsity, config.highest_sparsity
    if recipe.levels is None:
        sparsity = rng.uniform(low, high)
    else:
        sparsity = rng.choice(np.linspace(low, high, recipe.levels))
    start, end = recipe.hand_over
    by_target = rng.random() >= (step / steps - start) / max(1e-9, end - start)
    return StepPlan(tokens_to_keep(float(sparsity), config.tokens), bool(by_target))


class Heads(nn.Module):
    """From the extractor's tokens to what teachers say, one head per target.

    Source: the released checkpoint has two, D -> 4 D -> the target, for the video token's two
    targets. Frame and patch tokens are compared as they are where the widths agree, else through a
    linear map: our choice.
    """

    def __init__(
        self, config: ModelConfig, targets: ExtractorTargets, *, video: int, image: int
    ) -> None:
        """``video`` and ``image``: the teachers' widths."""
        super().__init__()
        D, hidden = config.width, config.mlp_ratio * config.width
        heads: dict[str, nn.Module] = {}
        if targets.video:
            heads["video"] = Mlp(D, hidden, video)
        if targets.change:
            heads["change"] = Mlp(D, hidden, config.frames * image)
        if targets.frames:
            heads["frames"] = nn.Identity() if image == D else nn.Linear(D, image)
        if targets.patches:
            heads["patches"] = nn.Identity() if image == D else nn.Linear(D, image)
        self.heads = nn.ModuleDict(heads)
        self.apply(initialise)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """The prediction for each target, of the target's shape ([B, K, D] for patches)."""
        tokens = {
            "video": features.video,
            "change": features.video,
            "frames": features.frames,
            "patches": features.patches,
        }
        return {name: head(tokens[name]) for name, head in self.heads.items()}


class PreTraining(Objective):
    """Selector and extractor learn at once, from what the sources say of each view."""

    def __init__(
        self,
        model: LookWhen,
        recipe: Recipe,
        steps: int,
        *,
        image: FeatureSource | None,
        video: FeatureSource | None,
    ) -> None:
        """Raises ValueError where a target has no source, KeyError for an unknown target."""
        super().__init__()
        self.model, self.recipe, self.steps = model, recipe, steps
        config = model.config
        self.selection = selection_target(recipe.selection, config.grid, metric=recipe.metric)
        self.sources = {"image": image, "video": video}
        self._check()
        self.heads = Heads(
            config,
            recipe.targets,
            video=video.width if video else 0,
            image=image.width if image else 0,
        )

    def _check(self) -> None:
        """Each target finds what it is made of, before the first clip is decoded."""
        targets = self.recipe.targets
        wanted = [
            ("the video target", "video", "video", targets.video),
            ("the change target", "image", "frames", targets.change),
            ("the frames target", "image", "frames", targets.frames),
            ("the patches target", "image", "patches", targets.patches),
        ]
        teacher = self.recipe.selection_teacher
        source = self.sources[teacher]
        # What is stored ready-made was computed with the default metric.
        known = source is not None and self.recipe.selection in source.targets
        self.ready = known and self.recipe.metric == METRICS[0]
        for part in sorted(self.selection.needs):
            wanted.append((self.recipe.selection, teacher, part, not self.ready))
        for what, name, part, needed in wanted:
            given = self.sources[name]
            if needed and (given is None or part not in given.gives):
                raise ValueError(f"{what} needs the {name} teacher's {part}")

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe, config = self.recipe, self.model.config
        drawn = plan(recipe, config, step, self.steps)
        with torch.no_grad():
            said = self._said(batch)
            target = self._selection_target(batch, said)
            targets = recipe.targets.build(
                config.grid, config.frames // 2, video=said["video"], image=said["image"]
            )
        if recipe.layer_norm_targets:
            done = {"change"} if recipe.targets.normalise else set()
            targets = {
                name: tensor if name in done else F.layer_norm(tensor, tensor.shape[-1:])
                for name, tensor in targets.items()
            }
        predicted = self.model(
            batch.frames,
            batch.clip_small,
            drawn.kept,
            selection=target if drawn.by_target else None,
        )
        losses = {"map": map_loss(predicted.scores, target, recipe.map_temperature)}
        losses |= extractor_losses(
            self.heads(predicted.features), targets, predicted.positions, config.grid
        )
        with torch.no_grad():
            own, best = (s.topk(drawn.kept, dim=1).indices for s in (predicted.scores, target))
            chosen = torch.zeros_like(target, dtype=torch.bool).scatter_(1, own, True)
            overlap = chosen.gather(1, best).float().mean().item()
        shown = {f"{name}_loss": loss.item() for name, loss in losses.items()}
        return recipe.weights.total(losses), {
            "overlap": overlap,
            **shown,
            "sparsity": 1 - drawn.kept / config.tokens,
            "by_target": float(drawn.by_target),
        }

    def _said(self, batch: Batch) -> dict[str, Any]:
        """What each teacher says of the batch; None where there is none."""
        of_target = self.recipe.selection_teacher
        return {
            name: None
            if source is None
            else source.features(
                batch.frames,
                batch.entry,
                attention=name == of_target and "attention" in self.selection.needs,
            )
            for name, source in self.sources.items()
        }

    def _selection_target(self, batch: Batch, said: Mapping[str, Any]) -> Tensor:
        teacher = self.recipe.selection_teacher
        source = self.sources[teacher]
        if source is not None and self.ready:
            return source.target(self.recipe.selection, batch.entry)
        return self.selection(batch.frames, said[teacher], seeds=batch.entry.tolist())


def train(
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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@source_arguments
@click.option(
    "--also",
    type=(click.Choice(KINDS), click.Path(path_type=Path), str, str),
    multiple=True,
    metavar="KIND PATH CLIPS SPLIT",
    help="Another data set to learn from; '-' for no CLIPS or SPLIT; may be repeated.",
)
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="paper", show_default=True)
@click.option(
    "--image", type=(click.Choice(TEACHERS), str), metavar="NAME WEIGHTS", help="Image teacher."
)
@click.option(
    "--video", type=(click.Choice(TEACHERS), str), metavar="NAME WEIGHTS", help="Video teacher."
)
@click.option("--image-store", type=click.Path(path_type=Path), help="Its stored features instead.")
@click.option("--video-store", type=click.Path(path_type=Path), help="Its stored features instead.")
@click.option(
    "--start", type=click.Path(dir_okay=False, path_type=Path), help="Checkpoint to start from."
)
@click.option(
    "--dinov3",
    type=click.Path(dir_okay=False, path_type=Path),
    help="DINOv3 weights that selector and extractor start from (DINOv3 License).",
)
@click.option("--config", type=click.Choice(list(CONFIGS)), help="Shape of the network.")
@click.option("--seed", type=int, help="Of weights, order and augmentation.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes over the clips.")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps, instead of epochs.")
@click.option("--batch", type=click.IntRange(1), help="Clips per step, of all processes.")
@click.option("--accumulate", type=click.IntRange(1), help="Parts a process takes them in.")
@click.option("--learning-rate", type=float, help="AdamW's peak learning rate.")
@click.option("--selection", help="The selector's target, such as top10_distance or attention.")
@click.option("--metric", type=click.Choice(METRICS), help="Of distances between features.")
@click.option(
    "--selection-teacher", type=click.Choice(["image", "video"]), help="Whose features it is from."
)
@click.option(
    "--without-target",
    type=click.Choice(["video", "change", "normalise", "frames", "patches"]),
    multiple=True,
    help="Switch a target of the extractor off, or its normalising over time; may be repeated.",
)
@click.option("--workers", default=2, show_default=True, help="Processes that decode clips.")
@click.option("--save-every", default=100, show_default=True, help="Steps between saved states.")
@click.option("--device", default="auto", show_default=True, help="Such as cpu, cuda or cuda:1.")
def main(
    out: Path,
    source: Source,
    also: tuple[tuple[str, Path, str, str], ...],
    recipe: str,
    image: tuple[str, str] | None,
    video: tuple[str, str] | None,
    image_store: Path | None,
    video_store: Path | None,
    start: Path | None,
    dinov3: Path | None,
    without_target: tuple[str, ...],
    workers: int,
    save_every: int,
    device: str,
    **turned: Any,
) -> None:
    """Pre-train on the clips of KIND at PATH; write state, log and checkpoint to OUT.

    Options without a default here have the recipe's.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    changes = {name: value for name, value in turned.items() if value is not None}
    chosen = RECIPES[recipe]
    targets = dataclasses.replace(chosen.targets, **dict.fromkeys(without_target, False))
    chosen = dataclasses.replace(chosen, targets=targets, **changes)
    if start and dinov3:
        raise click.UsageError("--start and --dinov3 both say where the weights come from")
    for name, given, stored in (("image", image, image_store), ("video", video, video_store)):
        if given and stored:
            raise click.UsageError(f"--{name} and --{name}-store both say what it tells")
    try:
        with join_processes(device) as processes:
            stores = [path for path in (image_store, video_store) if path is not None]
            dataset = _read(source, also, stores)
            sources, dataset = _sources(
                {"image": image, "video": video},
                {"image": image_store, "video": video_store},
                dataset,
                get_config(chosen.config),
                processes,
            )
            checkpoint = train(
                chosen,
                dataset,
                out,
                processes=processes,
                **sources,
                workers=workers,
                save_every=save_every,
                start=_start(chosen.config, start, dinov3),
                facts={"image": image and image[0], "video": video and video[0]},
            )
    except KeyError as error:
        raise click.ClickException(error.args[0]) from None
    except (
        CheckpointError,
        DataSetError,
        TeacherError,
        TrainingError,
        ValueError,
        WeightsError,
    ) as error:
        raise click.ClickException(str(error)) from None
    if processes.first:
        click.echo(f"wrote {checkpoint}")


def _read(
    source: Source, also: Sequence[tuple[str, Path, str, str]], stores: Sequence[Path]
) -> DataSet:
    """One data set as it is, several as one.

    Raises:
        DataSetError: what the readers say, or features of one data set for several.
    """
    if not also:
        return source.read()
    if stores:
        raise DataSetError("stored features are of one data set; leave --also out")
    datasets = [source.read()]
    for kind, path, clips, split in also:
        datasets.append(
            read_dataset(
                kind,
                path,
                clips=None if clips == "-" else Path(clips),
                split=None if split == "-" else split,
                missing_share=source.lost_share,
            )
        )
    return without_labels(datasets)


def _sources(
    teachers: Mapping[str, tuple[str, str] | None],
    stores: Mapping[str, Path | None],
    dataset: DataSet,
    config: ModelConfig,
    processes: Processes,
) -> tuple[dict[str, FeatureSource], DataSet]:
    """Where features come from, and the clips that there are features of."""
    stored = {name: path for name, path in stores.items() if path is not None}
    opened, dataset = open_stores(list(stored.values()), dataset, config)
    sources: dict[str, FeatureSource] = dict(zip(stored, opened, strict=True))
    for name, given in teachers.items():
        if given is not None:
            teacher = create_teacher(given[0], given[1])
            sources[name] = OnTheFly(teacher.to(processes.device))
    return sources, dataset


def _start(config: str, start: Path | None, dinov3: Path | None) -> LookWhen | None:
    """Weights to start from, if any.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is of another shape.
        WeightsError: not DINOv3's weights, or of another width.
    """
    wanted = get_config(config)
    if start is not None:
        model, _ = load_checkpoint(start)
        if dataclasses.replace(model.config, labels=()) != wanted:
            raise CheckpointError(f"{start}: is not of the shape {config}")
        return model
    if dinov3 is not None:
        model = LookWhen(wanted)
        initialise_from_dinov3(model, read_weights(dinov3))
        return model
    return None


if __name__ == "__main__":
    main()
