"""Decode pools for tests, and what they are asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.decoding.pool import DecodePool, PoolLimits
from service.decoding.shared_memory import SharedBlock
from video.facts import ClipFacts, ClipLimits, ViewPlan

Frames = NDArray[np.uint8]
MiB = 1024 * 1024
PLAN = ViewPlan(temporal=1, spatial=1, frames=16, size=64, short_side=64)
LIMITS = ClipLimits(
    max_streams=8,
    max_frame_pixels=4096 * 2160,
    max_clip_seconds=120,
    max_clip_frames=4000,
    max_frames_per_second=120,
    max_decoded_pixels=4_000_000_000,
)
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


@asynccontextmanager
async def pool_of(
    workers: int = 1, clip_limits: ClipLimits = LIMITS, **limits: float
) -> AsyncIterator[tuple[DecodePool, list[str]]]:
    """A pool and the reasons for which it replaced workers."""
    settings = {
        "timeout_seconds": 20,
        "start_timeout_seconds": 300,
        "memory_bytes": 2048 * MiB,
        "recycle_jobs": 10_000,
        "recycle_rss_bytes": 4096 * MiB,
    } | limits
    restarts: list[str] = []
    pool = DecodePool(
        PoolLimits(workers=workers, ffmpeg_threads=1, **settings),  # type: ignore[arg-type]
        clip_limits,
        restarts.append,
    )
    await pool.start()
    try:
        yield pool, restarts
    finally:
        pids = pool.pids
        await pool.stop()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids), "a worker was left behind"


async def decode_in(
    pool: DecodePool, clip: Path | bytes, plan: ViewPlan = PLAN
) -> tuple[Frames, ClipFacts]:
    with SharedBlock("clip") as block:
        block.append(clip if isinstance(clip, bytes) else clip.read_bytes())
        decoded = await pool.decode(block, plan)
        return decoded.frames, decoded.facts
