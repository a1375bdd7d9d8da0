"""Options that several training commands have in common."""

import functools
from collections.abc import Callable
from typing import Any

import click

from bundle.sampling import Views
from training.running import Running


def loop_options(*, workers: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command what every loop can be told: ``workers``, ``running`` and ``device``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_running(
            *arguments: Any,
            save_minutes: float,
            save_every: int | None,
            compile_blocks: bool,
            **others: Any,
        ) -> Any:
            running = Running(save_minutes, save_every, compile_blocks)
            return command(*arguments, running=running, **others)

        told: Callable[..., Any] = with_running
        for option in (
            click.option(
                "--device", default="auto", show_default=True, help="cpu, cuda or cuda:1."
            ),
            click.option(
                "--compile",
                "compile_blocks",
                is_flag=True,
                help="Let torch compile the network's blocks: slow to start, then faster.",
            ),
            click.option(
                "--save-every", type=click.IntRange(1), help="Steps between saved states, too."
            ),
            click.option(
                "--save-minutes",
                type=click.FloatRange(0, min_open=True),
                default=Running().save_minutes,
                show_default=True,
                help="Minutes between saved states.",
            ),
            click.option(
                "--workers",
                type=click.IntRange(0),
                default=workers,
                show_default=True,
                help="Processes that decode clips.",
            ),
        ):
            told = option(told)
        return told

    return add


def parse_views(_context: click.Context, _parameter: click.Parameter, value: str) -> Views:
    """The callback of an option such as ``--views 4x3``."""
    try:
        return Views.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
