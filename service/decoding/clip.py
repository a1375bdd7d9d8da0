"""One clip to views, with torchcodec: imported by decode workers alone.

Frames are asked for one by one, in ascending order, and each is resized as soon as it is there.
That costs what one call for all of them would (torchcodec's batch is the same loop), needs memory
for one full frame instead of sixteen, lets every frame be checked for its real size, survives
streams whose size changes on the way, and tells which frame it was that could not be decoded.

The seek mode is "exact": torchcodec then reads all packets, without decoding them, before the first
frame. That takes 1-4 ms for clips of some megabytes and is what makes variable frame rates, streams
that do not begin at zero, containers without a frame count and headers that promise more frames
than there are come out right. "Approximate" trusts the header for all of these.
"""

import math
import mmap
import re
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchcodec import _core as core
from torchcodec.decoders import VideoDecoder

from bundle.sampling import frame_indices
from bundle.views import crop, resize, resized_shape
from service.decoding.protocol import MOST_FPS, ClipFacts, ClipLimits, Job, ViewPlan
from service.errors import (
    ClipError,
    ClipTooLong,
    DecodeMemoryExceeded,
    FrameRateTooHigh,
    NoVideoStream,
    TooManyFrames,
    TooManyPixels,
    TooManyStreams,
    TooMuchDecoding,
    Undecodable,
)

# A damaged clip is searched for frames that do decode: at most at so many places, and for at most
# this share of the deadline. Our choice: enough to spread a view over what is left of a clip.
_SEARCHED_FRAMES = 256
_SEARCH_SHARE = 0.6
# RGB frames that must fit into memory if a lack of it is not to be why a frame failed.
_FRAMES_OF_ROOM = 4


class DecodingCancelled(Exception):
    """The service no longer wants the clip."""


def decode_views(clip: Tensor, out: Tensor, job: Job, cancelled: Callable[[], bool]) -> ClipFacts:
    """Decode the frames that the views need and write the views.

    Args:
        clip: uint8 [bytes], the file.
        out: uint8 [V, T, H, W, 3], written; views are temporal-major, then spatial.
        job: which views, and what a clip may be.
        cancelled: asked between two frames.

    Returns:
        What the decoder found out about the clip.

    Raises:
        ClipError: the clip is at fault; nothing in it comes from the decoder's own words.
        DecodingCancelled: ``cancelled`` said so.
    """
    began = time.monotonic()
    decoder = open_decoder(clip, job.ffmpeg_threads, "cpu")
    facts = check(decoder, job.limits)
    reader = FrameReader(decoder, job.plan, job.limits, cancelled)
    wanted = reader.wanted(facts)
    missing = [index for index in np.unique(wanted).tolist() if not reader.read(index)]
    if missing:
        reader.search(facts.frames, until=began + _SEARCH_SHARE * job.timeout_seconds)
        there = sorted(reader.views)
        if not there:
            raise Undecodable
        sampled = frame_indices(len(there), job.plan.frames, job.plan.temporal)
        wanted = np.take(there, sampled)
    reader.write(wanted, out)
    return replace(facts, substituted_frames=len(missing))


class FrameReader:
    """Reads single frames and keeps what the views need of each.

    Attributes:
        views: of each frame that was read, uint8 [S, H, W, 3] on the CPU.
        sizes: (height, width) of these frames.
    """

    def __init__(
        self,
        decoder: VideoDecoder,
        plan: ViewPlan,
        limits: ClipLimits,
        cancelled: Callable[[], bool],
    ) -> None:
        self.views: dict[int, Tensor] = {}
        self.sizes: set[tuple[int, int]] = set()
        self._decoder, self._plan = decoder, plan
        self._limits, self._cancelled = limits, cancelled
        self._failed: set[int] = set()
        # The packets were read when the clip was opened; the public decoder keeps it to itself.
        self._key_frames = [int(index) for index in decoder._get_key_frame_indices()]
        self._last, self._decoded_pixels = -1, 0

    def wanted(self, facts: ClipFacts) -> NDArray[np.int64]:
        """The frames of the views, int64 [temporal views, T].

        Refuses what takes too many decoded pixels before any is, by the size in the header. The
        sum over frames as they are read, by their real sizes, is checked in :meth:`read`.
        """
        wanted = frame_indices(facts.frames, self._plan.frames, self._plan.temporal)
        frames, last = 0, -1
        for index in np.unique(wanted).tolist():
            frames += self._frames_to_decode(index, last)
            last = index
        self._check_pixels(frames * facts.width * facts.height)
        return wanted

    def write(self, wanted: NDArray[np.int64], out: Tensor) -> None:
        """Put views together from frames that were read: uint8 [V, T, H, W, 3]."""
        spatial = self._plan.spatial
        for temporal_view, indices in enumerate(wanted.tolist()):
            rows = out[temporal_view * spatial : (temporal_view + 1) * spatial]  # [S, T, H, W, 3]
            for time_step, index in enumerate(indices):
                rows[:, time_step] = self.views[index]

    def _frames_to_decode(self, index: int, last: int) -> int:
        """Frames between the one decoded last, or the nearest key frame, and the one wanted."""
        position = bisect_right(self._key_frames, index) - 1
        key_frame = self._key_frames[position] if position >= 0 else 0
        begin = max(last + 1, key_frame) if last < index else key_frame
        return index - begin + 1

    def _check_pixels(self, pixels: int) -> None:
        if pixels > self._limits.max_decoded_pixels:
            raise TooMuchDecoding(pixels, self._limits.max_decoded_pixels)

    def read(self, index: int) -> bool:
        """Decode the frame and keep its crops; False if it cannot be decoded."""
        if index in self.views:
            return True
        if index in self._failed:
            return False
        if self._cancelled():
            raise DecodingCancelled
        try:
            frame: Tensor = self._decoder.get_frame_at(index).data[None]  # [1, 3, H, W]
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            if _is_memory(error) or not self._has_room():
                raise DecodeMemoryExceeded from None
            self._failed.add(index)
            return False
        height, width = frame.shape[-2:]
        self.sizes.add((height, width))
        if height * width > self._limits.max_frame_pixels:
            raise TooManyPixels(height * width, self._limits.max_frame_pixels)
        self._decoded_pixels += self._frames_to_decode(index, self._last) * height * width
        self._last = index
        self._check_pixels(self._decoded_pixels)
        small = resize(frame, *resized_shape(height, width, self._plan.short_side))
        self.views[index] = crop(small, self._plan.size, self._plan.spatial)[:, 0].cpu()
        return True

    def _has_room(self) -> bool:
        """Whether there is memory for a few frames: decoders call the lack of it invalid data."""
        metadata = self._decoder.metadata
        try:
            mmap.mmap(-1, _FRAMES_OF_ROOM * 3 * (metadata.width or 1) * (metadata.height or 1))
        except OSError:
            return False
        return True

    def search(self, frames: int, until: float) -> None:
        """Read frames all over the clip, so that views can be made of those that do decode."""
        step = max(1, frames // _SEARCHED_FRAMES)
        for index in range(0, frames, step):
            if time.monotonic() > until:
                return
            self.read(index)


def open_decoder(clip: Tensor, threads: int, device: str) -> VideoDecoder:
    """Read a clip's header and packets, to decode it where torch's name of a device says.

    Raises:
        ClipError: it cannot be read.
    """
    try:
        return VideoDecoder(clip, seek_mode="exact", num_ffmpeg_threads=threads, device=device)
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        raise _refusal(error) from None


def _refusal(error: Exception) -> ClipError:
    """The boundary at which the decoder's errors, whose texts hold paths, become ours."""
    if _is_memory(error):
        return DecodeMemoryExceeded()
    # torchcodec has no error of its own for this.
    if isinstance(error, ValueError) and "best video stream is unknown" in str(error):
        return NoVideoStream()
    return Undecodable()


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or bool(
        re.search(r"cannot allocate|can't allocate|bad_alloc|aten::empty", str(error), re.I)
    )


def check(decoder: VideoDecoder, limits: ClipLimits) -> ClipFacts:
    """Hold what the header and the packets say against the limits, before anything is decoded."""
    # The public decoder knows one stream; how many there are is only told by the layer below.
    streams = len(core.get_container_metadata(decoder._decoder).streams)
    if streams > limits.max_streams:
        raise TooManyStreams(streams, limits.max_streams)
    metadata = decoder.metadata
    width, height, frames = metadata.width or 0, metadata.height or 0, len(decoder)
    if width * height > limits.max_frame_pixels:
        raise TooManyPixels(width * height, limits.max_frame_pixels)
    if frames < 1 or width < 1 or height < 1:
        raise Undecodable
    seconds = max(0.0, float(metadata.duration_seconds or 0.0))
    if seconds > limits.max_clip_seconds:
        raise ClipTooLong(seconds, limits.max_clip_seconds)
    if frames > limits.max_clip_frames:
        raise TooManyFrames(frames, limits.max_clip_frames)
    fps = frames / seconds if seconds > 0 else 0.0
    # A hair above: 120000/1001 and its like must not fail for the last digit of a division.
    if frames > limits.max_frames_per_second and fps > limits.max_frames_per_second * 1.001:
        raise FrameRateTooHigh(fps, limits.max_frames_per_second)
    # torchcodec turns the frames itself; `rotation` tells how far, counter-clockwise. A matrix that
    # turns nothing into nothing has no angle.
    rotation = float(metadata.rotation or 0)
    return ClipFacts(
        codec=str(metadata.codec or "unknown"),
        width=width,
        height=height,
        frames=frames,
        fps=min(round(fps, 3), MOST_FPS),
        duration_seconds=round(seconds, 6),
        rotation_degrees=round(rotation) % 360 if math.isfinite(rotation) else 0,
        substituted_frames=0,
        decoder="ffmpeg",
    )
