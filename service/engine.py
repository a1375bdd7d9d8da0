"""The two graphs on onnxruntime: built from verified bytes, warmed, run one at a time."""

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

from bundle.reader import Bundle
from service.cpus import available_cpus

_T = TypeVar("_T")


class EngineError(Exception):
    """The engine cannot be used as the settings ask; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """See the settings of the same names."""

    execution_providers: tuple[str, ...]
    intra_op_threads: int
    max_concurrent_inferences: int
    max_batch_tokens: int


class Engine:
    """Runs a bundle's selector and extractor.

    ``select`` and ``extract`` block; :meth:`run` calls what uses them in a thread, so that the
    event loop only moves bytes, and :meth:`turn` hands out the turns in the order of asking.
    """

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Build both sessions.

        Raises:
            EngineError: a provider is not installed, or onnxruntime silently took another one.
        """
        self.geometry = bundle.manifest.geometry
        self.threads = options.intra_op_threads or available_cpus()
        self.waiting = 0
        self._max_batch_tokens = options.max_batch_tokens
        self._selector = _session("selector", bundle.selector, options, self.threads)
        self._extractor = _session("extractor", bundle.extractor, options, self.threads)
        self.providers: tuple[str, ...] = tuple(self._extractor.get_providers())
        self._turns = asyncio.Semaphore(options.max_concurrent_inferences)
        self._pool = ThreadPoolExecutor(options.max_concurrent_inferences, "inference")

    def select(
        self, clip_small: NDArray[np.uint8], options: ort.RunOptions | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score every token of some views.

        Args:
            clip_small: uint8 [B, T/2, H/2, W/2, 3].
            options: onnxruntime's, with which a run can be ended from elsewhere.

        Returns:
            scores float32 [B, N], context float32 [B, P, D].
        """
        scores, context = self._selector.run(
            ["scores", "context"], {"clip_small": clip_small}, options
        )
        return scores, context

    def extract(
        self,
        patches: NDArray[np.uint8],
        positions: NDArray[np.int64],
        lengths: NDArray[np.int64],
        context: NDArray[np.float32],
        options: ort.RunOptions | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Look at the kept tokens of some views.

        Args:
            patches: uint8 [B, K, patch * patch * 3].
            positions: int64 [B, K].
            lengths: int64 [B], kept tokens of each row; the rest of a row is padding.
            context: float32 [B, P, D], the selector's.
            options: as in :meth:`select`.

        Returns:
            logits float32 [B, classes], video float32 [B, D].
        """
        feeds = {
            "patches": patches,
            "positions": positions,
            "lengths": lengths,
            "context": context,
        }
        logits, video = self._extractor.run(["logits", "video"], feeds, options)
        return logits, video

    def chunks(self, views: int, tokens: int) -> list[slice]:
        """Split views of ``tokens`` tokens each into runs of at most ``max_batch_tokens``."""
        size = max(1, self._max_batch_tokens // tokens)
        return [slice(start, min(start + size, views)) for start in range(0, views, size)]

    def warm_up(self, kept: Sequence[int]) -> float:
        """Run both graphs at these numbers of kept tokens, the largest first.

        The largest first, because allocators keep the largest shape they have seen and fragment
        when they grow towards it.

        Returns:
            Tokens per second of the extractor at the largest, a first estimate of what it can do.
        """
        geometry = self.geometry
        half = geometry.size // 2
        small = np.zeros((1, geometry.frames // 2, half, half, 3), np.uint8)
        _, context = self.select(small)
        rate = 0.0
        for k in sorted(set(kept), reverse=True):
            feeds = (
                np.zeros((1, k, geometry.patch_bytes), np.uint8),
                np.arange(k, dtype=np.int64)[None],
                np.array([k], np.int64),
                context,
            )
            self.extract(*feeds)
            began = time.perf_counter()
            self.extract(*feeds)
            rate = rate or k / (time.perf_counter() - began)
        return rate

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Wait for a turn and hold it; gives the seconds waited."""
        began = time.perf_counter()
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1
        try:
            yield time.perf_counter() - began
        finally:
            self._turns.release()

    async def run(self, work: Callable[[ort.RunOptions], _T]) -> _T:
        """Call ``work`` in a thread; cancelling the caller ends the graph that runs in it.

        ``work`` passes the options on to :meth:`select` and :meth:`extract`. The thread has really
        ended when this returns or raises, so that the next turn finds the device free.
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

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _session(name: str, graph: bytes, options: EngineOptions, threads: int) -> ort.InferenceSession:
    wanted = options.execution_providers
    installed = ort.get_available_providers()
    if absent := [provider for provider in wanted if provider not in installed]:
        raise EngineError(
            f"LOOKWHEN_EXECUTION_PROVIDERS asks for {', '.join(absent)}, but the installed "
            f"onnxruntime has only {', '.join(installed)}. Install the onnxruntime package for "
            "that device, or change the setting"
        )
    configuration = ort.SessionOptions()
    configuration.intra_op_num_threads = threads
    configuration.inter_op_num_threads = 1
    configuration.log_severity_level = 3
    # Threads that spin while idle take the CPUs that decoding needs.
    configuration.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(graph, configuration, providers=list(wanted))
    except Exception as error:  # onnxruntime's errors share no base but this
        raise EngineError(f"onnxruntime cannot load the {name}: {error}") from None
    used = session.get_providers()
    if missing := [provider for provider in wanted if provider not in used]:
        raise EngineError(
            f"LOOKWHEN_EXECUTION_PROVIDERS asks for {', '.join(missing)}, but onnxruntime runs the "
            f"{name} on {', '.join(used)}: the device or its libraries could not be used"
        )
    return session
