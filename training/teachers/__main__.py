"""``lookwhen train teachers``: train local teachers, store what a teacher says of clips."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from model.config import CONFIGS, get_config
from startup.console import Group
from training.baselines.config import DENSE_CONFIGS
from training.command_line import errors_for_people, loop_options, run_training
from training.datasets.command_line import Source, mirror_options, source_arguments
from training.prediction import (
    Forecast,
    Machine,
    predict_image_teacher,
    predict_options,
    predict_video_teacher,
)
from training.processes import Processes, join_processes
from training.progress import progress_bar
from training.running import Running
from training.targets import SELECTION_TARGETS
from training.teachers import TEACHERS, create_teacher
from training.teachers.distillation import IMAGE_RECIPES
from training.teachers.features import PARTS
from training.teachers.image import IMAGE_CONFIGS
from training.teachers.storing import (
    SHARD_CLIPS,
    clip_bytes,
    clips_of,
    fingerprint_of,
    store_features,
)
from training.teachers.train import train_image, train_video
from training.teachers.video import VIDEO_RECIPES

_OUT = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Local teachers, for where the published ones cannot be had; and stored features of any.

    Under torchrun, every process takes its part.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


def _training_options(
    recipes: dict[str, Any], configs: dict[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What both trainings can be told; options left out stay as the recipe has them."""
    options: list[Callable[..., Any]] = [
        click.option("--recipe", type=click.Choice(list(recipes)), default="mini16",
                     show_default=True),
        click.option("--config", type=click.Choice(list(configs)), help="Shape of the network."),
        click.option("--steps", type=click.IntRange(1), help="Optimiser steps."),
        click.option("--batch", type=click.IntRange(1), help="Rows per step, of all processes."),
        click.option("--accumulate", type=click.IntRange(1),
                     help="Parts that a batch is taken in, to save memory."),
        click.option("--seed", type=click.IntRange(0), help="Of weights, order and augmentation."),
        click.option("--learning-rate", type=float, help="AdamW's peak learning rate."),
        click.option("--matrix-learning-rate", type=float,
                     help="Muon's, for the matrices inside blocks."),
        predict_options,
        loop_options(workers=1),
    ]  # fmt: skip

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@main.command("train-image")
@click.argument("out", type=_OUT)
@source_arguments
@_training_options(IMAGE_RECIPES, IMAGE_CONFIGS)
def train_image_command(
    out: Path, source: Source, recipe: str, workers: int, running: Running, device: str,
    machine: Machine | None, **turned: Any,
) -> None:  # fmt: skip
    """Train an image teacher on frames of clips, without labels; write it to OUT.

    Clips are the data set of KIND in PATH, see `lookwhen train data check`. Started again, the
    run goes on.
    """
    _train(
        train_image, predict_image_teacher, IMAGE_RECIPES[recipe], out, source, workers, running,
        device, machine, turned,
    )  # fmt: skip


@main.command("train-video")
@click.argument("out", type=_OUT)
@source_arguments
@mirror_options
@_training_options(VIDEO_RECIPES, DENSE_CONFIGS)
@click.option(
    "--dense-from",
    type=click.FloatRange(0, 1),
    help="Share of the steps after which all tokens are seen.",
)
@click.option(
    "--start",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A LookWhen's checkpoint, whose extractor the run starts from.",
)
def train_video_command(
    out: Path, source: Source, recipe: str, workers: int, running: Running, device: str,
    machine: Machine | None, start: Path | None, **turned: Any,
) -> None:  # fmt: skip
    """Train a video teacher on labelled clips; write it to OUT.

    Clips are the data set of KIND in PATH, see `lookwhen train data check`. Started again, the
    run goes on.
    """
    run = functools.partial(train_video, start=start)
    _train(
        run, predict_video_teacher, VIDEO_RECIPES[recipe], out, source, workers, running, device,
        machine, turned,
    )  # fmt: skip


def _train(
    run: Callable[..., Path],
    predict: Callable[..., Forecast],
    recipe: Any,
    out: Path,
    source: Source,
    workers: int,
    running: Running,
    device: str,
    machine: Machine | None,
    turned: dict[str, Any],
) -> None:
    changes = {name: value for name, value in turned.items() if value is not None}
    with errors_for_people():
        recipe = dataclasses.replace(recipe, **changes)

    def go(processes: Processes) -> list[str]:
        path = run(
            recipe,
            source.read(),
            out,
            processes=processes,
            data=str(source),
            workers=workers,
            running=running,
            lost_share=source.lost_share,
        )
        return [f"wrote {path}"]

    run_training(
        go,
        lambda processes, low: predict(recipe, processes=processes, low=low),
        # What a GPU or a CPU does in a second depends little on which small ViT it is.
        lambda: get_config("lookwhen_mini16"),
        device=device,
        machine=machine,
    )


@main.command()
@click.argument("teacher", type=click.Choice(TEACHERS))
@click.argument("weights")
@click.argument("out", type=_OUT)
@source_arguments
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    help="Part to store; may be repeated.  [default: all that the teacher gives, but patches]",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    help=f"Selection target to store ready-made ({', '.join(SELECTION_TARGETS)}); may be repeated.",
)
@click.option(
    "--config",
    type=click.Choice(list(CONFIGS)),
    default="lookwhen_mini16",
    show_default=True,
    help="The network that will learn from it: it decides frames, size and patch.",
)
@click.option("--backend", default="transformers", show_default=True, help="Who runs DINOv3.")
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Clips at once."
)
@click.option(
    "--shard",
    type=click.IntRange(1),
    default=SHARD_CLIPS,
    show_default=True,
    help="Clips in a file; a killed run loses no more.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Processes that decode clips.",
)
@click.option("--device", default="auto", show_default=True)
def store(
    teacher: str,
    weights: str,
    out: Path,
    source: Source,
    parts: tuple[str, ...],
    targets: tuple[str, ...],
    config: str,
    backend: str,
    batch: int,
    shard: int,
    workers: int,
    device: str,
) -> None:  # fmt: skip
    """Store in OUT what TEACHER, with WEIGHTS, says of every clip of the data set.

    Features are of the view that a service takes of each clip: a training that learns from
    them cannot augment it. Started again, a killed run goes on.

    A clip of 16 x 128 x 128 with tokens 192 wide takes 0.4 kB for video, 6 kB for frames, 393 kB
    for patches, and 4 kB for attention and for each target. One of 16 x 224 x 224 with tokens 768
    wide takes 1.5 kB, 25 kB, 4.8 MB, and 12.5 kB: of Kinetics-400 the patches alone are 1.2 TB, a
    ready-made top1_distance is 3 GB.
    """
    with errors_for_people(), join_processes(device) as processes:
        dataset, chosen = source.read(), get_config(config)
        network = create_teacher(teacher, weights, backend=backend).to(processes.device)
        fingerprint = fingerprint_of(
            teacher, weights, dataset, chosen,
            parts=parts or (network.gives - {"patches"}), targets=targets, shard=shard,
        )  # fmt: skip
        console = Console(stderr=True)
        each = clip_bytes(network, chosen, fingerprint)
        if processes.first:
            kept = ", ".join((*fingerprint.parts, *fingerprint.targets))
            console.print(
                f"{kept} of {len(dataset)} clips: "
                f"{each / 1e3:.1f} kB a clip, {each * len(dataset) / 1e9:.2f} GB in all"
            )
        with progress_bar(console=console, disable=not processes.first) as bar:
            task = bar.add_task("storing", total=clips_of(fingerprint, processes))
            lost = store_features(
                network, dataset, chosen, fingerprint, out,
                processes=processes, batch=batch, workers=workers,
                lost_share=source.lost_share, progress=lambda n: bar.advance(task, n),
            )  # fmt: skip
        unreadable = len(lost)
        if processes.first:
            said = f", {unreadable} unreadable clips marked" if unreadable else ""
            click.echo(f"wrote {out}{said}")


if __name__ == "__main__":
    main(prog_name="python -P -m training.teachers")
