"""How a run is carried out. None of it changes what is learnt but for rounding."""

import warnings
from dataclasses import dataclass

import torch
from torch import nn

from model.layers import PreNormBlock
from training.processes import TrainingError


@dataclass(frozen=True, slots=True)
class Running:
    """What a command line says of a run beside its recipe; a stopped run may go on otherwise.

    Attributes:
        save_minutes: between saved states. A state is also saved at the end and on a signal.
        save_every: steps between saved states, in addition; None for none.
        compile: let torch compile the blocks, which takes a minute at first.
        seconds: after which the run ends, its state saved, wherever it is; None for never.
    """

    save_minutes: float = 10.0
    save_every: int | None = None
    compile: bool = False
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.save_minutes > 0:
            raise ValueError(f"the minutes between states must be above 0, got {self.save_minutes}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"the seconds of a run must be above 0, got {self.seconds}")

    def due(self, done: int, seconds: float) -> bool:
        """Whether a state is to be saved after ``done`` steps, ``seconds`` after the last one."""
        every = self.save_every is not None and done % self.save_every == 0
        return every or seconds >= 60 * self.save_minutes

    def over(self, seconds: float) -> bool:
        """Whether the run has to end, this number of seconds after it began."""
        return self.seconds is not None and seconds >= self.seconds


def recompute_blocks(module: nn.Module, recompute: bool) -> None:
    """Gradient checkpointing of every block within ``module``, on or off."""
    for block in module.modules():
        if isinstance(block, PreNormBlock):
            block.recompute = recompute


def compile_blocks(module: nn.Module, device: torch.device) -> None:
    """Let torch compile every block within ``module`` for any number of tokens.

    Blocks one by one: they are what a step consists of, and of any number of them the first is
    compiled alone. Weights keep their names.

    Raises:
        TrainingError: torch cannot compile here; the text has its reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(_twice)(torch.ones(3, device=device))
    # Whatever a compiler that is missing or broken raises.
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise TrainingError(
            f"torch.compile does not work on {device} here ({reason.strip()}); leave --compile out"
        ) from None
    for block in module.modules():
        if isinstance(block, PreNormBlock):
            block.compile_layers()


def _twice(x: torch.Tensor) -> torch.Tensor:
    return x.sin() * 2
