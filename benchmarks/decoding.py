"""A clip to views in this process, with the code that the service's decode workers run."""

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.sampling import Views
from bundle.schema import Manifest
from service.decoding.protocol import DecodeJob
from service.decoding.worker import decode_on as decode_job_on
from video.facts import ClipFacts, ClipLimits, ViewPlan

_LIMITS = ClipLimits(
    max_streams=8,
    max_frame_pixels=4096 * 2160,
    max_clip_seconds=120,
    max_clip_frames=4000,
    max_frames_per_second=120,
    max_decoded_pixels=4_000_000_000,
)
_TIMEOUT_SECONDS = 10.0


def plan_for(manifest: Manifest, views: str | None = None) -> ViewPlan:
    """The views that a bundle wants, by default those it asks for itself."""
    chosen = Views.parse(views or manifest.sampling.default_views)
    return ViewPlan.of(manifest.geometry, manifest.sampling, chosen)


def decode(video: bytes, plan: ViewPlan) -> NDArray[np.uint8]:
    """The bytes of a video -> uint8 [V, T, H, W, 3], on one thread.

    Raises:
        video.errors.ClipRefused: the clip cannot be decoded.
    """
    return decode_on("cpu", video, plan)[0]


def decode_on(device: str, video: bytes, plan: ViewPlan) -> tuple[NDArray[np.uint8], ClipFacts]:
    """As :func:`decode`, by torch's name of a device, with what was found out about the clip."""
    out = torch.empty(plan.shape, dtype=torch.uint8)
    job = DecodeJob(
        clip_bytes=len(video),
        plan=plan,
        limits=_LIMITS,
        ffmpeg_threads=1,
        timeout_seconds=_TIMEOUT_SECONDS,
        memory_bytes=None,  # the worker's limits are for strangers' clips
    )
    # A writable copy: torch warns of memory that it may not write to.
    clip = torch.frombuffer(bytearray(video), dtype=torch.uint8)
    facts = decode_job_on(device, clip, out, job)
    return out.numpy(), facts
