"""``lookwhen train pretrain``: the command line."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from model.config import CONFIGS, get_config
from startup.console import Command
from training.command_line import errors_for_people, loop_options, run_training
from training.datasets import KINDS, DataSet, DataSetError, without_labels
from training.datasets.catalogue import OWN_KINDS
from training.datasets.command_line import Source, source_arguments
from training.prediction import (
    Forecast,
    Machine,
    predict_options,
    predict_pretraining,
    teacher_shape,
)
from training.pretrain.recipes import BY_CHANCE, RECIPES, PreTrainingRecipe
from training.pretrain.run import pretrain
from training.pretrain.start import Start
from training.processes import Processes
from training.running import Running
from training.sources import open_sources
from training.targets.nearest import METRICS
from training.teachers import TEACHERS


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
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
@click.option(
    "--backbone",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Local video teacher that selector and extractor start from.",
)
@click.option(
    "--stem",
    metavar="WEIGHTS",
    help="Weights of the stem, of a configuration that has one: a .pth file, or 'installed' for "
    "those of the extra teachers.",
)
@click.option("--config", type=click.Choice(list(CONFIGS)), help="Shape of the network.")
@click.option("--seed", type=click.IntRange(0), help="Of weights, order and augmentation.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes over the clips.")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps, instead of epochs.")
@click.option("--batch", type=click.IntRange(1), help="Clips per step, of all processes.")
@click.option("--accumulate", type=click.IntRange(1), help="Parts a process takes them in.")
@click.option(
    "--recompute/--no-recompute",
    default=None,
    help="Compute blocks again in the backward pass, to save memory (gradient checkpointing).",
)
@click.option("--learning-rate", type=float, help="AdamW's peak learning rate.")
@click.option(
    "--selection",
    help="The selector's target, such as top10_distance or attention. With random, chance selects "
    "in every step, and there is no map loss.",
)
@click.option(
    "--map-weight",
    type=click.FloatRange(0),
    help="Weight of the selector's loss against its target; 0 switches it off.",
)
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
@predict_options
@loop_options(workers=2)
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
    backbone: Path | None,
    stem: str | None,
    without_target: tuple[str, ...],
    workers: int,
    running: Running,
    device: str,
    machine: Machine | None,
    **turned: Any,
) -> None:
    """Pre-train on the clips of KIND at PATH; write state, log and checkpoint to OUT.

    Options without a default here have the recipe's.
    """
    changes = {name: value for name, value in turned.items() if value is not None}
    chosen = RECIPES[recipe]
    targets = dataclasses.replace(chosen.targets, **dict.fromkeys(without_target, False))
    map_weight = changes.pop("map_weight", None)
    if changes.get("selection") == BY_CHANCE:
        chosen = chosen.by_chance()
    if map_weight is not None:
        weights = dataclasses.replace(chosen.weights, map=map_weight)
        changes["weights"] = weights
    try:
        chosen = dataclasses.replace(chosen, targets=targets, **changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for name, given, stored in (("image", image, image_store), ("video", video, video_store)):
        if given and stored:
            raise click.UsageError(f"--{name} and --{name}-store both say what it tells")
    with errors_for_people():
        begin = Start(start, dinov3, backbone, stem)
    stores = {"image": image_store, "video": video_store}
    clips = functools.cache(
        lambda: _read(source, also, [path for path in stores.values() if path is not None])
    )

    def go(processes: Processes) -> list[str]:
        sources, dataset = open_sources(
            {"image": image, "video": video},
            stores,
            clips(),
            get_config(chosen.config),
            processes.device,
        )
        checkpoint = pretrain(
            chosen,
            dataset,
            out,
            processes=processes,
            **sources,
            workers=workers,
            running=running,
            lost_share=source.lost_share,
            start=begin.load(chosen),
            facts={"image": image and image[0], "video": video and video[0]},
        )
        return [f"wrote {checkpoint}"]

    run_training(
        go,
        lambda processes, low: _predict(chosen, len(clips()), processes, low, image, video),
        lambda: get_config(chosen.config),
        device=device,
        machine=machine,
    )


def _predict(
    recipe: PreTrainingRecipe,
    clips: int,
    gpus: int,
    low: int,
    image: tuple[str, str] | None,
    video: tuple[str, str] | None,
) -> Forecast:
    """What a run with these teachers takes; those whose features are stored look at nothing."""
    view = get_config(recipe.config)
    shapes = {
        role: given and teacher_shape(*given, view)
        for role, given in (("image", image), ("video", video))
    }
    predicted = predict_pretraining(recipe, clips, processes=gpus, low=low, **shapes)
    unknown = tuple(
        f"the teacher {given[0]} {given[1]}"
        for role, given in (("image", image), ("video", video))
        if given and shapes[role] is None
    )
    return dataclasses.replace(predicted, uncounted=unknown)


def _read(
    source: Source, also: Sequence[tuple[str, Path, str, str]], stores: Sequence[Path]
) -> DataSet:
    """One data set as it is, several as one.

    Raises:
        DataSetError: what the readers say, or features of one data set for several.
    """
    if not also:
        return _mirrored(source).read()
    if stores:
        raise DataSetError("stored features are of one data set; leave --also out")
    sources = [source]
    for kind, path, clips, split in also:
        sources.append(
            Source(
                kind,
                path,
                None if clips == "-" else Path(clips),
                None if split == "-" else split,
                lost_share=source.lost_share,
            )
        )
    return without_labels([_mirrored(one).read() for one in sources])


def _mirrored(source: Source) -> Source:
    """Clips of one's own are mirrored here: nothing is learnt of their labels, and the teachers see
    each view as it is."""
    return dataclasses.replace(source, flip=True) if source.kind in OWN_KINDS else source


if __name__ == "__main__":
    main(prog_name="python -P -m training.pretrain")
