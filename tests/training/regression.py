"""A regression that the loop of every training runs in no time."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.loop import LoopSettings, Objective, run_loop
from training.optimizers import build_optimizers
from training.processes import Processes
from training.running import Running

ALONE = Processes(0, 1, torch.device("cpu"))
SETTINGS = LoopSettings(steps=6, batch=8, warm_up=0.2)


class Rows(NamedTuple):
    x: Tensor
    y: Tensor
    names: list[str]


class Regression(Objective):
    """Two layers that learn a fixed linear map; ``noise`` makes steps depend on chance."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 16)])})
        self.head = nn.Linear(16, 2)
        self.noise = noise
        self.seen: list[int] = []
        self.stepped_at: list[int] = []

    def forward(self, batch: Rows, step: int) -> tuple[Tensor, dict[str, float]]:
        self.seen.append(len(batch.x))
        x = batch.x + self.noise * torch.randn_like(batch.x)
        out = self.head(self.net["blocks"][0](x).relu())
        error = (out.float() - batch.y).square().mean()
        return error, {"error": error.item()}

    def stepped(self, step: int) -> None:
        self.stepped_at.append(step)


def rows(first: int, last: int, rank: int = 0, world: int = 1) -> Iterator[Rows]:
    weights = torch.arange(8.0).reshape(4, 2) / 8
    for step in range(first, last):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        yield Rows(x[rank::world], (x @ weights)[rank::world], ["a name"])


def optimizers(objective: Objective) -> list[torch.optim.Optimizer]:
    return build_optimizers(
        objective, learning_rate=0.05, matrix_learning_rate=0.05, weight_decay=0.01
    )


def go(
    out: Path,
    objective: Objective | None = None,
    settings: LoopSettings = SETTINGS,
    running: Running = Running(save_every=2),  # noqa: B008, frozen
    load: object = rows,
) -> Objective:
    objective = objective or Regression()
    run_loop(
        objective,
        optimizers(objective),
        load,  # type: ignore[arg-type]
        settings,
        out,
        recipe={"settings": str(settings)},
        processes=ALONE,
        running=running,
    )
    return objective
