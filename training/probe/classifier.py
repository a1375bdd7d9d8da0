"""A linear classifier on features that do not change."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from training.datasets import DataSet, Task, split_off
from training.progress import Counter, uncounted


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How probes are trained: our choice, the paper says no more than "linear probe".

    AdamW from zero, a cosine down to nothing. The weight decay goes up to 10, where no weight can
    grow beyond a tenth: with a few hundred clips and as many features that is what generalises.

    learning_rates, weight_decays: every pair is tried.
    epochs: over the clips, but ``least_steps`` at least: the first steps of AdamW move all weights
        alike, whether their features tell much or nothing. batch: clips of a step.
    held_out: share of the training clips that pairs are compared on, split off by groups.
    seed: of that split and of the order.
    """

    learning_rates: tuple[float, ...] = (1e-3, 1e-2)
    weight_decays: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    epochs: int = 100
    least_steps: int = 1000
    batch: int = 1024
    held_out: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """A pair of the sweep, and what it reached on the part held out."""

    learning_rate: float
    weight_decay: float
    figure: float
    loss: float


class Probe(nn.Module):
    """Standardises features by the clips that it learns from, then a linear layer."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(dim=0))
        deviation = features.std(dim=0, correction=0)
        # What never changes says nothing, and must not be blown up where it does.
        flat = deviation <= 1e-6 * features.abs().amax(dim=0).clamp(min=1e-6)
        self.register_buffer("deviation", torch.where(flat, torch.inf, deviation))
        self.linear = nn.Linear(features.shape[1], outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[n, D] -> logits [n, C]."""
        logits: Tensor = self.linear((features - self.mean) / self.deviation)
        return logits


def fit(
    features: Tensor,
    targets: Tensor,
    task: Task,
    settings: ProbeSettings,
    *,
    learning_rate: float,
    weight_decay: float,
) -> Probe:
    """Train a probe on features [n, D], float32, and stacked targets, on their device."""
    probe = Probe(features, task.outputs).to(features.device)
    dense = task.dense(targets)
    optimizer = torch.optim.AdamW(
        [
            {"params": [probe.linear.weight], "weight_decay": weight_decay},
            {"params": [probe.linear.bias], "weight_decay": 0.0},
        ],
        lr=learning_rate,
    )
    per_epoch = -(-len(features) // settings.batch)
    steps = max(settings.least_steps, settings.epochs * per_epoch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.Generator().manual_seed(settings.seed)
    parts: list[Tensor] = []
    for _ in range(steps):
        if not parts:
            shuffled = torch.randperm(len(features), generator=order).to(features.device)
            parts = list(torch.split(shuffled, settings.batch))
        rows = parts.pop()
        optimizer.zero_grad()
        loss = task.loss(probe(features[rows]), dense[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return probe.eval()


def choose(
    features: Tensor,
    targets: Tensor,
    clips: DataSet,
    settings: ProbeSettings,
    *,
    count: Counter = uncounted,
) -> tuple[Probe, Trial]:
    """Find the best pair of the sweep on a part held out, then learn from all clips with it.

    The best is that with the highest headline figure; of equals the one with the lower loss.

    Args:
        features: [n, D], of the entries of ``clips``, in their order.
        targets: their stacked targets.
        count: shows how many of the sweep's classifiers are trained.

    Raises:
        DataSetError: too few groups to hold any out.
        ValueError: none of the clips held out has a class to measure by.
    """
    task, device = clips.task, features.device
    # The data set's split works on entries; their places are found again by number.
    places = {id(entry): place for place, entry in enumerate(clips.entries)}
    learnt, held = (
        torch.tensor([places[id(entry)] for entry in part.entries], device=device)
        for part in split_off(clips, settings.held_out, settings.seed)
    )
    trials: list[Trial] = []
    pairs = list(product(settings.learning_rates, settings.weight_decays))
    with count("classifiers", len(pairs) + 1) as advance:
        for learning_rate, weight_decay in pairs:
            probe = fit(
                features[learnt],
                targets[learnt],
                task,
                settings,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
            )
            with torch.inference_mode():
                logits = probe(features[held])
                loss = float(task.loss(logits, task.dense(targets[held])))
                figure = task.measure(task.probabilities(logits), targets[held])[task.headline]
            trials.append(Trial(learning_rate, weight_decay, figure, loss))
            advance()
        best = max(trials, key=lambda trial: (trial.figure, -trial.loss))
        probe = fit(
            features,
            targets,
            task,
            settings,
            learning_rate=best.learning_rate,
            weight_decay=best.weight_decay,
        )
        advance()
    return probe, best


def stacked_targets(dataset: DataSet, entries: Sequence[int]) -> Tensor:
    """Targets of these entries, as the task stacks them."""
    return torch.stack([dataset.task.target(dataset.entries[entry].labels) for entry in entries])
