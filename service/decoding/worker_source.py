"""Where decode workers come from: forked off one warm process, or each started by itself.

A worker that is started imports torch, which takes seconds of CPU and 0.2 GB. One that is forked is
there in hundredths of a second and shares that memory. Our choice, because the decoders that a
service has would otherwise be most of its memory, and a decoder's death most of a CPU for seconds.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable

from service.decoding.process import DecodeProcess, WorkerLost, WorkerStartError, WorkerTimeout
from service.decoding.sandbox.confinement import SandboxPolicy
from startup.sandbox import syscalls

logger = logging.getLogger(__name__)

_FORK_SECONDS = 30.0
_ZYGOTE = "service.decoding.zygote"


class WorkerSource:
    """Makes decode workers; of one event loop.

    Args:
        timeout_seconds: how long a worker, or what it is forked off, may take to be warm.
        sandbox: how workers are to be confined.
        device: torch's name of where they decode.
    """

    def __init__(self, timeout_seconds: float, sandbox: SandboxPolicy, device: str) -> None:
        self._timeout_seconds, self._sandbox, self._device = timeout_seconds, sandbox, device
        # What a driver keeps does not survive a fork.
        self._forks = device == "cpu"
        self._adopts = False
        self._zygote: DecodeProcess | None = None
        self._warming, self._forking = asyncio.Lock(), asyncio.Lock()

    async def worker(self, on_end: Callable[[DecodeProcess], None]) -> DecodeProcess:
        """A worker that is warm and confined.

        Args:
            on_end: called when it has ended, for whatever reason.

        Raises:
            WorkerStartError: there is none to be had.
        """
        while self._forks:
            zygote = await self._warm_zygote()
            if zygote is None:
                break
            forking = asyncio.create_task(self._fork(zygote, on_end))
            try:
                return await asyncio.shield(forking)
            except (WorkerLost, WorkerTimeout):
                logger.warning("decode workers' zygote has ended; another one is started")
            except asyncio.CancelledError:
                # The worker is forked all the same, and nobody else would end it.
                with contextlib.suppress(WorkerStartError, WorkerLost, WorkerTimeout):
                    await (await forking).stop()
                raise
        return await DecodeProcess.start(self._timeout_seconds, on_end, self._sandbox, self._device)

    async def stop(self) -> None:
        """End the process that workers are forked off.

        Call it after the last worker has ended: this process adopts no more.
        """
        async with self._warming:
            self._forks = False
            if self._adopts:
                _adoption.end()
                self._adopts = False
            if self._zygote is not None:
                await self._zygote.stop()
                self._zygote = None

    async def _fork(
        self, zygote: DecodeProcess, on_end: Callable[[DecodeProcess], None]
    ) -> DecodeProcess:
        async with self._forking:
            if not zygote.alive:
                raise WorkerLost
            worker = await DecodeProcess.fork(zygote, _FORK_SECONDS, on_end)
        await worker.warmed(self._timeout_seconds)
        return worker

    async def _warm_zygote(self) -> DecodeProcess | None:
        """The process to fork off; None where it cannot be had, and workers have to be started."""
        async with self._warming:
            if not self._forks or (self._zygote is not None and self._zygote.alive):
                return self._zygote
            self._adopts = self._adopts or _adoption.begin()
            if not self._adopts:
                self._forks = False
                return None
            try:
                self._zygote = await DecodeProcess.start(
                    self._timeout_seconds, lambda zygote: None, self._sandbox, program=_ZYGOTE
                )
            except WorkerStartError as error:
                if self._zygote is not None:  # one could be had, and will be again
                    raise
                # A worker that is started by itself does better, or says for itself what is wrong.
                logger.info("decode workers are not forked", extra={"reason": str(error)})
                self._forks = False
            return self._zygote


class _Adoption:
    """Makes this process the parent of its descendants' orphans as long as somebody needs that.

    A process that embeds the service may have orphans of its own, for which it does not wait.
    """

    def __init__(self) -> None:
        self._needed = 0
        self._before = False

    def begin(self) -> bool:
        """Adopt orphans; whether they can be waited for. If so, call :meth:`end` later."""
        if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
            return False
        try:
            os.close(os.pidfd_open(os.getpid()))
            if not self._needed:
                self._before = syscalls.adopt_orphans()
        except OSError:  # a kernel before 5.3, or a filter that forbids it
            return False
        self._needed += 1
        return True

    def end(self) -> None:
        self._needed -= 1
        if not self._needed:
            syscalls.adopt_orphans(self._before)


_adoption = _Adoption()
