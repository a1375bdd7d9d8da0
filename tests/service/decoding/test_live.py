"""A stream that comes faster than it is decoded is not decoded late: frames are left out."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from decode_pools import LIMITS, pool_of

from service.decoding import live
from service.decoding.clusters import ClusterCutter, Piece
from service.decoding.fetching import MUXED
from service.decoding.live import LiveDecoding, LiveLimits, LiveWindow
from service.decoding.pool import DecodePool, PoolLimits
from service.decoding.protocol import Opened, ProtocolError, Streamed, Windowed
from service.errors import DecoderCrashed, DecodeTimeout
from video.live_facts import StreamBegun, StreamProgress, StreamWindow
from video.passages import PassagePlan

PLAN = PassagePlan(2, 32, 32, "crop", start=0.0, window=0.4, stride=0.2, windows=8)


def limits(lag_seconds: float = 60.0, held_bytes: int = 1 << 24, step: float = 20) -> LiveLimits:
    return LiveLimits(LIMITS, 3600, step, lag_seconds, held_bytes)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> list[Piece]:
    """Four seconds at ten frames a second, a key frame every second."""
    clip = tmp_path_factory.mktemp("streams") / "clip.mp4"
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=size=64x64:rate=10:duration=4", "-pix_fmt", "yuv420p", "-g", "10", "-bf", "0",
         "-sc_threshold", "0", clip],
        check=True,
    )  # fmt: skip
    stream = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", clip, *MUXED], capture_output=True, check=True
    ).stdout
    return [*ClusterCutter().push(stream)]


async def all_of(decoding: LiveDecoding) -> list[LiveWindow]:
    found: list[LiveWindow] = []
    while (made := await decoding.windows()) is not None:
        found += made
    return found


@pytest.mark.slow
def test_a_stream_has_a_worker_of_its_own_and_is_never_late(pieces: list[Piece]) -> None:
    """One pool for all, because its start takes seconds."""

    async def go() -> None:
        async with pool_of() as (pool, restarts):
            await leaves_out_what_waited_up_to_a_key_frame(pool, pieces)
            await forgets_windows_and_not_their_places(pool, pieces)
            with pytest.raises(DecoderCrashed):
                await decode_and_send(pool, pieces, signal.SIGKILL)
            with pytest.raises((DecoderCrashed, DecodeTimeout)):
                await decode_and_send(pool, pieces, signal.SIGSTOP)
            assert not pool._lone
            assert not restarts  # the workers of clips are others
            assert pool.not_ready_because() is None

    asyncio.run(go())


async def leaves_out_what_waited_up_to_a_key_frame(pool: DecodePool, pieces: list[Piece]) -> None:
    decoding = LiveDecoding(pool, PLAN, limits(lag_seconds=0.3))
    header, *clusters = pieces
    for piece in (header, *clusters[:3]):
        await decoding.put(piece)
    await asyncio.sleep(0.5)
    await decoding.put(clusters[3])  # too late for all, and no key frame among them
    assert decoding.dropped_frames == 4
    await decoding.put(clusters[4])
    assert decoding.dropped_frames == 5
    await decoding.put(clusters[10])
    running = asyncio.create_task(decoding.run())
    for piece in clusters[11:20]:
        await decoding.put(piece)
    decoding.end()
    found = await all_of(decoding)
    await running
    assert found[-1].pixels is not None
    assert found[-1].pixels.any()
    assert decoding.dropped_frames == 5
    assert decoding.begun is not None
    assert decoding.begun.zero == pytest.approx(1.0)
    assert decoding.progress.frames == 10


async def forgets_windows_and_not_their_places(pool: DecodePool, pieces: list[Piece]) -> None:
    decoding = LiveDecoding(pool, PLAN, limits())
    for piece in pieces:
        await decoding.put(piece)
    decoding.end()
    await decoding.run()
    found = await all_of(decoding)
    begins = [window.place[1] for window in found]
    assert begins == sorted(begins)
    assert len(found) >= 19
    looked = [window.pixels is not None for window in found]
    assert looked == [False] * (len(found) - 4) + [True] * 4


async def decode_and_send(pool: DecodePool, pieces: list[Piece], number: signal.Signals) -> None:
    """Send a signal to the worker while it decodes; raises what becomes of the stream."""
    decoding = LiveDecoding(pool, PLAN, limits(step=0.5))
    running = asyncio.create_task(decoding.run())
    await decoding.put(pieces[0])
    await decoding.put(pieces[1])
    while not pool._lone:
        await asyncio.sleep(0.01)
    (worker,) = pool._lone
    os.kill(worker.pid, number)
    for piece in pieces[2:]:
        await decoding.put(piece)
    decoding.end()
    await all_of(decoding)
    await running


def test_bytes_that_wait_are_bounded(pieces: list[Piece]) -> None:
    async def put() -> LiveDecoding:
        decoding = LiveDecoding(None, PLAN, limits(held_bytes=10_000))  # type: ignore[arg-type]
        for piece in pieces:
            await decoding.put(piece)
            assert decoding._held <= 10_000
        return decoding

    assert asyncio.run(put()).dropped_frames > 0


def test_time_stamps_that_jump_on_and_on_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another clock is believed a few times, or nothing would pace what comes."""
    monkeypatch.setattr(live, "_JUMP_SECONDS", 0.3)

    async def put(jumps: int) -> float:
        decoding = LiveDecoding(None, PLAN, limits())  # type: ignore[arg-type]
        began = time.monotonic()
        for number in range(jumps + 1):
            await decoding.put(Piece(b"", 1000.0 * number, True))
        return time.monotonic() - began

    assert asyncio.run(put(live._MOST_JUMPS)) < 0.2
    assert asyncio.run(put(2 * live._MOST_JUMPS + 1)) >= 0.6


def test_a_worker_that_says_more_windows_than_there_can_be_is_refused() -> None:
    decoding = LiveDecoding(None, PLAN, limits(lag_seconds=1.0))  # type: ignore[arg-type]
    rows = np.zeros(PLAN.shape, np.uint8)
    decoding._room = rows
    decoding._tell(Opened(StreamBegun("h264", 64, 64, 0.0, 10.0)))

    def say(windows: int) -> None:
        for _ in range(windows):
            place = (0.0,) * 9
            decoding._tell(Windowed(StreamWindow(0, place)))

    say(round(30 / PLAN.stride))  # half a minute of a stream that was held back
    with pytest.raises(ProtocolError, match="more windows"):
        say(1000)


def test_a_worker_that_starts_slowly_is_not_ended_for_it() -> None:
    """What it says counts from when it is given something."""

    class Slow:
        """A worker that takes longer to start than it may take for a step."""

        limits = PoolLimits(1, 1, 20, 300, 1 << 30, 1, 1 << 30)
        killed = ""

        @contextlib.asynccontextmanager
        async def lone_worker(self) -> AsyncIterator["Slow"]:
            await asyncio.sleep(0.5)
            yield self

        async def run(self, *_: object) -> Streamed:
            await asyncio.sleep(0.2)
            return Streamed(StreamProgress(0.0, 0, 0))

        def kill(self, reason: str) -> None:
            self.killed = reason

    async def go() -> None:
        worker: Any = Slow()
        decoding = LiveDecoding(worker, PLAN, limits(step=0.4))
        decoding.end()
        await decoding.run()
        assert not worker.killed

    asyncio.run(go())
