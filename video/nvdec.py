"""One clip to views by an NVIDIA GPU's video engine: imported by decode workers alone.

What the GPU does not decode without a fault, the CPU decodes from the beginning: codecs that it
does not know, but also frames that fail, sizes that are odd or change on the way (which torchcodec
0.13 does not get right there), and a GPU whose memory is full. So a clip is refused for its own
sake alone, and answers do not depend on what else the GPU does.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from video import views as on_cpu
from video.codec import VideoDecoder, set_nvdec_cache_capacity, torchcodec
from video.errors import ClipRefused
from video.facts import ClipFacts, ClipLimits, ViewPlan
from video.views import ViewReader

# What the CPU may still make of a clip that the GPU did not get through.
_TRIED_AGAIN = ("undecodable", "decode_memory_exceeded")


class DeviceUnusable(Exception):
    """Clips cannot be decoded where they should be; the text says why."""


class _GaveUp(Exception):
    """The GPU did not decode a clip without a fault."""


def require_device(clip: Tensor, device: str) -> None:
    """Decode a clip that every GPU knows, because torchcodec says nothing where the CPU steps in.

    Raises:
        DeviceUnusable: it was not decoded on the GPU.
    """
    try:
        decoder = VideoDecoder(clip, device=device)
        decoder.get_frame_at(0)
    except (RuntimeError, AssertionError, ValueError) as error:
        # Where in its source torchcodec raised it comes first.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].rpartition(".cpp:")[2].partition(", ")[2] or lines[0]
        raise DeviceUnusable(f"torchcodec {torchcodec.__version__} says: {reason}") from None
    if decoder.cpu_fallback:
        raise DeviceUnusable(str(decoder.cpu_fallback))


def decode_views(
    clip: Tensor,
    out: Tensor,
    plan: ViewPlan,
    limits: ClipLimits,
    *,
    device: str,
    times: Tensor | None = None,
    threads: int = 1,
    search_seconds: float = 6.0,
    cancelled: Callable[[], bool] = lambda: False,
) -> ClipFacts:
    """As :func:`video.views.decode_views`, on the GPU where it can.

    Args:
        device: torch's name of the GPU.

    Returns:
        What was found out about the clip; ``decoder`` says what decoded it.

    Raises:
        ClipRefused: the clip is at fault.
        DecodingCancelled: ``cancelled`` said so.
    """
    how: dict[str, Any] = {"threads": threads, "cancelled": cancelled}
    try:
        return _decode(clip, out, plan, limits, times, device=device, **how)
    except (_GaveUp, RuntimeError, ClipRefused) as error:
        if isinstance(error, ClipRefused) and error.code not in _TRIED_AGAIN:
            raise
        if not _alive(device):
            # Nothing works in this process any more: a driver's fatal error stays.
            os._exit(1)
    return on_cpu.decode_views(
        clip, out, plan, limits, times=times, search_seconds=search_seconds, **how
    )


def _decode(
    clip: Tensor, out: Tensor, plan: ViewPlan, limits: ClipLimits, times: Tensor | None, **how: Any
) -> ClipFacts:
    # Decoders kept for later clips mis-crop those that only share a coded size (torchcodec #1704).
    set_nvdec_cache_capacity(0)
    reader = ViewReader(clip, plan, limits, **how)
    video = reader.video
    if video.decoder.cpu_fallback or not video.indexed or any(side % 2 for side in video.stored):
        raise _GaveUp
    wanted = reader.wanted()
    for moment in np.unique(wanted).tolist():
        if not reader.read(moment) or video.meter.sizes != {video.stored}:
            raise _GaveUp
    reader.write(wanted, out, times)
    return replace(reader.facts, decoder="nvdec")


def _alive(device: str) -> bool:
    try:
        torch.cuda.synchronize(device)
    except (RuntimeError, AssertionError):
        return False
    return True
