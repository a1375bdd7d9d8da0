"""Films and pictures are made by confined workers, which are not believed."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import service_clips as clips
from decode_pools import LIMITS, decode_in, pool_of

from service.decoding.encoding import encode_film, encode_picture
from service.decoding.pool import DecodePool, PoolLimits
from service.decoding.protocol import SANDBOXES, Encoded
from service.decoding.shared_memory import SharedBlock
from service.errors import DecoderCrashed, DecodeTimeout
from startup.sandbox import landlock, seccomp

LIT = np.array([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 32.0, 32.0]])
CONFINES = landlock.interface() > 0 and seccomp.supported()


@pytest.mark.long
@pytest.mark.skipif(not CONFINES, reason="needs a kernel with Landlock and seccomp")
def test_a_film_is_made_under_the_whole_sandbox(tmp_path: Path, long_clip: Path) -> None:
    """And a film that takes too long, or that nobody wants any more, is the end of itself alone."""
    clip = clips.pattern(tmp_path / "clip.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p")

    async def film(pool: DecodePool, of: Path, pixels: int = 1 << 22) -> bytes:
        with SharedBlock("clip") as block:
            block.append(of.read_bytes())
            return (await encode_film(pool, block, LIT, pixels)).content

    async def check() -> None:
        async with pool_of(sandbox="require") as (pool, restarts):
            assert pool.sandbox == SANDBOXES[-1]
            assert pool.makes_films
            assert (await film(pool, clip))[4:8] == b"ftyp"
            pixels = np.zeros((40, 30, 3), np.uint8)
            assert (await encode_picture(pool, pixels, "png")).content[:4] == b"\x89PNG"
            assert (await encode_picture(pool, pixels, "jpeg")).content[:2] == b"\xff\xd8"
            unwanted = asyncio.create_task(film(pool, long_clip, 1 << 28))
            await asyncio.sleep(0.5)
            unwanted.cancel()
            await asyncio.gather(unwanted, return_exceptions=True)
            frames, _ = await decode_in(pool, clip)
            assert frames.any()
            assert restarts == [], "the worker stopped by itself, between two frames"
            pool.limits = replace(pool.limits, timeout_seconds=0.5)
            with pytest.raises(DecodeTimeout):
                await film(pool, long_clip, 1 << 28)
            while not restarts:
                await asyncio.sleep(0.05)
            assert restarts == ["timeout"]

    asyncio.run(check())


class TakenOver:
    """A worker that says and writes what it pleases."""

    ended_for = ""

    def kill(self, reason: str) -> None:
        self.ended_for = reason


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"\x89PNG\r\n\x1a\n...", 1 << 30),
        (b"<html>", 6),
        (b"", 5),
        (b"\x00\x00\x00\x20ftypisom", 12),
    ],
)
def test_a_worker_that_lies_about_a_file_is_not_believed(written: bytes, said: int) -> None:
    worker = TakenOver()

    class Pool(DecodePool):
        async def run(self, job: object, blocks: Sequence[SharedBlock]) -> Any:
            os.pwrite(blocks[-1].fileno(), written, 0)
            return worker, Encoded(said), 0.1

    pool = Pool(PoolLimits(1, 1, 1.0, 1.0, 1 << 30, 10, 1 << 30), LIMITS)
    with pytest.raises(DecoderCrashed):
        asyncio.run(encode_picture(pool, np.zeros((8, 8, 3), np.uint8), "png"))
    assert worker.ended_for == "protocol"
