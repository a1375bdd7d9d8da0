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


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedPassage:
    """The windows of a passage.

    Attributes:
        frames: uint8 [W, T, H, W, 3], of the windows that there are.
        marks: int64 [W, 4], see :func:`video.passage.decode_passage`; of all windows of the plan.
        facts: what was found out.
        seconds: that a worker had it.
    """

    frames: NDArray[np.uint8]
    marks: NDArray[np.int64]
    facts: PassageFacts
    seconds: float


def _sound(facts: PassageFacts, plan: PassagePlan) -> bool:
    """Whether a video goes on behind a passage, or ends in it."""
    return facts.windows == plan.windows or (facts.windows < plan.windows and facts.end is not None)


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
        if not isinstance(reply, Passed) or not _sound(reply.facts, plan):
            worker.kill("protocol")
            raise DecoderCrashed
        content, facts = room.content(), reply.facts
    marks = content[: plan.marks_bytes].view(np.float64).reshape(plan.marks_shape)
    # A worker is not believed.
    counts = np.clip(np.nan_to_num(marks), 0, facts.frames + 1e9).astype(np.int64)
    frames = content[plan.marks_bytes :].reshape(plan.shape)
    return DecodedPassage(frames[: facts.windows], counts, facts, seconds)
