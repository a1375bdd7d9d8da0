"""The decode workers: one clip at a time each, replaced when they end, age or grow.

Of our own, because the standard library's process pool fails every job and every later one when a
single worker dies, and unpickles what its workers send.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.decoding.circuit_breaker import CircuitBreaker
from service.decoding.descriptors import Descriptor
from service.decoding.process import (
    DecodeProcess,
    EndReason,
    WorkerLost,
    WorkerStartError,
    WorkerTimeout,
)
from service.decoding.protocol import (
    SANDBOXES,
    Decoded,
    DecodeJob,
    Failed,
    Job,
    Refused,
    Reply,
    Sandbox,
)
from service.decoding.sandbox.confinement import SandboxPolicy
from service.decoding.shared_memory import SharedBlock
from service.decoding.worker_source import WorkerSource
from service.errors import ClipError, DecoderCrashed, DecodeTimeout, InternalError, clip_error
from video.facts import ClipFacts, ClipLimits, ViewPlan

logger = logging.getLogger(__name__)

# A time stamp beyond that is none.
_LONGEST_CLIP_SECONDS = 1e9
_LONGEST_BACKOFF_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """See the settings of the same names."""

    workers: int
    ffmpeg_threads: int
    timeout_seconds: float
    start_timeout_seconds: float
    memory_bytes: int
    recycle_jobs: int
    recycle_rss_bytes: int
    sandbox: SandboxPolicy = "prefer"
    device: str = "cpu"
    spare_workers: int = 0
    storm_deaths: int = 10
    storm_window_seconds: float = 30.0
    storm_calm_seconds: float = 10.0

    @property
    def address_space_bytes(self) -> int | None:
        """Address space of one clip; a driver takes far more of it than of memory."""
        return self.memory_bytes if self.device == "cpu" else None


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """The views of a clip.

    Attributes:
        frames: uint8 [V, T, H, W, 3], views temporal-major, then spatial.
        stamps: float64 [temporal views, T]: each frame's own time stamp, in seconds after that of
            the first frame shown.
        facts: what was found out about the clip.
    """

    frames: NDArray[np.uint8]
    stamps: NDArray[np.float64]
    facts: ClipFacts


class DecodePool:
    """Decodes clips in worker processes.

    A clip that kills its worker fails alone: it is not tried again, and the next clip finds another
    worker: spare ones are warm beyond those that may work. A worker due for replacement goes on
    until its successor is warm.

    Attributes:
        limits, clip_limits: of the workers, and what the next clip may be.
        waiting: clips that wait for a worker.
    """

    def __init__(
        self,
        limits: PoolLimits,
        clip_limits: ClipLimits,
        on_restart: Callable[[EndReason], None] = lambda reason: None,
        on_decoded: Callable[[ClipFacts, float], None] = lambda facts, seconds: None,
    ) -> None:
        self.clip_limits = clip_limits
        self.limits, self._on_restart, self._on_decoded = limits, on_restart, on_decoded
        self._workers: set[DecodeProcess] = set()
        self._lone: set[DecodeProcess] = set()
        self._idle: asyncio.Queue[DecodeProcess] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        # The spare ones are not there to use more CPUs: as many clips at a time as workers.
        self._turns = asyncio.Semaphore(limits.workers)
        self._source = WorkerSource(limits.start_timeout_seconds, limits.sandbox, limits.device)
        self._breaker = CircuitBreaker(
            limits.storm_deaths, limits.storm_window_seconds, limits.storm_calm_seconds
        )
        self.waiting = 0

    @property
    def live(self) -> int:
        """Workers that are warm and can take a clip now or after their present one."""
        return sum(worker.alive and worker.ready is not None for worker in self._workers)

    def not_ready_because(self) -> str | None:
        """Why no clip can be decoded, or None when they can."""
        if not self.live:
            return "no decode worker is running"
        if self._breaker.is_open():
            return "decode workers die faster than is sound"
        return None

    @property
    def pids(self) -> list[int]:
        return sorted(worker.pid for worker in self._workers if worker.alive)

    @property
    def versions(self) -> tuple[str, str]:
        """(torchcodec, FFmpeg) as the workers report them, or empty before the first is warm."""
        ready = next((worker.ready for worker in self._workers if worker.ready), None)
        return (ready.torchcodec, ready.ffmpeg) if ready else ("", "")

    @property
    def makes_films(self) -> bool:
        """Whether the workers can encode H.264."""
        return all(worker.ready.films for worker in self._workers if worker.ready)

    @property
    def sandbox(self) -> Sandbox | None:
        """What confines the worker that is confined least, or None before the first is warm."""
        found = [worker.ready.sandbox for worker in self._workers if worker.ready]
        return min(found, key=SANDBOXES.index, default=None)

    async def start(self) -> None:
        """Start all workers and wait until they are warm.

        Raises:
            WorkerStartError: one of them cannot start; none is left running.
        """
        failures: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.limits.workers + self.limits.spare_workers):
                    group.create_task(self._add())
        except* WorkerStartError as errors:
            failures += errors.exceptions
        if failures:
            await self.stop()
            raise failures[0]

    async def stop(self) -> None:
        """End all workers and wait until they are gone."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in [*self._workers, *self._lone]))
        await self._source.stop()

    async def decode(self, clip: SharedBlock, plan: ViewPlan) -> DecodedClip:
        """Decode the frames of a clip that its views need.

        Args:
            clip: the file's bytes; sealed here, so that they cannot change under the worker.

        Raises:
            ClipError: the clip, or what decoding it takes, is at fault.
            InternalError: we are.
        """
        clip.seal_content()
        with SharedBlock("frames", size=plan.block_bytes) as frames:
            frames.seal_size()
            job = DecodeJob(
                clip_bytes=clip.size,
                plan=plan,
                limits=self.clip_limits,
                ffmpeg_threads=self.limits.ffmpeg_threads,
                timeout_seconds=self.limits.timeout_seconds,
                memory_bytes=self.limits.address_space_bytes,
            )
            worker, reply, seconds = await self.run(job, (clip, frames))
            if not isinstance(reply, Decoded):
                worker.kill("protocol")
                raise DecoderCrashed
            content, facts = frames.content(), reply.facts
        self._on_decoded(facts, seconds)
        stamps = content[: plan.times_bytes].view(np.float64).reshape(plan.times_shape)
        return DecodedClip(
            content[plan.times_bytes :].reshape(plan.shape),
            # A worker is not believed.
            np.clip(np.nan_to_num(stamps), 0.0, _LONGEST_CLIP_SECONDS),
            facts,
        )

    async def run(
        self, job: Job, blocks: Sequence[Descriptor]
    ) -> tuple[DecodeProcess, Reply, float]:
        """Have a worker do a job; its reply, and the seconds it took from when it had the blocks.

        Raises:
            ClipError: the clip, or what decoding it takes, is at fault.
            InternalError: we are.
        """
        worker, reply, seconds = await self._reply(job, blocks)
        match reply:
            case Refused(code, found, limit):
                raise self._refusal(worker, code, found, limit)
            case Failed(report):
                logger.error("a decode worker made a mistake", extra={"report": report})
                raise InternalError
        return worker, reply, seconds

    async def _reply(
        self, job: Job, blocks: Sequence[Descriptor]
    ) -> tuple[DecodeProcess, Reply, float]:
        async with contextlib.AsyncExitStack() as held:
            await self._turn(held)
            while True:
                worker = await self._take()
                began = time.monotonic()
                try:
                    reply = await worker.run(job, blocks)
                    return worker, reply, time.monotonic() - began
                except WorkerLost:
                    if worker.started:
                        raise DecoderCrashed from None
                    # It had ended before it saw the clip, which therefore is not to blame.
                except WorkerTimeout:
                    raise DecodeTimeout(job.timeout_seconds) from None
                finally:
                    self._give_back(worker)

    @contextlib.asynccontextmanager
    async def lone_worker(self) -> AsyncIterator[DecodeProcess]:
        """A worker of its own, for what takes longer than clips may wait; it ends with the block.

        Raises:
            WorkerStartError: none can be started.
        """
        worker = await self._source.worker(self._lone.discard)
        self._cap(worker)
        self._lone.add(worker)
        try:
            yield worker
        finally:
            # It is never given another job: so there is nothing that it has to finish.
            worker.kill("stopped")
            await worker.stop()
            self._lone.discard(worker)

    async def _turn(self, held: contextlib.AsyncExitStack) -> None:
        self.waiting += 1
        try:
            await held.enter_async_context(self._turns)
        finally:
            self.waiting -= 1

    def _refusal(
        self, worker: DecodeProcess, code: str, found: float | None, limit: float | None
    ) -> ClipError:
        try:
            return clip_error(code, found, limit)
        except KeyError:
            worker.kill("protocol")
            return DecoderCrashed()

    async def _take(self) -> DecodeProcess:
        self.waiting += 1
        try:
            while True:
                worker = await self._idle.get()
                if worker.alive and not worker.retiring:
                    return worker
        finally:
            self.waiting -= 1

    def _give_back(self, worker: DecodeProcess) -> None:
        if not worker.alive:
            return
        if worker.busy:  # its caller was cancelled
            self._spawn(self._settle(worker))
        elif worker.retiring:
            self._spawn(worker.stop("recycled"))
        else:
            self._idle.put_nowait(worker)
            if not self._stopping and not worker.replaced and self._is_due(worker):
                worker.replaced = True
                self._spawn(self._replace(worker))

    async def _settle(self, worker: DecodeProcess) -> None:
        await worker.settle()
        self._give_back(worker)

    def _is_due(self, worker: DecodeProcess) -> bool:
        return (
            worker.jobs >= self.limits.recycle_jobs
            # Of the address space: else the next clip finds less than `_add` means it to have.
            or worker.outgrew(self.limits.recycle_rss_bytes)
        )

    async def _replace(self, worker: DecodeProcess) -> None:
        try:
            await self._add()
        except WorkerStartError as error:
            logger.error("no successor for a decode worker", extra={"reason": str(error)})
            worker.replaced = False  # the old one goes on, and is due again after the next clip
            if not worker.alive:
                await self._restart()
            return
        worker.retiring = True
        if worker.alive:
            self._on_restart("recycled")
            if not worker.busy:
                await worker.stop("recycled")

    async def _add(self) -> None:
        worker = await self._source.worker(self._ended)
        self._cap(worker)
        self._workers.add(worker)
        self._idle.put_nowait(worker)
        if not worker.alive:  # it ended between its first word and this line
            self._ended(worker)

    def _cap(self, worker: DecodeProcess) -> None:
        if (clip_bytes := self.limits.address_space_bytes) is not None:
            worker.cap_memory(clip_bytes + self.limits.recycle_rss_bytes)

    def _ended(self, worker: DecodeProcess) -> None:
        expected = worker.end_reason in ("stopped", "recycled")
        known = worker in self._workers  # else it never was ready, and its starter has been told
        self._workers.discard(worker)
        if known and not expected and not self._stopping:
            reason = worker.end_reason or "crashed"
            logger.warning("a decode worker ended", extra={"reason": reason, "pid": worker.pid})
            self._on_restart(reason)
            if reason in ("crashed", "protocol"):  # the others we killed, at their deadline
                self._breaker.death()
            if not worker.replaced:
                self._spawn(self._restart())

    async def _restart(self) -> None:
        backoff = 0.5
        while True:
            try:
                return await self._add()
            except WorkerStartError as error:
                logger.error("a decode worker could not start", extra={"reason": str(error)})
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LONGEST_BACKOFF_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)


def _report(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        if error := task.exception():
            logger.error("supervision of the decode workers failed", exc_info=error)
