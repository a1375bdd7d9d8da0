"""Passages of a long video, decoded where clips are: in the pool's workers, a job each."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from service.decoding.descriptors import Descriptor
from service.decoding.pool import DecodePool
from service.decoding.protocol import PassageJob, Passed
from service.decoding.shared_memory import SharedBlock
from service.errors import DecoderCrashed
from video.facts import ClipLimits
from video.passages import PassageFacts, PassagePlan

# By how much a worker's times may be off.
_HAIR = 1e-3
# Where in a window's place its edges begin.
_EDGES, _BEFORE = 1, 5


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedPassage:
    """The windows of a passage.

    Attributes:
        frames: uint8 [W, T, H, W, 3], of the windows that there are.
        places: float64 [W, 9], of them; see :data:`video.passages.PLACE_VALUES`.
        facts: what was found out.
        seconds: that a worker had it.
    """

    frames: NDArray[np.uint8]
    places: NDArray[np.float64]
    facts: PassageFacts
    seconds: float


def _is_sound(facts: PassageFacts, places: NDArray[np.float64], plan: PassagePlan) -> bool:
    """Whether a worker's word can be true: windows follow each other, each with its edges and
    counts in order, and a video goes on behind a passage or ends in it."""
    if facts.end is None and (not facts.windows or facts.following <= plan.origin):
        return False
    if facts.windows > plan.windows or not np.isfinite(places).all() or (places < 0).any():
        return False
    edges, before = places[:, _EDGES:_BEFORE], places[:, _BEFORE:]
    return bool(
        (np.diff(edges) >= -_HAIR).all()
        and (np.diff(before) >= 0).all()
        and (np.diff(places, axis=0) >= -_HAIR).all()
        and (edges[:, :1] >= plan.origin - _HAIR).all()
        and (edges[:, -1] - edges[:, 0] <= plan.window + _HAIR).all()
        and (before <= facts.frames).all()
        and (places[:, 0] <= facts.shots).all()
    )


async def decode_passage(
    pool: DecodePool,
    file: Descriptor,
    plan: PassagePlan,
    limits: ClipLimits,
    timeout_seconds: float,
) -> DecodedPassage:
    """Decode the windows of a passage.

    Args:
        file: a descriptor that reads the video.
        timeout_seconds: the worker is killed when it takes longer.

    Raises:
        ClipError: the video, or what decoding it takes, is at fault.
        InternalError: we are.
    """
    with SharedBlock("windows", size=plan.block_bytes) as room:
        room.seal_size()
        job = PassageJob(
            passage=plan,
            limits=limits,
            ffmpeg_threads=pool.limits.ffmpeg_threads,
            timeout_seconds=timeout_seconds,
            memory_bytes=pool.limits.address_space_bytes,
        )
        worker, reply, seconds = await pool.run(job, (file, room))
        if isinstance(reply, Passed):
            content, facts = room.content(), reply.facts
            places = content[: plan.places_bytes].view(np.float64).reshape(plan.places_shape)
            # A copy: a worker that is not believed may still write.
            places = places[: facts.windows].copy()
            if _is_sound(facts, places, plan):
                frames = content[plan.places_bytes :].reshape(plan.shape)
                return DecodedPassage(frames[: facts.windows], places, facts, seconds)
        worker.kill("protocol")
        raise DecoderCrashed
