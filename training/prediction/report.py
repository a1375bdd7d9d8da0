"""A prediction for people: a table, or a warning where a run does not fit its device."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import ModelConfig
from model.macs import cost
from networks.building import build_network
from networks.config import NetworkConfig
from networks.macs import cost as network_cost
from training.prediction.memory import Memory
from training.prediction.recipes import Forecast
from training.processes import Processes, choose_device, precision

_WORDS = {
    "weights": "weights, and their copies in bfloat16",
    "gradients": "gradients, and the buckets they are exchanged in",
    "optimizer": "the optimisers' moments",
    "teachers": "teachers' weights",
    "batch": "pixels",
    "targets": "what teachers said",
    "activations": "activations kept for the backward pass",
    "working": "the largest of what comes and goes",
    "reserve": "CUDA itself, and fragments",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run is predicted for.

    Attributes:
        gpus: that share a step.
        gigabytes: of each, in units of 10^9 bytes.
        teramacs: 10^12 multiply-accumulates that each does in a second, in training; None to
            measure this machine's device.
        low: bytes of a number in which matrices are multiplied.
    """

    gpus: int = 1
    gigabytes: float = 80.0
    teramacs: float | None = None
    low: int = 2


def predict_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--predict`` and what it is for; it gets ``machine``, None to run."""

    @functools.wraps(command)
    def with_machine(
        *arguments: Any,
        predict: bool,
        gpus: int,
        gpu_gigabytes: float,
        teramacs: float | None,
        dtype: str,
        **others: Any,
    ) -> Any:
        machine = Machine(gpus, gpu_gigabytes, teramacs, 2 if dtype == "bfloat16" else 4)
        return command(*arguments, machine=machine if predict else None, **others)

    told: Callable[..., Any] = with_machine
    for option in (
        click.option(
            "--dtype",
            type=click.Choice(["bfloat16", "float32"]),
            default="bfloat16",
            show_default=True,
            help="To predict for: what the GPUs multiply in.",
        ),
        click.option(
            "--teramacs",
            type=click.FloatRange(0, min_open=True),
            help="To predict for: 10^12 multiply-accumulates a second of each GPU.  "
            "[default: measured on this machine]",
        ),
        click.option(
            "--gpu-gigabytes",
            type=click.FloatRange(0, min_open=True),
            default=Machine().gigabytes,
            show_default=True,
            help="To predict for: memory of each GPU, in 10^9 bytes.",
        ),
        click.option(
            "--gpus",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="To predict for: GPUs that share a step.",
        ),
        click.option(
            "--predict", is_flag=True, help="Say what memory and time it takes, and do not run."
        ),
    ):
        told = option(told)
    return told


def fits(memory: Memory, gigabytes: float) -> bool:
    """Whether a run fits a device of this number of 10^9 bytes."""
    return memory.total <= gigabytes * 1e9


def tell(
    predictions: Sequence[Forecast],
    machine: Machine,
    device: str,
    config: ModelConfig | NetworkConfig,
) -> None:
    """Print what a command's runs take, and end it with an error where one does not fit.

    Args:
        device: as for :func:`training.processes.choose_device`; measured if the machine's
            throughput is not given.
        config: of the network that is measured.
    """
    if machine.teramacs is not None:
        throughput, measured = machine.teramacs * 1e12, "as given"
    else:
        chosen = choose_device(device)
        throughput = measure_throughput(config, chosen)
        measured = f"measured on {chosen} here, {config.name}"
    for prediction in predictions:
        _tell(prediction, machine, throughput, measured)
    for prediction in predictions:
        if not fits(prediction.memory, machine.gigabytes):
            advice = f"; {prediction.advice}" if prediction.advice else ""
            raise click.ClickException(f"does not fit{advice}")


def _tell(prediction: Forecast, machine: Machine, throughput: float, measured: str) -> None:
    memory = prediction.memory
    of = f"{prediction.title}: " if prediction.title else ""
    devices = f"on each of {prediction.processes} devices"
    table = Table(title=f"{of}{prediction.rows} rows at once {devices}")
    table.add_column("memory of a device")
    table.add_column("GB", justify="right")
    for field in (*(field.name for field in fields(Memory)), "reserve"):
        table.add_row(_WORDS[field], f"{getattr(memory, field) / 1e9:.1f}")
    table.add_row("in all", f"{memory.total / 1e9:.1f}", style="bold")
    Console().print(table)
    room = fits(memory, machine.gigabytes)
    click.echo(f"{'fits' if room else 'does not fit'} {machine.gigabytes:g} GB")
    for what in prediction.uncounted:
        click.echo(f"not counted: {what}")
    seconds = prediction.seconds(throughput)
    click.echo(
        f"{prediction.steps} steps of {prediction.batch} rows, "
        f"{prediction.macs / 1e12:.2f} TMAC a row: {_duration(seconds)} at "
        f"{throughput / 1e12:.3g} TMAC/s a device ({measured}), decoding not counted"
    )


def warn(predict: Callable[[int], Sequence[Forecast]], processes: Processes) -> None:
    """Say on stderr that a run probably does not fit the GPU that it is about to start on.

    Args:
        predict: from the bytes of a number in which the GPU multiplies matrices.
    """
    device = processes.device
    if device.type != "cuda" or not processes.first:
        return
    has = torch.cuda.get_device_properties(device).total_memory
    low = 2 if torch.cuda.is_bf16_supported(including_emulation=False) else 4
    prediction = max(predict(low), key=lambda one: one.memory.total)
    if not fits(prediction.memory, has / 1e9):
        click.echo(
            f"This run will probably not fit {device}: it takes about "
            f"{prediction.memory.total / 1e9:.0f} GB, and there are {has / 1e9:.0f}. "
            f"{prediction.advice}.",
            err=True,
        )


def measure_throughput(
    config: ModelConfig | NetworkConfig, device: torch.device, rows: int = 1
) -> float:
    """Multiply-accumulates a second of a real training step, forward and backward.

    Three steps of a network of this configuration on noise, after one to warm up; the fastest. Of a
    published network, which may be large and takes all tokens, two blocks on a quarter of them.
    """
    if isinstance(config, NetworkConfig):
        step, macs = _network_step(config, device, rows)
    else:
        step, macs = _lookwhen_step(config, device, rows)
    fastest = float("inf")
    for _ in range(4):
        begun = time.perf_counter()
        with precision(device):
            loss = step()
        torch.autograd.backward(loss)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - begun)
    return 3 * rows * macs / fastest


def _lookwhen_step(
    config: ModelConfig, device: torch.device, rows: int
) -> tuple[Callable[[], Tensor], int]:
    """A step's loss, and the multiply-accumulates of a row."""
    kept = tokens_to_keep(config.lowest_sparsity, config.tokens)
    model = LookWhen(config).to(device)
    T, S = config.frames, config.size
    frames = torch.randint(0, 256, (rows, T, S, S, 3), dtype=torch.uint8, device=device)
    small = frames[:, ::2, ::2, ::2].contiguous()

    def step() -> Tensor:
        predicted = model(frames, small, kept)
        loss: Tensor = predicted.logits.float().square().mean() + predicted.scores.float().mean()
        return loss

    return step, cost(config).at(kept)


def _network_step(
    config: NetworkConfig, device: torch.device, rows: int
) -> tuple[Callable[[], Tensor], int]:
    """The same of a published network."""
    config = dataclasses.replace(config, depth=2, pooler_depth=min(1, config.pooler_depth))
    kept = tokens_to_keep(0.75, config.tokens)
    network = build_network(config).to(device)
    patches = torch.randint(
        0, 256, (rows, kept, config.patch_values), dtype=torch.uint8, device=device
    )
    positions = torch.arange(kept, device=device).expand(rows, -1)

    def step() -> Tensor:
        loss: Tensor = network(patches, positions).logits.float().square().mean()
        return loss

    return step, network_cost(config).at(kept)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
