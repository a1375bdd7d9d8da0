"""Holes that were found and closed, each with its arithmetic."""

import asyncio
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import service_clips as clips
import torch
import torchcodec  # noqa: F401, brings FFmpeg's libraries
from decode_pools import LIMITS, decode_in, pool_of
from live_processes import zygotes

from service.decoding import worker
from service.decoding.demuxer import Prober
from service.decoding.protocol import (
    MAX_MESSAGE_BYTES,
    DecodeJob,
    ProtocolError,
    Refused,
    encode_reply,
)
from service.decoding.replies import decode_reply
from service.decoding.shared_memory import SharedBlock
from service.http.server import _listen
from video.errors import ClipRefused
from video.facts import MOST_FPS, ViewPlan

pytestmark = pytest.mark.long


def test_an_address_that_was_announced_refuses_nobody() -> None:
    """Between "listening" in the log and uvicorn's own `listen` lay all of the application's start.

    On a busy machine that was more than 0.1 s in which a probe that believed the log was refused.
    """
    with (
        _listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname(), timeout=5) as connection,
    ):
        connection.sendall(b"GET /livez HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "line",
    [
        # 16 KiB, the most that a worker may say at once, hold 16,383 brackets; Python's parser ends
        # at a thousand with RecursionError, which is no ValueError.
        b"[" * (MAX_MESSAGE_BYTES - 1),
        # A list cannot be looked up among the kinds: TypeError.
        b'{"kind": ["decoded"]}',
        # 400 digits are a whole number in JSON and in Python, and 10 ** 308 is the largest float:
        # OverflowError.
        b'{"kind": "refused", "code": "x", "found": ' + b"9" * 400 + b', "limit": null}',
    ],
    ids=["nested", "unhashable", "beyond_float"],
)
def test_a_worker_cannot_stop_its_own_supervision(line: bytes) -> None:
    """What escaped here ended the task that listens to the worker.

    Nobody then noticed the worker's end: its clip waited for its whole deadline, and the pool had
    one worker less for good.
    """
    with pytest.raises(ProtocolError):
        decode_reply(line)


def test_a_rate_beyond_all_clocks_is_no_lie_of_the_worker(tmp_path: Path) -> None:
    """A header of 2,147,483,647 frames a second; up to 120 frames are exempt from the rate's limit.

    The worker reported what it had found, beyond the 1e9 that a reply may hold: it was killed for
    it, the clip answered `decoder_crashed`, and ten of them in half a minute were a storm that made
    the service not ready. Found by 100,000 mutants: five of them were such.
    """
    clip = clips.pattern(tmp_path / "clip.avi", "-c:v", "mjpeg", seconds=1)
    data = bytearray(clip.read_bytes())
    scale = data.index(b"strh") + 28
    data[scale : scale + 8] = struct.pack("<II", 1, 0x7FFFFFFF)

    async def check() -> None:
        async with pool_of() as (pool, restarts):
            _, facts = await decode_in(pool, bytes(data))
            assert facts.fps == MOST_FPS
            assert facts.frames == 10
            assert restarts == []

    asyncio.run(check())


def test_a_clip_may_exceed_a_limit_by_any_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    """2**31 x 2**31 pixels are 4.6e18, and a reply holds 1e18: a worker was ended for saying so."""
    here, there = socket.socketpair()

    def refuse(*_: object, **__: object) -> None:
        raise ClipRefused("too_many_pixels", 2**62, 1)

    monkeypatch.setattr("video.views.decode_views", refuse)
    monkeypatch.setattr("service.decoding.sandbox.confinement.limit_job", lambda *_: None)
    plan = ViewPlan(temporal=1, spatial=1, frames=1, size=2, short_side=2)
    with (
        here,
        there,
        SharedBlock("clip") as clip,
        SharedBlock("frames", size=plan.block_bytes) as frames,
    ):
        clip.append(worker.WARM_UP_CLIP.read_bytes())
        job = DecodeJob(clip.size, plan, LIMITS, 1, 1.0, 0)
        prober = Prober(torch.ops.loaded_libraries)
        reply = worker._run(job, [clip.fileno(), frames.fileno()], here, "cpu", prober)
    assert decode_reply(encode_reply(reply)) == Refused("too_many_pixels", 1e18, 1)


def refusing(real: Callable[..., Any], code: int) -> tuple[Callable[..., Any], Iterator[bool]]:
    """A function that fails twice as a call of the system does; what is left of its refusals."""
    refusals = iter([True, True])

    def refused(*arguments: Any, **options: Any) -> Any:
        if next(refusals, False):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    return refused, refusals


@pytest.mark.parametrize("lacking", ["processes", "descriptors"])
def test_a_lack_of_processes_costs_no_worker_for_good(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EAGAIN from fork ended the only task that would have tried again: 1 worker - 1 = none."""
    clip = clips.pattern(tmp_path / "clip.mp4", "-c:v", "libx264", seconds=1)

    async def check() -> None:
        async with pool_of() as (pool, restarts):
            if lacking == "processes":
                # What workers are forked off has to be started anew, too.
                (zygote,) = zygotes()
                os.kill(zygote, signal.SIGKILL)
                popen, refusals = refusing(subprocess.Popen, errno.EAGAIN)
                monkeypatch.setattr(subprocess, "Popen", popen)
            else:
                pair, refusals = refusing(socket.socketpair, errno.EMFILE)
                monkeypatch.setattr(socket, "socketpair", pair)
            os.kill(pool.pids[0], signal.SIGKILL)
            while not pool.live or restarts != ["crashed"]:
                await asyncio.sleep(0.05)
            _, facts = await decode_in(pool, clip)
            assert facts.frames == 10
            assert next(refusals, None) is None, "it was refused twice before"
            assert len(zygotes()) == 1, "there is one again"

    asyncio.run(asyncio.wait_for(check(), 120))


def test_a_block_that_cannot_be_shared_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy had the original's number until it got one of its own, and closed it when it did
    not: the next file that was opened got the number, and was closed in the clip's place."""

    def dup(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with SharedBlock("clip") as block:
        block.append(b"abc")
        monkeypatch.setattr(os, "dup", dup)
        with pytest.raises(OSError, match="Too many open files"):
            block.share()
        assert block.read(3) == b"abc"


def test_a_worker_that_is_started_among_a_thousand_connections(white: Path) -> None:
    """select() takes descriptors up to 1023, and a worker's socket keeps its number.

    A service with 1,030 connections that replaced a worker then (after 200 clips, say) gave it the
    number 1,040 or so; from there on each clip was an internal error.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1100
    if hard != resource.RLIM_INFINITY and hard < wanted + 100:
        pytest.skip("this machine allows fewer than 1,200 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 100), hard))

    async def check() -> None:
        async with pool_of(start_timeout_seconds=300, timeout_seconds=120) as (pool, _):
            _, facts = await decode_in(pool, white)
            assert facts.frames == 20

    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(wanted):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        asyncio.run(check())
