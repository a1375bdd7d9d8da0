"""Workers are forked off one warm process, and are the service's own children all the same."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from live_processes import children, command, is_running, zygotes

from service.decoding.process import DecodeProcess
from service.decoding.worker_source import WorkerSource
from startup.sandbox import syscalls

ROOT = Path(__file__).parents[3]
STARTED = b"service.decoding.worker"
ZYGOTE = b"service.decoding.zygote"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone"),
]


@contextlib.asynccontextmanager
async def source() -> AsyncIterator[WorkerSource]:
    made = WorkerSource(300, "prefer", "cpu")
    try:
        yield made
    finally:
        await made.stop()


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_forked_workers_share_memory_and_are_confined_children() -> None:
    async def check() -> None:
        before = descriptors()
        ended: list[DecodeProcess] = []
        async with source() as workers:
            one, other = [await workers.worker(ended.append) for _ in range(2)]
            for worker in (one, other):
                assert worker.pid in children(os.getpid())
                assert ZYGOTE in command(worker.pid)
                assert worker.ready is not None
                status = Path(f"/proc/{worker.pid}/status").read_text()
                assert "NoNewPrivs:\t1" in status
                assert "Seccomp:\t2" in status or "seccomp" not in worker.ready.sandbox
                assert private_bytes(worker.pid) < 40 * 1024**2
                assert os.getsid(worker.pid) == worker.pid
            os.kill(one.pid, signal.SIGSEGV)
            while one.alive:
                await asyncio.sleep(0.01)
            assert one.end_reason == "crashed"
            assert one._how_it_ended() == "by SIGSEGV"
            assert other.alive
            await other.stop()
            assert ended == [one, other]
            assert syscalls.adopt_orphans(), "the workers' parent"
            assert not is_running(one.pid)
            assert not is_running(other.pid)
        assert descriptors() == before
        assert not syscalls.adopt_orphans(False), "others' orphans are none of its business"

    asyncio.run(check())


@pytest.mark.long
def test_a_zygote_that_ends_takes_no_worker_along_and_is_replaced() -> None:
    async def check() -> None:
        async with source() as workers:
            first = await workers.worker(lambda worker: None)
            (zygote,) = zygotes()
            os.kill(zygote, signal.SIGKILL)
            second = await workers.worker(lambda worker: None)
            assert first.alive
            assert ZYGOTE in command(second.pid)
            for worker in (first, second):
                await worker.stop()

    asyncio.run(check())


def test_nobody_is_left_of_a_worker_whose_caller_went_away() -> None:
    async def check() -> None:
        async with source() as workers:
            await (await workers.worker(lambda worker: None)).stop()
            known = set(children(os.getpid()))
            for after in (0.0, 0.001, 0.01, 0.05):
                waiting = asyncio.create_task(workers.worker(lambda worker: None))
                await asyncio.sleep(after)
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await (await waiting).stop()
                assert set(children(os.getpid())) == known

    asyncio.run(check())


@pytest.mark.long
def test_where_nothing_can_be_forked_workers_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread is running in the warm process; what it holds would stay locked for ever."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading, time\n"
        f"if {ZYGOTE.decode()!r} in sys.orig_argv:\n"
        "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def check() -> None:
        async with source() as workers:
            worker = await workers.worker(lambda worker: None)
            assert STARTED in command(worker.pid)
            assert not zygotes()
            await worker.stop()

    asyncio.run(check())


def test_neither_zygote_nor_worker_outlives_the_service() -> None:
    script = (
        "import asyncio, os\n"
        "from pathlib import Path\n"
        "from service.decoding.worker_source import WorkerSource\n"
        "async def main():\n"
        "    await WorkerSource(300, 'prefer', 'cpu').worker(lambda worker: None)\n"
        "    own = os.getpid()\n"
        "    print(Path(f'/proc/{own}/task/{own}/children').read_text(), flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    left = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(left) == 2, "the zygote and its worker"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in left):
        assert time.monotonic() < deadline, "an orphan"
        time.sleep(0.02)
