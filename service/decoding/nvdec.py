"""One clip to views by an NVIDIA GPU's video engine: imported by decode workers alone.

What the GPU does not decode without a fault, the CPU decodes from the beginning: codecs that it
does not know, but also frames that fail, sizes that are odd or change on the way (which torchcodec
0.13 does not get right there), and a GPU whose memory is full. So a clip is refused for its own
sake alone, and answers do not depend on what else the GPU does.
"""

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torchcodec
from torch import Tensor
from torchcodec.decoders import VideoDecoder, set_nvdec_cache_capacity

from service.decoding import clip as on_cpu
from service.decoding.clip import FrameReader
from service.decoding.protocol import ClipFacts, Job
from service.errors import DecodeMemoryExceeded, Undecodable


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
    clip: Tensor, out: Tensor, job: Job, cancelled: Callable[[], bool], device: str
) -> ClipFacts:
    """As :func:`service.decoding.clip.decode_views`, on the GPU where it can.

    Args:
        device: torch's name of the GPU.

    Returns:
        What was found out about the clip; ``decoder`` says what decoded it.

    Raises:
        ClipError: the clip is at fault.
        DecodingCancelled: ``cancelled`` said so.
    """
    try:
        return _decode(clip, out, job, cancelled, device)
    except (_GaveUp, Undecodable, DecodeMemoryExceeded, RuntimeError):
        if not _alive(device):
            # Nothing works in this process any more: a driver's fatal error stays.
            os._exit(1)
    return on_cpu.decode_views(clip, out, job, cancelled)


def _decode(
    clip: Tensor, out: Tensor, job: Job, cancelled: Callable[[], bool], device: str
) -> ClipFacts:
    # Decoders kept for later clips mis-crop those that only share a coded size (torchcodec #1704).
    set_nvdec_cache_capacity(0)
    decoder = on_cpu.open_decoder(clip, job.ffmpeg_threads, device)
    if decoder.cpu_fallback:
        raise _GaveUp
    facts = on_cpu.check(decoder, job.limits)
    if facts.width % 2 or facts.height % 2:
        raise _GaveUp
    reader = FrameReader(decoder, job.plan, job.limits, cancelled)
    wanted = reader.wanted(facts)
    for index in np.unique(wanted).tolist():
        if not reader.read(index) or reader.sizes != {(facts.height, facts.width)}:
            raise _GaveUp
    reader.write(wanted, out)
    return replace(facts, decoder="nvdec")


def _alive(device: str) -> bool:
    try:
        torch.cuda.synchronize(device)
    except (RuntimeError, AssertionError):
        return False
    return True
