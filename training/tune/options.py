"""What `lookwhen train tune` and `lite` ask for: both train a network and a selector for it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from networks.checkpoint import holds_network
from training.datasets.command_line import mirror_options, source_arguments

POSITIVE = click.FloatRange(0, min_open=True)

# What both runs of a command are told alike.
COMMON = ("batch", "accumulate", "seed")

_Command = Callable[..., Any]


class SteppedRecipe(Protocol):
    """The fields of a recipe whose defaults are shown."""

    @property
    def batch(self) -> int: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


def _published(_context: click.Context, _parameter: click.Parameter, path: Path) -> Path:
    if path.is_dir():
        raise click.BadParameter(
            f"{path} is a folder: give the checkpoint that `lookwhen import --checkpoint FILE` "
            "writes beside a bundle"
        )
    if not holds_network(path):
        raise click.BadParameter(
            f"{path} holds no published network; `lookwhen import --checkpoint FILE` writes one"
        )
    return path


def network_arguments(command: _Command) -> _Command:
    """Give a command a published network's file ``checkpoint``, ``out``, and its clips."""
    return _all(
        (
            click.argument(
                "checkpoint", type=click.Path(exists=True, path_type=Path), callback=_published
            ),
            click.argument("out", type=click.Path(file_okay=False, path_type=Path)),
            source_arguments,
            mirror_options,
        ),
        command,
    )


def step_options(recipe: SteppedRecipe, *, rate_of: str) -> Callable[[_Command], _Command]:
    """Give a command `COMMON` and ``learning_rate``, whose defaults are those of ``recipe``."""
    options = (
        click.option(
            "--batch",
            type=click.IntRange(1),
            default=recipe.batch,
            show_default=True,
            help="Clips per step, of all processes together.",
        ),
        click.option(
            "--accumulate",
            type=click.IntRange(1),
            default=recipe.accumulate,
            show_default=True,
            help="Parts that a step's clips are taken in.",
        ),
        click.option("--seed", type=int, default=recipe.seed, show_default=True),
        click.option(
            "--learning-rate",
            type=POSITIVE,
            default=recipe.learning_rate,
            show_default=True,
            help=f"AdamW's peak, for the {rate_of}.",
        ),
    )
    return lambda command: _all(options, command)


def _all(decorators: Sequence[Callable[[_Command], _Command]], command: _Command) -> _Command:
    """As if they stood above the command in this order."""
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
