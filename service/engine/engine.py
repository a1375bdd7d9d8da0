"""What a request asks of the engine: select, then extract."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bundle.geometry import downscale, gather_patches
from bundle.reader import Bundle
from service.cpus import available_cpus
from service.engine.cost import CostModel
from service.engine.errors import DeadlinePassed
from service.engine.graphs import Graphs

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """See the settings of the same names."""

    execution_providers: tuple[str, ...]
    intra_op_threads: int
    max_concurrent_inferences: int
    max_batch_tokens: int


@dataclass(frozen=True, slots=True)
class Selected:
    """What the selector says of a clip.

    Attributes:
        scores: float32 [V, N], of every token.
        context: float32 [V, P, D], for the extractor.
        waited: seconds in the queue.
        ran: seconds of downscaling and of the graph.
    """

    scores: NDArray[np.float32]
    context: NDArray[np.float32]
    waited: float
    ran: float


@dataclass(frozen=True, slots=True)
class Extracted:
    """What the extractor says of a clip.

    Attributes:
        logits: float32 [V, classes].
        waited: seconds in the queue.
        ran: seconds of gathering patches and of the graph.
    """

    logits: NDArray[np.float32]
    waited: float
    ran: float


class Engine:
    """Runs a bundle's selector and extractor for many requests at once.

    Every wait is on the event loop, every computation in a thread.

    Attributes:
        cost: what work is expected to take.
        providers: the execution providers really used.
        threads: of one inference.
        waiting: jobs that wait for their turn.
    """

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Build both sessions.

        Raises:
            EngineError: a provider is not installed, or onnxruntime silently took another one.
        """
        self.geometry = bundle.manifest.geometry
        self.threads = options.intra_op_threads or available_cpus()
        self.graphs = Graphs(
            bundle.selector, bundle.extractor, options.execution_providers, self.threads
        )
        self.providers = self.graphs.providers
        self.cost = CostModel(bundle.manifest.macs, self._backlog_seconds)
        self.waiting = 0
        self._max_batch_tokens = options.max_batch_tokens
        self._concurrent = options.max_concurrent_inferences
        self._pending_seconds = 0.0
        self._turns = asyncio.Semaphore(options.max_concurrent_inferences)
        self._pool = ThreadPoolExecutor(options.max_concurrent_inferences, "inference")

    def warm_up(self, kept: Sequence[int]) -> None:
        """Run both graphs at these numbers of kept tokens, the largest first; blocks.

        The largest first, because allocators keep the largest shape they have seen and fragment
        when they grow towards it.
        """
        geometry, graphs = self.geometry, self.graphs
        half = geometry.size // 2
        small = np.zeros((1, geometry.frames // 2, half, half, 3), np.uint8)
        _, context = graphs.select(small)
        began = time.perf_counter()
        graphs.select(small)
        self.cost.measured_select(1, time.perf_counter() - began)
        for k in sorted(set(kept), reverse=True):
            feeds = (
                np.zeros((1, k, geometry.patch_bytes), np.uint8),
                np.arange(k, dtype=np.int64)[None],
                np.array([k], np.int64),
                context,
            )
            graphs.extract(*feeds)
            began = time.perf_counter()
            graphs.extract(*feeds)
            self.cost.measured_extract(k, 1, time.perf_counter() - began)

    async def select(self, frames: NDArray[np.uint8], *, deadline: float) -> Selected:
        """Score every token of some views.

        Cancelling the caller takes a job out of the queue, and ends it when it runs.

        Args:
            frames: uint8 [V, T, H, W, 3].
            deadline: on the event loop's clock; a job that waits for longer is not run.

        Raises:
            DeadlinePassed: it waited for longer.
        """
        views = len(frames)

        def work(
            options: ort.RunOptions,
        ) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
            parts = []
            spent = 0.0
            for chunk in self.chunks(views, self.geometry.tokens):
                small = downscale(frames[chunk])
                began = time.perf_counter()
                parts.append(self.graphs.select(small, options))
                spent += time.perf_counter() - began
            scores, context = (np.concatenate(column) for column in zip(*parts, strict=True))
            return spent, scores, context

        (spent, scores, context), waited, ran = await self._take_turn(
            work, deadline, self.cost.select_seconds(views)
        )
        self.cost.measured_select(views, spent)
        return Selected(scores, context, waited, ran)

    async def extract(
        self,
        frames: NDArray[np.uint8],
        positions: NDArray[np.int64],
        context: NDArray[np.float32],
        *,
        deadline: float,
    ) -> Extracted:
        """Look at the kept tokens of some views.

        Cancelling the caller takes a job out of the queue, and ends it when it runs.

        Args:
            frames: uint8 [V, T, H, W, 3].
            positions: int64 [V, K], the kept tokens.
            context: float32 [V, P, D], the selector's.
            deadline: on the event loop's clock; a job that waits for longer is not run.

        Raises:
            DeadlinePassed: it waited for longer.
        """
        views, kept = positions.shape

        def work(options: ort.RunOptions) -> tuple[float, NDArray[np.float32]]:
            parts = []
            spent = 0.0
            for chunk in self.chunks(views, kept):
                patches = gather_patches(frames[chunk], positions[chunk], self.geometry.patch)
                lengths = np.full(len(patches), kept, np.int64)
                began = time.perf_counter()
                logits, _ = self.graphs.extract(
                    patches, positions[chunk], lengths, context[chunk], options
                )
                spent += time.perf_counter() - began
                parts.append(logits)
            return spent, np.concatenate(parts)

        (spent, logits), waited, ran = await self._take_turn(
            work, deadline, self.cost.extract_seconds(kept, views)
        )
        self.cost.measured_extract(kept, views, spent)
        return Extracted(logits, waited, ran)

    def chunks(self, views: int, tokens: int) -> list[slice]:
        """Split views of ``tokens`` tokens each into runs of at most ``max_batch_tokens``."""
        size = max(1, self._max_batch_tokens // tokens)
        return [slice(start, min(start + size, views)) for start in range(0, views, size)]

    def close(self) -> None:
        """Let what runs end, and the threads with it."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _backlog_seconds(self) -> float:
        return self._pending_seconds / self._concurrent

    async def _take_turn(
        self, work: Callable[[ort.RunOptions], _T], deadline: float, predicted: float
    ) -> tuple[_T, float, float]:
        """Wait for a turn and do the work; gives its result, seconds waited and seconds run."""
        self._pending_seconds += predicted
        try:
            async with self._turn(deadline) as waited:
                began = time.perf_counter()
                result = await self._run(work)
                return result, waited, time.perf_counter() - began
        finally:
            self._pending_seconds -= predicted

    @contextlib.asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[float]:
        """Wait for a turn and hold it; gives the seconds waited."""
        began = time.perf_counter()
        self.waiting += 1
        try:
            if asyncio.get_running_loop().time() >= deadline:
                raise DeadlinePassed
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            raise DeadlinePassed from None
        finally:
            self.waiting -= 1
        try:
            yield time.perf_counter() - began
        finally:
            self._turns.release()

    async def _run(self, work: Callable[[ort.RunOptions], _T]) -> _T:
        """Call ``work`` in a thread; cancelling the caller ends the graph that runs in it.

        The thread has really ended when this returns or raises, so that the next turn finds the
        device free.
        """
        options = ort.RunOptions()
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, options)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            options.terminate = True
            while not future.done():
                # A second cancellation must not leave the thread behind either.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({future})
            future.exception()  # seen: it says that the run was ended
            raise
