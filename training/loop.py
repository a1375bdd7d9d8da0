"""The loop that every training runs: steps, processes, state on disk, log, progress.

What is learned is an :class:`Objective`. The loop knows nothing of clips: it takes batches, steps
the optimisers, and writes ``state.safetensors`` and ``log.csv`` as it goes. Started again with the
same arguments it goes on from the state, and the log is that of a run that was never stopped.
"""

import csv
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.progress import TaskID, TextColumn
from rich.table import Column
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from training.optimizers import set_rate
from training.processes import Processes, precision
from training.processes import TrainingError as TrainingError
from training.progress import progress_bar, that_fit
from training.resuming import resume
from training.running import Running, compile_blocks, recompute_blocks
from training.state import save_state


class DivergedError(TrainingError):
    """The loss or its gradient is no longer a number."""


class Stopped(TrainingError):
    """The run was asked to end; its state is saved."""


class OutOfTime(Stopped):
    """The time that the run was given is over; its state is saved."""


class Objective(nn.Module, ABC):
    """What a run learns: a network, with what it is compared to.

    Everything with a ``state_dict`` entry is part of the run's state: put frozen networks, such as
    teachers, where ``nn.Module`` does not see them.
    """

    @abstractmethod
    def forward(self, batch: Any, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss, a mean over the batch's rows, and what to log beside it.

        Whatever chance decides must follow from ``step``, or from torch's global generator, which
        the loop seeds for each step: otherwise a resumed run is another run.
        """

    def begun(self, step: int) -> None:
        """Called before the first of the steps that are still to run."""

    def stepped(self, step: int) -> None:
        """Called after the optimisers' step; a moving average of weights belongs here."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a loop runs; the part of a recipe that all trainings share.

    Attributes:
        steps: of the optimisers.
        batch: rows per step, of all processes together.
        accumulate: parts that a process takes its rows in, one after the other, to save memory.
        recompute: keep only each block's input for the backward pass, which computes the rest
            again: a fifteenth of the memory, and a third more time.
        seed: of what chance decides within a step.
        warm_up: share of the steps in which the rates rise.
        final_rate: share of the peak rates that the cosine ends at.
        clip_gradient: largest norm of all gradients together.
    """

    steps: int
    batch: int
    accumulate: int = 1
    recompute: bool = False
    seed: int = 0
    warm_up: float = 0.1
    final_rate: float = 1e-3
    clip_gradient: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @classmethod
    def of(cls, recipe: Any, steps: int) -> "LoopSettings":
        """The loop's part of a recipe, by the names of its fields; what it has not is default."""
        names = {field.name for field in fields(cls)} - {"steps"}
        given = {name: getattr(recipe, name) for name in names if hasattr(recipe, name)}
        return cls(steps, **given)

    @classmethod
    def of_epochs(cls, recipe: Any, clips: int) -> "LoopSettings":
        """The same for a recipe that says how often each of ``clips`` clips is seen on average."""
        return cls.of(recipe, max(1, round(recipe.epochs * clips / recipe.batch)))


def rate(settings: LoopSettings, step: int) -> float:
    """Share of the peak rates at a step: linear warm-up, then a cosine down to the final share."""
    warm = max(1, round(settings.warm_up * settings.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    return settings.final_rate + (1 - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * done))


def run_loop(
    objective: Objective,
    optimizers: Sequence[Optimizer],
    load: Callable[[int, int], Iterable[Any]],
    settings: LoopSettings,
    out: Path,
    *,
    recipe: Mapping[str, Any],
    processes: Processes,
    running: Running = Running(),  # noqa: B008, frozen
) -> int:
    """Run the steps that are still to run; returns how many were.

    Args:
        objective: on its device; trained in place.
        load: ``load(first, last)`` yields this process's rows of each of those steps, as a named
            tuple; its tensors have the rows as their first dimension. Same steps, same rows.
        out: folder for ``state.safetensors`` and ``log.csv``.
        recipe: what the run is, as JSON; a state of another recipe is refused.
        running: how it is carried out; a run that goes on may be carried out otherwise.

    Raises:
        ValueError: the batch does not divide among the processes and their parts.
        TrainingError: the state in ``out`` is of another recipe or damaged, processes disagree
            about the run, see :func:`training.resuming.agree`, or torch cannot compile here.
        DivergedError: the loss or its gradient is not a number; the last good state is kept.
        Stopped: SIGTERM or SIGINT came; the state after the step that was under way is saved.
        OutOfTime: the run's seconds are over; likewise.
    """
    if settings.batch % (processes.world * settings.accumulate):
        raise ValueError(
            f"a batch of {settings.batch} does not divide among {processes.world} processes "
            f"in {settings.accumulate} parts each"
        )
    state = out / "state.safetensors"
    # How the memory is spent is not what the run is.
    facts = {"recipe": {name: value for name, value in recipe.items() if name != "recompute"}}
    first = resume(state, facts["recipe"], objective, optimizers, processes)
    recompute_blocks(objective, settings.recompute)
    if running.compile:
        compile_blocks(objective, processes.device)
    wrapped = processes.wrap(objective)
    objective.train()
    with (
        _Log(out / "log.csv", first, processes.first) as log,
        _Bar(settings, first, processes.first) as bar,
        _asked_to_stop() as asked,
    ):
        saved = began = time.monotonic()
        objective.begun(first)
        for step, batch in enumerate(load(first, settings.steps), start=first):
            set_rate(optimizers, rate(settings, step))
            torch.manual_seed(
                (settings.seed * settings.steps + step) * processes.world + processes.rank
            )
            try:
                shown = _gradients(objective, wrapped, batch, step, settings, processes)
            except torch.OutOfMemoryError:
                rows = settings.batch // (processes.world * settings.accumulate)
                raise TrainingError(
                    f"{processes.device} has not enough memory for {rows} rows at once; a larger "
                    "--accumulate takes fewer at a time, and --recompute keeps less of each"
                ) from None
            over = running.over(time.monotonic() - began)
            # Processes may hear of a signal at different steps; they stop at the same one.
            stop = processes.mean({"stop": float(bool(asked) or over)})["stop"] > 0
            norm = nn.utils.clip_grad_norm_(objective.parameters(), settings.clip_gradient)
            for name, value in (("loss", shown["loss"]), ("norm of the gradient", norm.item())):
                if not math.isfinite(value):
                    kept = (
                        f"the last good state is in {state}" if state.exists() else "no state yet"
                    )
                    raise DivergedError(
                        f"the {name} is {value} at step {step}; {kept}. Try a lower learning rate."
                    )
            for optimizer in optimizers:
                optimizer.step()
            objective.stepped(step)
            log.write(step, shown)
            bar.show(step, shown)
            done = step + 1
            due = running.due(done, time.monotonic() - saved) or done == settings.steps or stop
            if processes.first and due:
                save_state(state, objective, optimizers, done, facts)
                saved = time.monotonic()
            if stop and done < settings.steps:
                processes.wait()  # the first to end must not take the one that saves with it
                kind = OutOfTime if over and not asked else Stopped
                raise kind(f"stopped after step {step}; the same command goes on from {state}")
    processes.wait()
    return settings.steps - first


def _gradients(
    objective: Objective,
    wrapped: Any,
    batch: Any,
    step: int,
    settings: LoopSettings,
    processes: Processes,
) -> dict[str, float]:
    """Leave the step's gradients in the parameters; returns the figures, averaged."""
    objective.zero_grad(set_to_none=True)
    parts = settings.accumulate
    total: dict[str, float] = {}
    for part in range(parts):
        rows = to_device(part_of(batch, part, parts), processes.device)
        # Gradients travel between processes once a step, with the last part.
        several = isinstance(wrapped, DistributedDataParallel)
        with wrapped.no_sync() if several and part < parts - 1 else nullcontext():
            with precision(processes.device):
                loss, shown = wrapped(rows, step)
            (loss / parts).backward()
        for name, value in {"loss": loss.item(), **shown}.items():
            total[name] = total.get(name, 0.0) + value / parts
    return processes.mean(total)


def part_of(batch: Any, part: int, parts: int) -> Any:
    """Rows of one part of a named tuple of tensors; what is no tensor stays whole.

    Raises:
        ValueError: the rows do not divide.
    """
    if parts == 1:
        return batch

    def rows(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if len(value) % parts:
            raise ValueError(f"{len(value)} rows do not divide into {parts} parts")
        size = len(value) // parts
        return value[part * size : (part + 1) * size]

    return type(batch)(*map(rows, batch))


def to_device(batch: Any, device: torch.device) -> Any:
    """The tensors of a named tuple on a device; what is no tensor stays as it is."""
    return type(batch)(
        *(
            value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for value in batch
        )
    )


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Signals to end are noted and heeded after the step; a second one ends at once."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        for one, handler in before.items():
            signal.signal(one, handler)

    before: dict[signal.Signals, Any] = {}
    try:
        for one in (signal.SIGTERM, signal.SIGINT):
            before[one] = signal.signal(one, note)
    except ValueError:  # not in the main thread: somebody else looks after signals
        before = {}
    try:
        yield asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class _Log:
    """``log.csv``: a row per step. Rows after the state that a run goes on from are dropped."""

    def __init__(self, path: Path, first: int, mine: bool) -> None:
        self.path, self.mine = path, mine
        self.names: list[str] = []
        if mine:
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            path.write_text("".join(lines[: 1 + first] if first else []))
            self.names = lines[0].strip().split(",") if lines and first else []

    def __enter__(self) -> "_Log":
        self._file = self.path.open("a", newline="") if self.mine else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def write(self, step: int, shown: Mapping[str, float]) -> None:
        if self._file is None:
            return
        writer = csv.writer(self._file)
        if not self.names:
            self.names = ["step", *shown]
            writer.writerow(self.names)
        # A figure that this step has not stays empty.
        figures = [shown.get(name) for name in self.names[1:]]
        writer.writerow([step, *("" if f is None else f"{f:.6g}" for f in figures)])
        self._file.flush()


class _Bar:
    """A progress bar with the time left, on a terminal."""

    def __init__(self, settings: LoopSettings, first: int, mine: bool) -> None:
        self.settings, self.first = settings, first
        self.started = time.monotonic()
        figures = TextColumn("{task.fields[shown]}", table_column=Column(no_wrap=True))
        self.progress = progress_bar(figures, disable=not mine)
        self.task: TaskID | None = None

    def __enter__(self) -> "_Bar":
        self.progress.start()
        self.task = self.progress.add_task(
            "training", total=self.settings.steps, completed=self.first, shown=""
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, step: int, shown: Mapping[str, float]) -> None:
        assert self.task is not None
        done = step + 1
        speed = (done - self.first) * self.settings.batch / (time.monotonic() - self.started)
        loss, *others = (f"{name} {value:.3g}" for name, value in list(shown.items())[:4])
        figures = (loss, f"{speed:.{0 if speed >= 10 else 1}f} clips/s", *others)
        width = self.progress.console.width
        fitting = that_fit(figures, "training", self.settings.steps, width)
        self.progress.update(self.task, completed=done, shown=fitting)
