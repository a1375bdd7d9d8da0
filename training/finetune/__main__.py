"""``lookwhen train finetune``: the command line."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from networks.config import NetworkConfig
from startup.console import Command
from training.command_line import config_of, errors_for_people, loop_options, run_training
from training.datasets import Augmentation
from training.datasets.command_line import Source, mirror_options, source_arguments
from training.finetune.objective import check_published
from training.finetune.recipes import RECIPES, FineTuningRecipe
from training.finetune.run import finetune
from training.prediction import (
    Forecast,
    Machine,
    predict_finetuning,
    predict_network_finetuning,
    predict_options,
)
from training.processes import Processes
from training.progress import counted
from training.running import Running

_Settings = TypeVar("_Settings", FineTuningRecipe, Augmentation)

_SHARE = click.FloatRange(0, 1)
_POSITIVE = click.FloatRange(0, min_open=True)


def _options() -> Iterator[click.Option]:
    """One option per field of the recipe that a person would turn."""
    texts: list[tuple[str, Any, str]] = [
        ("epochs", _POSITIVE, "How often a clip is seen."),
        ("batch", click.IntRange(1), "Clips per step, of all processes together."),
        ("accumulate", click.IntRange(1), "Parts that a step's clips are taken in."),
        ("seed", int, "Seed of the head, order and augmentation."),
        ("optimizer", click.Choice(["adamw", "muon"]), "Muon is for the matrices inside blocks."),
        ("learning_rate", float, "AdamW's peak learning rate."),
        ("matrix_learning_rate", float, "Muon's."),
        ("layer_decay", _SHARE, "Rate of a block, as a share of the next one's."),
        ("weight_decay", float, "Of matrices."),
        ("label_smoothing", _SHARE, "Of the targets."),
        ("mixup", click.FloatRange(0), "Alpha of mixup's Beta distribution, 0 for none."),
        ("mixup_share", _SHARE, "Clips that are mixed."),
        (
            "drop_path",
            click.FloatRange(0, 1, max_open=True),
            "Chance to skip the last block.",
        ),
        ("balance", _SHARE, "Show rare classes more often: 1, as often as the largest."),
        ("select_by", click.Choice(["selector", "random"]), "What chooses the tokens."),
        ("selector_rate", float, "The selector's rates, as a share of the extractor's."),
        ("map_weight", float, "Weight of the selector's loss against the change in pixels."),
        ("size", click.IntRange(1), "Pixels on a side of a view, in place of the checkpoint's."),
        ("levels", click.IntRange(0), "Sparsities that steps are drawn from, 0 for any."),
        ("dense_share", _SHARE, "Steps denser than the range."),
        (
            "stored_views",
            click.IntRange(0),
            "Views of a clip that a stem looks at once for all epochs; 0 looks in each step.",
        ),
        (
            "summary_dropout",
            click.FloatRange(0, 1, max_open=True),
            "Of what a stem's network adds to the video token.",
        ),
    ]
    for name, kind, text in texts:
        help_text = f"{text}  [default: the recipe's]"
        yield click.Option([f"--{name.replace('_', '-')}"], type=kind, help=help_text)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@source_arguments
@mirror_options
@click.option("--validation", type=click.FloatRange(0, 1, True, True), help="Share held out.")
@click.option("--validation-split", help="Split, or value in the index's column, held out.")
@click.option("--validate-every", type=click.IntRange(0), help="Steps.  [default: 20 times]")
@click.option(
    "--sparsity",
    "validate_at",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=(0.7, 0.9),
    show_default=True,
    help="To validate at; may be repeated.",
)
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="own", show_default=True)
@click.option(
    "--train-selector/--freeze-selector", default=None, help="[default: the recipe's, frozen]"
)
@click.option(
    "--emphasise",
    type=(str, click.FloatRange(1)),
    multiple=True,
    metavar="LABEL TIMES",
    help="Show a label this number of times as often; may be repeated.",
)
@click.option("--keep-head", is_flag=True, help="Go on with the checkpoint's head.")
@click.option(
    "--sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    nargs=2,
    help="Least and most that steps are drawn from.  [default: the checkpoint's]",
)
@click.option(
    "--crop-area", type=_SHARE, nargs=2, help="Least and most of the picture in a training view."
)
@click.option("--close-ups", type=_SHARE, help="Training views cut out around what changes.")
@click.option(
    "--close-up", type=_SHARE, nargs=2, help="Least and most of the short side in such a view."
)
@click.option("--colours", type=_SHARE, help="Largest change of brightness, contrast, saturation.")
@click.option(
    "--recompute/--no-recompute",
    default=None,
    help="Compute blocks again in the backward pass, to save memory (gradient checkpointing).",
)
@predict_options
@loop_options(workers=2)
def main(
    checkpoint: Path,
    out: Path,
    source: Source,
    validation: float | None,
    validation_split: str | None,
    validate_every: int | None,
    validate_at: tuple[float, ...],
    recipe: str,
    train_selector: bool | None,
    emphasise: tuple[tuple[str, float], ...],
    keep_head: bool,
    sparsities: tuple[float, float] | None,
    crop_area: tuple[float, float] | None,
    close_ups: float | None,
    close_up: tuple[float, float] | None,
    colours: float | None,
    workers: int,
    running: Running,
    device: str,
    machine: Machine | None,
    **turned: Any,
) -> None:
    """Train CHECKPOINT on the labels of a data set; write checkpoints to OUT.

    The data set is KIND PATH [CLIPS], as for `lookwhen train data check`. torchrun starts
    the command in several processes.
    """
    changes = {
        **turned,
        "train_selector": train_selector,
        "emphasis": emphasise or None,
        "keep_head": keep_head or None,
        "sparsities": sparsities,
    }
    views = {
        "area": crop_area,
        "close_ups": close_ups,
        "close_up": close_up,
        **dict.fromkeys(("brightness", "contrast", "saturation"), colours),
    }
    with errors_for_people():
        chosen = _changed(RECIPES[recipe], changes)
        chosen = dataclasses.replace(chosen, augmentation=_changed(chosen.augmentation, views))
    clips = functools.cache(
        lambda: source.read_with_held_out(
            split=validation_split, share=validation, seed=chosen.seed
        )
    )

    def predict(processes: int, low: int) -> Forecast:
        train, _ = clips()
        config = config_of(checkpoint)
        on = {"processes": processes, "low": low}
        if isinstance(config, NetworkConfig):
            check_published(chosen, config)
            config = dataclasses.replace(config, labels=train.labels)
            return predict_network_finetuning(chosen, config, len(train), **on)
        config = dataclasses.replace(config, labels=train.labels)
        return predict_finetuning(chosen, config, len(train), **on)

    def go(processes: Processes) -> list[str]:
        train, held = clips()
        steps = chosen.loop(len(train)).steps
        written = finetune(
            chosen,
            checkpoint,
            out,
            train,
            held,
            processes=processes,
            data=f"{train.name}, {source}",
            validate_at=validate_at,
            validate_every=max(1, steps // 20) if validate_every is None else validate_every,
            workers=workers,
            running=running,
            lost_share=source.lost_share,
            count=counted,
        )
        said = [f"wrote {written}"]
        if held is not None:
            said.append(f"best on {len(held)} clips: {out / 'best.safetensors'}")
        return said

    run_training(
        go,
        predict,
        lambda: config_of(checkpoint),
        device=device,
        machine=machine,
    )


def _changed(settings: _Settings, changes: dict[str, Any]) -> _Settings:
    """The settings with what was given on the command line."""
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(settings, **given)


main.params.extend(_options())

if __name__ == "__main__":
    main(prog_name="python -P -m training.finetune")
