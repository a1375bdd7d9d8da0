"""The service's end of one decode worker: start it, give it one clip at a time, end it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self

from service.decoding.descriptors import Descriptor
from service.decoding.forked import ForkedProcess
from service.decoding.last_words import LastWords
from service.decoding.protocol import (
    CANCEL,
    MAX_MESSAGE_BYTES,
    Failed,
    Forked,
    ForkJob,
    Job,
    News,
    ProtocolError,
    Ready,
    Reply,
    Started,
    encode_job,
)
from service.decoding.replies import decode_reply
from service.decoding.sandbox.confinement import SandboxPolicy, limit_worker
from startup.path import child_environment, python_command

# Why a worker ended; "stopped" is an orderly end, all others make the pool start a new one.
EndReason = Literal["crashed", "timeout", "abandoned", "protocol", "recycled", "stopped"]

_NO_PROCESS = "a decode process cannot be started: "
# How long a worker may go on with a clip that nobody wants any more. Killing it at once would let a
# client that connects and leaves make the service start processes, which costs more than decoding.
ABANDON_SECONDS = 1.0
_STOP_SECONDS = 2.0

# A worker learns nothing of the service's environment but what loading libraries takes.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
                "PYTHONHOME", "PYTHONUSERBASE", "PYTHONDONTWRITEBYTECODE",
                "HOME", "LANG", "LC_ALL", "TMPDIR",
                "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")  # fmt: skip


class WorkerStartError(Exception):
    """A worker could not be made ready; the text says why and what to do."""


class WorkerLost(Exception):
    """The worker ended during a job."""


class WorkerTimeout(Exception):
    """The worker was killed because its job took too long."""


class DecodeProcess:
    """One worker process and the socket to it.

    Attributes:
        jobs: clips it was given.
        started: whether it has begun to read the clip it was given last.
        replaced: a successor is being started.
        retiring: its successor is warm; it takes no more clips.
        end_reason: None as long as it lives.
        ready: what it said when it was warm.
    """

    def __init__(
        self,
        on_end: Callable[["DecodeProcess"], None],
        channel: socket.socket,
        process: "subprocess.Popen[bytes] | ForkedProcess",
        last_words: LastWords | None = None,
    ) -> None:
        self.jobs = 0
        self.started = False
        self.replaced = False
        self.retiring = False
        self.end_reason: EndReason | None = None
        self.ready: Ready | None = None
        self._idle_bytes = 0
        self._on_end = on_end
        self._pending: asyncio.Future[Reply] | None = None
        self._tell: Callable[[News], None] | None = None
        self._channel, self._process, self._last_words = channel, process, last_words
        self._channel.setblocking(False)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(
        cls,
        timeout_seconds: float,
        on_end: Callable[["DecodeProcess"], None],
        sandbox: SandboxPolicy = "prefer",
        device: str = "cpu",
        program: str = "service.decoding.worker",
    ) -> Self:
        """Start a worker and wait until it is warm; on the thread that lives longest.

        The kernel's death signal follows the thread that started the child, and the event loop's
        thread is the one that lives as long as the service.

        Args:
            timeout_seconds: how long that may take.
            on_end: called when it has ended, for whatever reason.
            sandbox: how it is to be confined; see :mod:`service.decoding.sandbox.confinement`.
            device: torch's name of where it decodes.
            program: the module that it runs.

        Raises:
            WorkerStartError: it could not be started, failed, ended, or took too long.
        """
        channel, theirs = _socket_pair()
        try:
            with theirs:
                process = subprocess.Popen(
                    python_command("-m", program, str(theirs.fileno()),
                                str(os.getpid()), sandbox, device),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    # Until it is ready: then the worker itself turns it off, see LastWords.
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    # Libraries are not looked for in the service's working directory, either.
                    cwd="/",
                    env=_environment(),
                )  # fmt: skip
        except OSError as error:  # no memory, descriptors or processes left, for the time being
            channel.close()
            raise _no_process(error) from None
        assert process.stderr is not None
        worker = cls(on_end, channel, process, LastWords(process.stderr))
        await worker.warmed(timeout_seconds)
        return worker

    @classmethod
    async def fork(
        cls,
        zygote: "DecodeProcess",
        timeout_seconds: float,
        on_end: Callable[["DecodeProcess"], None],
    ) -> Self:
        """Fork a worker off a warm process (:mod:`service.decoding.zygote`); see :meth:`warmed`.

        Raises:
            WorkerStartError: nothing can be started.
            WorkerLost, WorkerTimeout: the zygote has ended.
        """
        channel, theirs = _socket_pair()
        try:
            with theirs:
                reply = await zygote.run(ForkJob(timeout_seconds), [theirs])
            match reply:
                case Forked(pid):
                    return cls(on_end, channel, await _adopted(pid, channel))
                case Failed(report):
                    raise WorkerStartError(_NO_PROCESS + report.strip().splitlines()[-1])
            zygote.kill("protocol")
            raise WorkerLost
        except OSError as error:
            channel.close()
            raise _no_process(error) from None
        except BaseException:
            channel.close()
            raise

    async def warmed(self, timeout_seconds: float) -> None:
        """Wait until it is warm and confined.

        Raises:
            WorkerStartError: it failed, ended, or took too long.
        """
        try:
            reply = await self._exchange(None, timeout_seconds)
            if isinstance(reply, Ready):
                self.ready = reply
                return
            report = reply.report if isinstance(reply, Failed) else "an unexpected answer"
            if explained := _explain_start(report):
                raise WorkerStartError(explained)
            last = report.strip().splitlines()[-1:] or ["no reason given"]
            problem = f"a decode worker could not start: {last[0]}"
        except WorkerTimeout:
            problem = f"a decode worker was not ready after {timeout_seconds:g} seconds"
        except WorkerLost:
            problem = f"a decode worker ended before it was ready, {self._how_it_ended()}"
        finally:
            if self.ready is None:
                self.kill("stopped")
                await asyncio.wait({self._listening})
            if self._last_words is not None:
                self._last_words.close()
        said = self._last_words.quoted() if self._last_words is not None else ""
        raise WorkerStartError(problem + said)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self.end_reason is None

    @property
    def busy(self) -> bool:
        """A job was given to the worker and it has not answered."""
        return self._pending is not None and not self._pending.done()

    def cap_memory(self, room_bytes: int) -> None:
        """Let its address space grow by so much over its whole life, and never by more.

        The limits of single clips are set by the worker itself, which one that was taken over
        would not do.
        """
        self._idle_bytes, _ = self._memory_bytes()
        if self._idle_bytes:
            limit_worker(self.pid, self._idle_bytes + room_bytes)

    def outgrew(self, limit_bytes: int) -> bool:
        """Whether it has more resident memory than that, or so much more address space than when
        :meth:`cap_memory` was called, if it was; False where the system does not say."""
        size, resident = self._memory_bytes()
        grown = size - self._idle_bytes if self._idle_bytes else 0
        return max(resident, grown) > limit_bytes

    def _memory_bytes(self) -> tuple[int, int]:
        """(address space, resident), or zeros where the system does not say."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_bytes().split()
            size, resident = int(fields[0]), int(fields[1])
        except (OSError, IndexError):
            return 0, 0
        page = os.sysconf("SC_PAGE_SIZE")
        return size * page, resident * page

    async def run(
        self,
        job: Job | ForkJob,
        blocks: Sequence[Descriptor],
        tell: Callable[[News], None] | None = None,
    ) -> Reply:
        """Have the worker do one job, which the blocks belong to; see the job's own description.

        ``tell`` is told what the worker says before it is done, if it may say anything; it may
        raise ProtocolError.

        When the caller is cancelled, the worker is told to stop and may still be ``busy``: see
        :meth:`settle`.

        Raises:
            WorkerLost: it ended.
            WorkerTimeout: it exceeded the job's deadline and was killed.
        """
        if self.busy or not self.alive:
            raise RuntimeError("a worker takes one job at a time, and none after its end")
        self.jobs += 1
        self.started, self._tell = False, tell
        try:
            descriptors = [block.fileno() for block in blocks]
            socket.send_fds(self._channel, [encode_job(job)], descriptors)
        except OSError:
            self.kill("crashed")
            raise WorkerLost from None
        return await self._exchange(job, job.timeout_seconds)

    async def _exchange(self, job: Job | ForkJob | None, timeout_seconds: float) -> Reply:
        self._pending = asyncio.get_running_loop().create_future()
        if not self.alive:
            raise WorkerLost
        try:
            async with asyncio.timeout(timeout_seconds):
                # Shielded, so that a cancelled caller leaves the future for `settle`.
                return await asyncio.shield(self._pending)
        except TimeoutError:
            self.kill("timeout")
            raise WorkerTimeout from None
        except asyncio.CancelledError:
            if job is not None:
                with contextlib.suppress(OSError):
                    self._channel.send(CANCEL)
            raise

    async def settle(self) -> None:
        """Wait until a worker whose caller was cancelled is free; kill it if it takes long."""
        if self._pending is None:
            return
        done, _ = await asyncio.wait({self._pending}, timeout=ABANDON_SECONDS)
        if not done:
            self.kill("abandoned")

    def kill(self, reason: EndReason) -> None:
        """End the process at once."""
        if self.end_reason is None:
            self.end_reason = reason
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self, reason: EndReason = "stopped") -> None:
        """End an idle worker by closing its socket, and wait until it is gone."""
        if self.end_reason is None:
            self.end_reason = reason
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        done, _ = await asyncio.wait({self._listening}, timeout=_STOP_SECONDS)
        if not done:
            self.kill(reason)
        await asyncio.wait({self._listening})

    async def _listen(self) -> None:
        """Hand replies to the caller that waits; when the socket ends, so does the worker."""
        try:
            await self._read_replies()
        except ProtocolError:
            self.kill("protocol")
        except OSError:
            pass
        self._channel.close()
        # A worker that closed its socket in good order needs a moment to leave.
        try:
            await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill("crashed")
            await asyncio.to_thread(self._process.wait)
        if self._last_words is not None:
            self._last_words.close()
        if self.end_reason is None:
            self.end_reason = "crashed"
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(WorkerLost())
            self._pending.exception()  # seen, even if the caller is gone
        self._on_end(self)

    def _how_it_ended(self) -> str:
        status = self._process.returncode or 0
        return f"with exit status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"

    async def _read_replies(self) -> None:
        loop, buffer = asyncio.get_running_loop(), b""
        while data := await loop.sock_recv(self._channel, MAX_MESSAGE_BYTES):
            buffer += data
            if len(buffer) > MAX_MESSAGE_BYTES:
                raise ProtocolError("too long")
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                reply = decode_reply(line)
                if self._pending is None or self._pending.done():
                    raise ProtocolError("nobody asked")
                if isinstance(reply, Started):
                    self.started = True
                    continue
                if isinstance(reply, News):
                    if self._tell is None:
                        raise ProtocolError("no job that has news")
                    self._tell(reply)
                    continue
                self._pending.set_result(reply)


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair()
    except OSError as error:
        raise _no_process(error) from None


def _no_process(error: OSError) -> WorkerStartError:
    return WorkerStartError(_NO_PROCESS + (error.strerror or type(error).__name__))


async def _adopted(pid: int, channel: socket.socket) -> ForkedProcess:
    try:
        return ForkedProcess(pid)
    except OSError:  # no descriptor left: it is told to end, and waited for
        channel.close()
        with contextlib.suppress(ChildProcessError):
            await asyncio.to_thread(os.waitpid, pid, 0)
        raise


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Each thread of FFmpeg's would leave 64 MiB of address space behind, which looks like growth.
    return child_environment(environment | single | {"MALLOC_ARENA_MAX": "2"})


def _explain_start(report: str) -> str | None:
    """Turn the usual reasons into what to do about them; None for others."""
    if report.startswith("LOOKWHEN_"):
        return report
    if "libpython" in report:
        return (
            "torchcodec needs Python's shared library, which could not be loaded. Install it "
            f"(Debian, Ubuntu: apt-get install libpython{sys.version_info[0]}."
            f"{sys.version_info[1]}), or use a Python that was built with it"
        )
    if "Could not load libtorchcodec" in report or "libavutil" in report:
        return (
            "FFmpeg's shared libraries could not be loaded. Install FFmpeg 4 to 8 (Debian, Ubuntu: "
            "apt-get install ffmpeg; macOS: brew install ffmpeg)"
        )
    return None
