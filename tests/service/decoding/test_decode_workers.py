"""Decode workers: confined, replaced, killed, and never believed."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import service_clips as clips
import torch
from decode_pools import H264, MiB, decode_in, pool_of
from live_processes import is_running

from service.decoding.process import DecodeProcess, WorkerStartError
from service.decoding.protocol import ProtocolError
from service.decoding.replies import decode_reply
from service.decoding.shared_memory import SharedBlock
from service.errors import DecodeMemoryExceeded, DecoderCrashed, DecodeTimeout
from video.facts import ViewPlan

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_a_large_clip_takes_the_memory_of_few_frames(tmp_path: Path) -> None:
    clip = clips.pattern(tmp_path / "4k.mp4", *H264, "-preset", "ultrafast", size="3840x2160",
                         rate=8, seconds=3)  # fmt: skip
    frame_bytes = 3840 * 2160 * 3

    async def check() -> None:
        async with pool_of() as (pool, _):
            before = _peak_rss_bytes(pool.pids[0])
            await decode_in(pool, clip)
            grown = _peak_rss_bytes(pool.pids[0]) - before
            assert grown < 8 * frame_bytes, f"{grown / frame_bytes:.1f} frames"
        # Less than one frame as the decoder gives it, which takes 25 MB.
        async with pool_of(memory_bytes=20 * MiB) as (pool, restarts):
            with pytest.raises(DecodeMemoryExceeded):
                await decode_in(pool, clip)
            assert restarts == []

    asyncio.run(check())


def _peak_rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.long
def test_a_killed_worker_fails_its_own_clip_alone(tmp_path: Path, long_clip: Path) -> None:
    short = clips.pattern(tmp_path / "short.mp4", *H264)
    slow = ViewPlan(temporal=12, spatial=1, frames=16, size=64, short_side=64)

    async def check() -> None:
        async with pool_of(workers=2) as (pool, restarts):
            victim = asyncio.create_task(decode_in(pool, long_clip, slow))
            await _until(lambda: any(w.busy and w.started for w in pool._workers), every=0.002)
            (busy,) = (worker for worker in pool._workers if worker.busy)
            others = [asyncio.create_task(decode_in(pool, short)) for _ in range(4)]
            os.kill(busy.pid, signal.SIGKILL)
            with pytest.raises(DecoderCrashed):
                await victim
            assert [facts.frames for _, facts in await asyncio.gather(*others)] == [20] * 4
            assert restarts == ["crashed"]
            await _until(lambda: pool.live == 2)

    asyncio.run(check())


@pytest.mark.long
def test_a_pool_gets_over_what_happens_to_its_worker(tmp_path: Path, long_clip: Path) -> None:
    short = clips.pattern(tmp_path / "short.mp4", *H264)
    slow = ViewPlan(temporal=12, spatial=1, frames=16, size=64, short_side=64)

    async def check() -> None:
        async with pool_of(timeout_seconds=2.0) as (pool, restarts):
            # A clip that nobody wants any more: telling the worker is enough.
            abandoned = asyncio.create_task(decode_in(pool, long_clip, slow))
            await asyncio.sleep(0.1)
            abandoned.cancel()
            with pytest.raises(asyncio.CancelledError):
                await abandoned
            began = time.monotonic()
            assert (await decode_in(pool, short))[1].frames == 20
            assert time.monotonic() - began < 1.5
            assert restarts == []

            # A worker that dies while it is idle costs no clip: the next waits for a successor.
            (first,) = pool.pids
            os.kill(first, signal.SIGSEGV)
            assert (await decode_in(pool, short))[1].frames == 20
            assert restarts == ["crashed"]
            assert pool.pids != [first]

            # A worker that does nothing is killed at the deadline.
            os.kill(pool.pids[0], signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(DecodeTimeout) as caught:
                await decode_in(pool, short)
            assert 1.9 < time.monotonic() - began < 4
            assert caught.value.members["limit"] == 2.0
            assert (await decode_in(pool, short))[1].frames == 20
            assert restarts == ["crashed", "timeout"]

            # And so is one that goes on with a clip that nobody wants.
            os.kill(pool.pids[0], signal.SIGSTOP)
            abandoned = asyncio.create_task(decode_in(pool, short))
            await asyncio.sleep(0.1)
            abandoned.cancel()
            assert (await decode_in(pool, short))[1].frames == 20
            assert restarts == ["crashed", "timeout", "abandoned"]

    asyncio.run(check())


@pytest.mark.long
def test_workers_are_replaced_after_so_many_clips_without_a_gap(tmp_path: Path) -> None:
    clip = clips.pattern(tmp_path / "clip.mp4", *H264)

    async def check() -> None:
        async with pool_of(recycle_jobs=3) as (pool, restarts):
            (first,) = pool.pids
            for _ in range(3):
                await decode_in(pool, clip)
            assert pool.live == 1, "the old one serves until its successor is warm"
            await _until(lambda: restarts == ["recycled"] and pool.pids != [first])
            assert len(pool.pids) == 1
            assert (await decode_in(pool, clip))[1].frames == 20

    asyncio.run(check())


@pytest.mark.long
def test_a_worker_that_grew_is_replaced(tmp_path: Path) -> None:
    clip = clips.pattern(tmp_path / "clip.mp4", *H264)

    async def check() -> None:
        async with pool_of(recycle_rss_bytes=64 * MiB) as (pool, restarts):
            await decode_in(pool, clip)  # any worker is larger than that
            await _until(lambda: restarts[:1] == ["recycled"])

    asyncio.run(check())


@pytest.mark.long
def test_what_a_worker_may_take_in_its_whole_life_is_capped() -> None:
    async def check() -> None:
        async with pool_of(memory_bytes=512 * MiB, recycle_rss_bytes=1024 * MiB) as (pool, _):
            (pid,) = pool.pids
            soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
            size = int(Path(f"/proc/{pid}/statm").read_bytes().split()[0]) * resource.getpagesize()
            assert soft == hard
            assert 1536 * MiB - MiB < hard - size <= 1536 * MiB

    asyncio.run(check())


async def _until(check: Callable[[], bool], seconds: float = 60, every: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(every)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(sig: int) -> None:
    script = (
        "import asyncio\n"
        "from service.decoding.process import DecodeProcess\n"
        "async def main():\n"
        "    worker = await DecodeProcess.start(60, lambda worker: None)\n"
        "    print(worker.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert Path(f"/proc/{worker}").exists()
    parent.send_signal(sig)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while is_running(worker):
        assert time.monotonic() < deadline, "the worker is an orphan"
        time.sleep(0.05)


def test_a_worker_is_confined_and_knows_no_secrets() -> None:
    async def check() -> None:
        os.environ["LOOKWHEN_SECRET_FOR_TEST"] = "hunter2"
        try:
            worker = await DecodeProcess.start(60, lambda worker: None)
        finally:
            del os.environ["LOOKWHEN_SECRET_FOR_TEST"]
        try:
            proc = Path(f"/proc/{worker.pid}")
            assert b"hunter2" not in (proc / "environ").read_bytes()
            limits = (proc / "limits").read_text()
            for name in ("Max core file size", "Max file size"):
                line = next(line for line in limits.splitlines() if line.startswith(name))
                assert line.removeprefix(name).split()[:2] == ["0", "0"]
            status = (proc / "status").read_text()
            assert "NoNewPrivs:\t1" in status
            own = int(Path("/proc/self/oom_score_adj").read_text())
            score = int((proc / "oom_score_adj").read_text())
            assert score == min(1000, own + 500), "it goes before the service"
            for kind in ("CapInh", "CapPrm", "CapEff"):
                assert f"{kind}:\t{0:016x}" in status
        finally:
            await worker.stop()

    asyncio.run(check())


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_that_cannot_decode_on_the_gpu_says_what_that_takes() -> None:
    async def check() -> None:
        async with pool_of(device="cuda:0", sandbox="off"):  # type: ignore[arg-type]
            raise AssertionError("it must not start")

    with pytest.raises(WorkerStartError, match=r"LOOKWHEN_DECODE_DEVICE=cuda: .*cuda:0") as caught:
        asyncio.run(check())
    assert "LOOKWHEN_DECODE_DEVICE=cpu" in str(caught.value)
    assert "/" not in str(caught.value), "no path of the machine that built torchcodec"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_workers_decode_on_the_gpu(tmp_path: Path) -> None:
    clip = clips.pattern(tmp_path / "clip.mp4", *H264)

    async def check() -> None:
        async with pool_of() as (on_cpu, _):
            expected, facts = await decode_in(on_cpu, clip)
            assert facts.decoder == "ffmpeg"
        async with pool_of(device="cuda:0", sandbox="off") as (pool, restarts):  # type: ignore[arg-type]
            for _ in range(3):
                frames, facts = await decode_in(pool, clip)
                assert facts.decoder == "nvdec"
                assert np.abs(frames.astype(int) - expected.astype(int)).mean() < 2
            assert restarts == []

    asyncio.run(check())


def test_blocks_cannot_be_changed_or_shrunk() -> None:
    with SharedBlock("clip") as block:
        block.append(b"abc")
        block.seal_content()
        with pytest.raises(PermissionError):
            os.pwrite(block.fileno(), b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(block.fileno(), 1)
    with SharedBlock("frames", size=12) as block:
        block.seal_size()
        with pytest.raises(PermissionError):
            os.ftruncate(block.fileno(), 1)
        os.pwrite(block.fileno(), b"x" * 12, 0)
        content = block.content()
    assert content.shape == (12,)
    assert (content == ord("x")).all(), "the content outlives the block"
    with SharedBlock("frames", size=12) as block:
        os.ftruncate(block.fileno(), 13)
        with pytest.raises(ValueError, match="13 bytes"):
            block.content()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[]",
        b'{"kind": "decoded"}',
        b'{"kind": "decoded", "facts": {}}',
        b'{"kind": "surprise"}',
        b'{"kind": "refused", "code": "a b", "found": null, "limit": null}',
        b'{"kind": "refused", "code": "x", "found": NaN, "limit": null}',
        b'{"kind": "refused", "code": "x", "found": "1", "limit": null}',
        b'{"kind": "ready", "torchcodec": "1", "ffmpeg": "\\n"}',
        b'{"kind": "failed", "report": 1}',
        b'{"kind": "decoded", "facts": {"codec": "h264", "width": 0, "height": 1, "frames": 1, '
        b'"fps": 1, "duration_seconds": 1, "rotation_degrees": 0, "substituted_frames": 0}}',
    ],
)
def test_a_worker_is_not_believed(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_reply(line)
