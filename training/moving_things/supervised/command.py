"""``lookwhen train builtin``: its options, and what it starts."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from model.config import CONFIGS, get_config
from startup.console import Command
from training.command_line import loop_options, run_training
from training.moving_things.supervised.prediction import predict_supervised
from training.moving_things.supervised.recipes import RECIPES
from training.moving_things.supervised.run import train
from training.prediction import Machine, predict_options
from training.processes import Processes
from training.running import Running


def _options() -> Iterator[click.Option]:
    """One option per field of the recipe that a person would turn."""
    for name, text in (
        ("config", "Shape of the network."),
        ("seed", "Seed of weights, order and augmentation."),
        ("steps", "Optimiser steps."),
        ("batch", "Clips per step."),
        ("learning_rate", "AdamW's peak learning rate."),
        ("matrix_learning_rate", "Muon's peak learning rate, for the matrices inside blocks."),
        ("map_weight", "Weight of the selector's loss; 0 switches it off."),
        ("dense_share", "Share of steps denser than the trained range."),
    ):
        given = getattr(RECIPES["default"], name)
        kind = click.Choice(list(CONFIGS)) if name == "config" else type(given)
        help_text = f"{text}  [default: the recipe's]"
        yield click.Option([f"--{name.replace('_', '-')}"], type=kind, help=help_text)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="default", show_default=True)
@click.option(
    "--start",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Checkpoint whose weights the run starts from.",
)
@predict_options
@loop_options(workers=1)
def main(
    data: Path,
    out: Path,
    recipe: str,
    start: Path | None,
    workers: int,
    running: Running,
    device: str,
    machine: Machine | None,
    **turned: Any,
) -> None:
    """Train the built-in model on the rendered clips in DATA; write it to OUT.

    OUT gets the state, the log and the checkpoint.
    """
    changes = {name: value for name, value in turned.items() if value is not None}
    chosen = dataclasses.replace(RECIPES[recipe], **changes)

    def go(processes: Processes) -> list[str]:
        checkpoint = train(
            chosen,
            data,
            out,
            processes=processes,
            workers=workers,
            running=running,
            start=start,
        )
        return [f"wrote {checkpoint}"]

    run_training(
        go,
        lambda processes, low: predict_supervised(chosen, processes=processes, low=low),
        lambda: get_config(chosen.config),
        device=device,
        machine=machine,
    )


main.params.extend(_options())
