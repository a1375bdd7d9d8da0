"""Pictures and films of what was kept, encoded where clips are decoded: in the pool's workers.

So encoding has their sandbox, their deadline and their limits of memory and CPU time, and takes a
turn of theirs.
"""

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.decoding.pool import DecodePool
from service.decoding.protocol import Encoded, FilmJob, PictureJob
from service.decoding.shared_memory import SharedBlock
from service.errors import DecoderCrashed
from video.facts import PictureFormat

# How a file of each kind begins, from which byte on: what a worker hands over is no other file.
_FIRST_BYTES = {"mp4": (4, b"ftyp"), "png": (0, b"\x89PNG\r\n"), "jpeg": (0, b"\xff\xd8\xff")}
# More than noise takes; what is not written takes no memory.
_SMALLEST_ROOM_BYTES, _FILM_BYTES_OF_PIXEL, _PICTURE_BYTES_OF_PIXEL = 1 << 20, 2, 4


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A picture or a film, and the seconds that a worker had it."""

    content: bytes
    seconds: float


async def encode_film(
    pool: DecodePool, clip: SharedBlock, lit: NDArray[np.float64], pixels: int
) -> EncodedFile:
    """Write a clip anew, lit in some places and dimmed elsewhere.

    Args:
        clip: the file's bytes; sealed here.
        lit: float64 [places, 8]; see :func:`video.film.encode_film`.
        pixels: of all its frames.

    Raises:
        ClipError: the clip, or what decoding it takes, is at fault.
        InternalError: we are.
    """
    clip.seal_content()
    job = FilmJob(
        clip_bytes=clip.size,
        places=len(lit),
        limits=pool.clip_limits,
        ffmpeg_threads=pool.limits.ffmpeg_threads,
        timeout_seconds=pool.limits.timeout_seconds,
        memory_bytes=pool.limits.address_space_bytes,
    )
    with SharedBlock("places") as places:
        places.append(np.ascontiguousarray(lit, np.float64).tobytes())
        room_bytes = _SMALLEST_ROOM_BYTES + _FILM_BYTES_OF_PIXEL * pixels
        return await _encode(pool, job, (clip, places), room_bytes, _FIRST_BYTES["mp4"])


async def encode_picture(
    pool: DecodePool, pixels: NDArray[np.uint8], kind: PictureFormat
) -> EncodedFile:
    """Encode a picture, uint8 [H, W, 3]; raises as :func:`encode_film` does."""
    height, width = pixels.shape[:2]
    job = PictureJob(
        height=height,
        width=width,
        format=kind,
        ffmpeg_threads=1,
        timeout_seconds=pool.limits.timeout_seconds,
        memory_bytes=pool.limits.address_space_bytes,
    )
    with SharedBlock("pixels") as block:
        await asyncio.to_thread(block.append, np.ascontiguousarray(pixels).data)
        room_bytes = _SMALLEST_ROOM_BYTES + _PICTURE_BYTES_OF_PIXEL * height * width
        return await _encode(pool, job, (block,), room_bytes, _FIRST_BYTES[kind])


async def _encode(
    pool: DecodePool,
    job: FilmJob | PictureJob,
    blocks: tuple[SharedBlock, ...],
    room_bytes: int,
    begins: tuple[int, bytes],
) -> EncodedFile:
    with SharedBlock("room", size=room_bytes) as room:
        room.seal_size()
        worker, reply, seconds = await pool.run(job, (*blocks, room))
        if isinstance(reply, Encoded) and reply.bytes <= room_bytes:
            # A copy, because the worker still has the room.
            content = room.read(reply.bytes)
            place, first = begins
            if content[place : place + len(first)] == first:
                return EncodedFile(content, seconds)
        worker.kill("protocol")
        raise DecoderCrashed
