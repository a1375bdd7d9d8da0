"""What is queued: one request's views at one stage, taken apart and put together again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]
Outputs = tuple[NDArray[np.float32], ...]


@dataclass(eq=False, slots=True)
class Job:
    """A request's views at one stage; its rows may run in several batches, beside others' rows.

    Attributes:
        inputs: the graph's inputs, each [V, ...].
        rows: V.
        tokens: of each row, as the stage counts them.
        due: on the monotonic clock; what is due first runs first.
        done: what the caller awaits: the graph's outputs, each [V, ...].
        taken: rows that a batch has taken so far; they go in order.
        waited, ran: seconds in which none of its rows ran, or at least one.
    """

    inputs: Arrays
    rows: int
    tokens: int
    due: float
    done: "asyncio.Future[Outputs]"
    mark: float
    taken: int = 0
    waited: float = 0.0
    ran: float = 0.0
    running: int = 0
    expiry: asyncio.TimerHandle | None = None
    _finished: int = 0
    _outputs: Outputs | None = field(default=None)

    @property
    def left(self) -> int:
        """Rows that no batch has taken yet."""
        return self.rows - self.taken

    def began(self, now: float) -> None:
        """A batch with rows of it starts to run."""
        if not self.running:
            self.waited += now - self.mark
            self.mark = now
        self.running += 1

    def ended(self, now: float) -> None:
        """A batch with rows of it has run, however it went."""
        self.running -= 1
        if not self.running:
            self.ran += now - self.mark
            self.mark = now

    def fill(self, start: int, outputs: Outputs) -> None:
        """Keep the outputs of the rows from ``start`` on; the last ones resolve ``done``."""
        count = len(outputs[0])
        if self._outputs is None:
            self._outputs = tuple(
                np.empty((self.rows, *output.shape[1:]), np.float32) for output in outputs
            )
        for whole, part in zip(self._outputs, outputs, strict=True):
            whole[start : start + count] = part
        self._finished += count
        if self._finished == self.rows and not self.done.done():
            self.done.set_result(self._outputs)

    def fail(self, error: BaseException) -> None:
        """Give up: the caller gets ``error``, what still runs is for nothing."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows ``start`` to ``stop`` of a job, in one batch."""

    job: Job
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    def input(self, name: str) -> NDArray[np.generic]:
        """[rows, ...], a view of the job's own array."""
        return self.job.inputs[name][self.start : self.stop]
