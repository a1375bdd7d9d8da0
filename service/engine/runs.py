"""What a run of each stage is: rows to inputs, inputs to outputs, and what is learnt from it."""

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.engine.cost import CostModel, StageName
from service.engine.graphs import Graph
from service.engine.jobs import Arrays, Outputs, Part
from service.engine.pinned_memory import Place
from service.engine.work import Work


class Observer(Protocol):
    """Is told what happens in the engine; the service's metrics are one."""

    def batch_ran(self, stage: str, work: Work, predicted: float, measured: float) -> None:
        """A run took ``measured`` seconds of the ``predicted`` ones."""

    def job_waited(self, stage: str, seconds: float) -> None:
        """A job left the queue; none of its rows ran for so long."""

    def out_of_memory(self, stage: str) -> None:
        """A run found no memory on the device."""


class Stage:
    """One graph, its cost, and who is told about its runs."""

    def __init__(
        self, name: StageName, graph: Graph, cost: CostModel, observer: Observer | None
    ) -> None:
        self.name, self.arenas = name, graph.arenas
        self._graph, self._cost, self._observer = graph, cost, observer

    def run(
        self, parts: Sequence[Part], options: ort.RunOptions, shared: bool
    ) -> tuple[Outputs, float]:
        """Run the rows together; blocks. Gives the outputs and the graph's seconds.

        Args:
            shared: whether other runs are on the device at the same time.
        """
        feeds = assemble(parts, self._graph.place)
        began = time.perf_counter()
        outputs = self._graph.run(feeds, options, shared=shared)
        return outputs, time.perf_counter() - began

    def predict(self, work: Work, *, shared: bool) -> float:
        return self._cost.seconds(self.name, work, shared=shared)

    def measured(self, work: Work, seconds: float, *, shared: bool) -> None:
        predicted = self._cost.measured(self.name, work, seconds, shared=shared)
        if self._observer is not None:
            self._observer.batch_ran(self.name, work, predicted, seconds)

    def waited(self, seconds: float) -> None:
        if self._observer is not None:
            self._observer.job_waited(self.name, seconds)

    def ran_out_of_memory(self) -> None:
        if self._observer is not None:
            self._observer.out_of_memory(self.name)


def assemble(parts: Sequence[Part], place: Place | None = None) -> Arrays:
    """Put the rows of several jobs together; shorter ones are padded with zeros.

    The extractor is told how many tokens of a row are real (``lengths``), the selector's rows are
    all alike.

    Args:
        parts: rows of jobs of one stage.
        place: where to put them; None leaves the rows of a single job where they are.

    Returns:
        the graph's inputs, each [rows, ...].
    """
    feeds = {
        name: _stack(name, [part.input(name) for part in parts], place)
        for name in parts[0].job.inputs
    }
    if "positions" in feeds:
        lengths = np.repeat([part.job.tokens for part in parts], [part.rows for part in parts])
        feeds["lengths"] = lengths.astype(np.int64)
    return feeds


def _stack(
    name: str, arrays: Sequence[NDArray[np.generic]], place: Place | None
) -> NDArray[np.generic]:
    if len(arrays) == 1 and place is None:
        return arrays[0]
    longest = max(array.shape[1] for array in arrays)
    shape = (sum(map(len, arrays)), longest, *arrays[0].shape[2:])
    dtype = arrays[0].dtype
    stacked = np.empty(shape, dtype) if place is None else place(name, shape, dtype)
    first = 0
    for array in arrays:
        rows = stacked[first : first + len(array)]
        rows[:, : array.shape[1]] = array
        rows[:, array.shape[1] :] = 0
        first += len(array)
    return stacked
