"""Options that several training commands have in common."""

from collections.abc import Callable
from typing import Any

import click

from bundle.sampling import Views


def loop_options(*, workers: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command what every loop can be told: ``workers``, ``save_every`` and ``device``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--device", default="auto", show_default=True, help="cpu, cuda or cuda:1."
            ),
            click.option(
                "--save-every",
                type=click.IntRange(1),
                default=100,
                show_default=True,
                help="Steps between saved states.",
            ),
            click.option(
                "--workers",
                type=click.IntRange(0),
                default=workers,
                show_default=True,
                help="Processes that decode clips.",
            ),
        ):
            command = option(command)
        return command

    return add


def parse_views(_context: click.Context, _parameter: click.Parameter, value: str) -> Views:
    """The callback of an option such as ``--views 4x3``."""
    try:
        return Views.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
