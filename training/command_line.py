"""What the commands of all trainings have in common: options, errors, and how they go about it."""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bundle.sampling import Views
from model.checkpoint import CheckpointError, read_config
from model.config import ModelConfig
from model.dinov3 import WeightsError
from networks.checkpoint import holds_network, read_network_config
from networks.config import NetworkConfig
from training.datasets import DataSetError
from training.prediction import Forecast, Machine, tell, warn
from training.processes import Processes, TrainingError, join_processes
from training.running import Running
from training.targets import UnknownTarget
from training.teachers import TeacherError

# What a person can do something about. Anything else is ours, and shows where it happened.
_FOR_PEOPLE = (
    CheckpointError,
    DataSetError,
    TeacherError,
    TrainingError,
    UnknownTarget,
    ValueError,
    WeightsError,
)


@contextmanager
def errors_for_people() -> Iterator[None]:
    """Errors that a person can do something about end the command with their text alone."""
    try:
        yield
    except _FOR_PEOPLE as error:
        raise click.ClickException(str(error)) from None


def run_training(
    train: Callable[[Processes], list[str]],
    predict: Callable[[int, int], Forecast | Sequence[Forecast]] | None,
    measured: Callable[[], ModelConfig | NetworkConfig] | None,
    *,
    device: str,
    machine: Machine | None,
) -> None:
    """Train, or say what that takes.

    Args:
        train: with these processes; gives what process 0 says at the end.
        predict: given how many processes there are, and the bytes of the numbers that their matrix
            products multiply, what each of its runs takes; None where it is not counted.
        measured: the network by which the device's throughput is measured; None as ``predict``.
        device: as for :func:`training.processes.choose_device`.
        machine: what to predict for; None to train.

    Raises:
        click.ClickException: what a person can do something about.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    def predicted(count: int, low: int) -> Sequence[Forecast]:
        assert predict is not None
        found = predict(count, low)
        return [found] if isinstance(found, Forecast) else found

    with errors_for_people():
        if machine is not None:
            assert measured is not None  # without a prediction there is no --predict
            tell(predicted(machine.gpus, machine.low), machine, device, measured())
            return
        with join_processes(device) as processes:
            if predict is not None:
                warn(functools.partial(predicted, processes.world), processes)
            said = train(processes)
    if processes.first:
        for line in said:
            click.echo(line)


def config_of(checkpoint: Path) -> ModelConfig | NetworkConfig:
    """The configuration of LookWhen's checkpoint, or of a published network's.

    Raises:
        CheckpointError: it is neither.
    """
    if holds_network(checkpoint):
        return read_network_config(checkpoint)
    return read_config(checkpoint)


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
