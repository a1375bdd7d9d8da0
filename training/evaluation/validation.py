"""Measuring a network while it is trained: a few sparsities, one view per clip."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen, Prediction
from networks.selecting import SelectedOutput, SelectingNetwork
from training.datasets import Batch, DataSet, evaluation_batches
from training.datasets.shapes import ViewConfig
from training.processes import Processes, precision

# What is measured: both answer views at several K.
Measurable = LookWhen | SelectingNetwork

# Decoded views up to this size, of each process, are kept for the next time: 2 GiB.
_KEEP = 1 << 31


@dataclass(frozen=True, slots=True)
class Measured:
    """One sparsity: tokens kept, clips that decoded, mean loss, and the task's figures."""

    sparsity: float
    kept: int
    clips: int
    loss: float
    figures: dict[str, float]


class Validation:
    """Measures networks on held-out clips, in the one view that a service takes by default.

    All processes of the run take part, each with its share of the clips, in the precision that the
    training has.

    Args:
        batch: clips at a time.
        workers: processes that decode.
        lost_share: of the clips that may be unreadable.
    """

    def __init__(
        self,
        dataset: DataSet,
        config: ViewConfig,
        sparsities: Sequence[float],
        *,
        processes: Processes,
        batch: int = 16,
        workers: int = 0,
        lost_share: float,
    ) -> None:
        self.dataset, self.sparsities, self.processes = dataset, tuple(sparsities), processes
        self._batches = evaluation_batches(
            dataset,
            config,
            batch=batch,
            workers=workers,
            lost_share=lost_share,
            rank=processes.rank,
            world=processes.world,
            pin=processes.pins,
        )
        clips = -(-len(dataset) // processes.world)
        view = 3 * config.frames * config.size**2
        self._keep = clips * view * 9 // 8 <= _KEEP
        self._kept: list[Batch] | None = None

    def batches(self) -> Iterable[Batch]:
        """This process's clips; decoded only once where they fit the memory set aside."""
        if not self._keep:
            return self._batches
        if self._kept is None:
            self._kept = list(self._batches)
        return self._kept

    def __call__(self, model: Measurable) -> list[Measured]:
        """Measure at every sparsity; the same in every process. Leaves ``model`` as it was.

        Raises:
            TooManyLost: more clips than may be are unreadable.
            ValueError: no clip could be read, or there is none with a class to measure by.
        """
        training = model.training
        model.eval()
        logits, targets = predict(model, self.batches(), self.sparsities, self.processes.device)
        model.train(training)
        shares = [share for share in self.processes.gather((logits, targets)) if len(share[1]) > 0]
        if not shares:
            raise ValueError(f"{self.dataset.name}: no clip to validate on could be read")
        together = torch.cat([share[1] for share in shares])
        task = self.dataset.task
        measured = []
        for number, sparsity in enumerate(self.sparsities):
            ours = torch.cat([share[0][number] for share in shares])
            measured.append(
                Measured(
                    sparsity=sparsity,
                    kept=tokens_to_keep(sparsity, model.config.tokens),
                    clips=len(together),
                    loss=float(task.loss(ours, task.dense(together))),
                    figures=task.measure(task.probabilities(ours), together),
                )
            )
        return measured


@torch.inference_mode()
def predict(
    model: Measurable, batches: Iterable[Batch], sparsities: Sequence[float], device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """Logits of every view at each sparsity, float32 [B, C] each, and the stacked targets.

    The selector runs once per view, the extractor once per sparsity.
    """
    kept = [tokens_to_keep(sparsity, model.config.tokens) for sparsity in sparsities]
    logits: list[list[Tensor]] = [[] for _ in kept]
    targets = []
    for batch in batches:
        targets.append(batch.target)
        with precision(device):
            answers: Iterator[Prediction | SelectedOutput] = model.sweep(
                batch.frames.to(device, non_blocking=True),
                batch.clip_small.to(device, non_blocking=True),
                kept,
            )
            for of_sparsity, predicted in zip(logits, answers, strict=True):
                of_sparsity.append(predicted.logits.float().cpu())
    if not targets:
        return [torch.empty(0) for _ in kept], torch.empty(0)
    return [torch.cat(of_sparsity) for of_sparsity in logits], torch.cat(targets)


class ValidationLog:
    """``validation.csv``: a row per validation and sparsity; it remembers which step was the best.

    The best is the highest headline figure, averaged over the sparsities; of equals that with the
    lower loss, because few clips make many equals. Rows beyond ``step``, which a run that goes on
    from there will measure again, are dropped.
    """

    def __init__(self, path: Path, headline: str, step: int) -> None:
        self.path, self.headline = path, headline
        self._rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
            self._write("w", self._rows)

    def add(self, step: int, measured: Sequence[Measured]) -> bool:
        """Write what was measured after ``step`` steps; True if nothing before was as good.

        A step that is there already is not written again.
        """
        if not any(int(row["step"]) == step for row in self._rows):
            rows = []
            for point in measured:
                figures = asdict(point)
                figures |= figures.pop("figures")
                rows.append({"step": str(step), **{k: f"{v:.6g}" for k, v in figures.items()}})
            self._write("a" if self._rows else "w", rows)
            self._rows += rows
        return self.best() == step

    def best(self) -> int:
        """The step that was best; of equals the first."""
        steps = dict.fromkeys(int(row["step"]) for row in self._rows)
        return max(steps, key=self._quality)

    def at(self, step: int) -> list[dict[str, str]]:
        """The rows of a step, as they stand in the file."""
        return [row for row in self._rows if int(row["step"]) == step]

    def _quality(self, step: int) -> tuple[float, float]:
        rows = self.at(step)
        headline, loss = (
            sum(float(row[name]) for row in rows) / len(rows) for name in (self.headline, "loss")
        )
        return headline, -loss

    def _write(self, mode: str, rows: Sequence[dict[str, str]]) -> None:
        if not rows:
            if mode == "w":
                self.path.unlink(missing_ok=True)
            return
        with self.path.open(mode, newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)


class Checks:
    """Measures while a run goes on, and keeps the best network as ``best.safetensors``.

    Args:
        out: folder of ``validation.csv`` and ``best.safetensors``.
        every: steps between two measurements, 0 for none but that at the end.
        last: how many steps the run has.
        facts: what the checkpoint says of a network, given the steps done.
        save: writes the network to a path, with these facts.
    """

    def __init__(
        self,
        validation: Validation,
        out: Path,
        every: int,
        last: int,
        facts: Callable[[int], dict[str, Any]],
        save: Callable[[Path, dict[str, Any]], None],
    ) -> None:
        self.validation, self.out, self.every, self.last = validation, out, every, last
        self.facts, self.save = facts, save
        self._log: ValidationLog | None = None

    def begin(self, done: int) -> None:
        """Go on after ``done`` steps."""
        if self.validation.processes.first:
            self.out.mkdir(parents=True, exist_ok=True)
            headline = self.validation.dataset.task.headline
            self._log = ValidationLog(self.out / "validation.csv", headline, done)

    def after(self, done: int, model: Measurable) -> None:
        """Measure after ``done`` steps, if it is time."""
        if done != self.last and not (self.every and done % self.every == 0):
            return
        measured = self.validation(model)
        if self._log is not None and self._log.add(done, measured):
            facts = {**self.facts(done), "validation": self._log.at(done)}
            self.save(self.out / "best.safetensors", facts)
