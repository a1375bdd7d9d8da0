"""A part of a long video to windows: opened there, and gone through forwards.

Each passage opens the file by its descriptor, goes to the key frame before its beginning, and
decodes from there on, frame after frame. So a worker keeps nothing from one passage to the next,
memory does not grow with the video, and what is decoded twice is what lies between a key frame and
a beginning. That the file was entered at the right place is told by the first time stamp that
comes.
"""

import io
import math
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from video.codec import core, ops
from video.cuts import CutFinder
from video.errors import ClipRefused, DecodingCancelled
from video.facts import ClipLimits
from video.framing import Frame
from video.meter import Meter
from video.opening import DECODER_ERRORS, is_memory, refusal, require_memory
from video.orientation import Orientation, orientation, track_matrices
from video.passages import PassageFacts, PassagePlan
from video.reader import stretch_of
from video.slide import Slide
from video.walk import ANY_TIME, play

# How far before a passage's beginning a video is entered: the frame that is shown at the beginning
# began some time before. Where none came early enough, it is entered so much earlier again.
_ENTER_SECONDS, _ENTER_GROWTH = 1.0, 8.0
_USUAL_INTERVAL = 1 / 25
# How often decoding goes on after packets of which nothing comes, and beyond: then the video ends.
_MOST_LOST = 4096
# Larger tables of contents are not searched for a mirror.
_MOST_MOVIE_BYTES = 64 << 20
# So long before it the search for cuts begins, which stand out from what is around them.
_LEAD_SECONDS = 0.5


def decode_passage(
    descriptor: int,
    out: Tensor,
    places: Tensor,
    plan: PassagePlan,
    limits: ClipLimits,
    *,
    threads: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
) -> PassageFacts:
    """Decode the windows of a passage.

    Args:
        descriptor: of the file, from which is read.
        out: uint8 [W, T, H, W, 3], written.
        places: float64 [W, 9], written: where each window lies, see
            :data:`video.passages.PLACE_VALUES`; zeros of those that are not made.
        plan: which windows.
        limits: what a frame, and all decoding for this passage, may be.
        threads: FFmpeg's.
        cancelled: asked between two frames.

    Raises:
        ClipRefused: the video is at fault.
        DecodingCancelled: ``cancelled`` said so.
    """
    try:
        return _decode(descriptor, out, places, plan, limits, threads, cancelled)
    except RuntimeError as error:  # torch's way to say that it got no memory
        if not is_memory(error):
            raise
        raise ClipRefused("decode_memory_exceeded") from None


def _decode(
    descriptor: int,
    out: Tensor,
    places: Tensor,
    plan: PassagePlan,
    limits: ClipLimits,
    threads: int,
    cancelled: Callable[[], bool],
) -> PassageFacts:
    stream = _Stream(descriptor, limits, threads, cancelled)
    zero = stream.first_time() if plan.zero is None else plan.zero
    slide, finder = Slide(plan, stream.play, out), CutFinder(plan.cuts)
    end: float | None = None
    lasts = 0.0

    def show(frame: Frame, cut: bool) -> bool:
        """Whether that is enough."""
        nonlocal end
        if plan.until is not None and frame.time >= plan.until - stream.play:
            end = plan.until if slide.end(plan.until) else None
            return True
        slide.show(frame, cut=cut)
        seconds = max(0.0, frame.time - plan.origin) + plan.window
        if slide.frames > limits.max_frames_per_second * (1.001 * seconds + 1):
            raise ClipRefused(
                "frame_rate_too_high", slide.frames / seconds, limits.max_frames_per_second
            )
        return slide.is_full

    frame: Frame | None = None
    for frame, seconds in stream.frames(zero, plan.origin - (_LEAD_SECONDS if plan.cuts else 0)):
        lasts = seconds
        if any(show(*known) for known in finder.push(frame)):
            break
    else:
        if frame is None:
            raise ClipRefused("undecodable")
        if not any(show(*known) for known in finder.finish()):
            last = frame.time + lasts
            last = last if plan.until is None else min(last, plan.until)
            end = last if slide.end(last) else None
    slide.write_places(places)
    return PassageFacts(
        codec=stream.codec,
        width=stream.width,
        height=stream.height,
        zero=zero,
        windows=slide.made,
        shots=slide.shots,
        following=slide.following,
        frames=slide.frames,
        end=end,
        said_seconds=stream.said_seconds,
        rate=stream.rate,
        lost=stream.lost,
    )


class _Stream:
    """The video stream of a file that is read by its descriptor."""

    def __init__(
        self, descriptor: int, limits: ClipLimits, threads: int, cancelled: Callable[[], bool]
    ) -> None:
        self._descriptor, self._threads, self._cancelled = descriptor, threads, cancelled
        self.lost = 0
        self._limits = limits
        self._decoder, metadata = self._open()
        self.codec = str(metadata.codec or "unknown")
        self.said_seconds = _said_seconds(metadata)
        rate = metadata.average_fps_from_header
        self.rate = float(rate) if rate and 0 < rate < 1e9 else 0.0
        self._interval = 1 / self.rate if self.rate else _USUAL_INTERVAL
        self.play = play(self._interval)
        self._orientation = self._oriented(metadata)
        self.stretch = stretch_of(metadata.pixel_aspect_ratio, self._orientation)
        self._stored = (metadata.height or 0, metadata.width or 0)
        self.height = max(1, round(self._stored[0] * self.stretch[0]))
        self.width = max(1, round(self._stored[1] * self.stretch[1]))
        self._meter = Meter(limits, self._stored, self.stretch)

    def _open(self) -> tuple[Tensor, Any]:
        try:
            decoder = ops.create_from_file_like(_File(self._descriptor), "approximate")
            container = core.get_container_metadata(decoder)
            most = self._limits.max_streams
            if len(container.streams) > most:
                raise ClipRefused("too_many_streams", len(container.streams), most)
            best = container.best_video_stream_index
            if best is None:
                raise ClipRefused("no_video_stream")
            ops.add_video_stream(
                decoder,
                stream_index=best,
                dimension_order="NCHW",
                num_threads=self._threads,
                device="cpu",
            )
        except (*DECODER_ERRORS, OSError) as error:
            raise refusal(error) from None
        return decoder, container.streams[best]

    def _oriented(self, metadata: Any) -> Orientation:
        matrices = track_matrices(memoryview(_movie(self._descriptor)))
        if matrices is not None and metadata.stream_index >= len(matrices) > 0:
            raise ClipRefused("no_video_stream")  # a picture that belongs to the file
        matrix = matrices[metadata.stream_index] if matrices else None
        return orientation(matrix, metadata.rotation)

    def first_time(self) -> float:
        """The time stamp of the first frame shown, 0 if it has none."""
        for _, time, _ in self._decoded():
            # Decoding goes on from a place that is entered anew.
            self._decoder, _ = self._open()
            return time if abs(time) < ANY_TIME else 0.0
        raise ClipRefused("undecodable")

    def frames(self, zero: float, start: float) -> Iterator[tuple[Frame, float]]:
        """The frame that is shown at ``start`` seconds, and all after it, each with the seconds for
        which the file says that it is shown."""
        before = _ENTER_SECONDS
        while start - before > 0:
            found = self._entered(zero, zero + start - before)
            first = next(found, None)
            if first is not None and first[0].time <= start + self.play:
                yield first
                yield from found
                return
            if first is None and self.lost > _MOST_LOST:
                return
            before *= _ENTER_GROWTH
            self._decoder, _ = self._open()
        yield from self._entered(zero, None)

    def _entered(self, zero: float, place: float | None) -> Iterator[tuple[Frame, float]]:
        if place is not None:
            try:
                ops.seek_to_pts(self._decoder, place)
            except DECODER_ERRORS as error:
                require_memory(error, self._stored)
                return
        last = -math.inf
        for pixels, stamp, length in self._decoded():
            if place is not None and last == -math.inf and abs(stamp) >= ANY_TIME:
                continue  # nobody knows when it is shown
            time = self._sound(stamp, last, zero)
            last = time
            upright = self._orientation.upright(pixels)
            yield Frame(upright, self.stretch, max(0.0, time - zero)), self._length(length)

    def _sound(self, time: float, last: float, zero: float) -> float:
        """Time stamps that are missing or do not rise are made up, as a walk does."""
        if abs(time) < ANY_TIME and time > last:
            return time
        return last + self._interval if math.isfinite(last) else zero

    def _length(self, seconds: float) -> float:
        return seconds if 0 < seconds < ANY_TIME else self._interval

    def _decoded(self) -> Iterator[tuple[Tensor, float, float]]:
        """Pixels uint8 [1, 3, H, W], time stamp and duration of each frame from here on."""
        while self.lost <= _MOST_LOST:
            if self._cancelled():
                raise DecodingCancelled
            try:
                data, time, duration = core.get_next_frame(self._decoder)
            except IndexError:  # no more
                return
            except DECODER_ERRORS as error:
                require_memory(error, self._stored)
                self.lost += 1
                continue
            pixels = data[None]
            self._meter.count(1, pixels)
            yield pixels, float(time), float(duration)


class _File(io.RawIOBase):
    """A file by its descriptor, read from a place of its own: the descriptor's belongs to all who
    hold it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._place = descriptor, 0

    def read(self, size: int = -1) -> bytes:
        data = os.pread(self._descriptor, size, self._place)
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}
        if whence == os.SEEK_END:
            base[whence] = os.fstat(self._descriptor).st_size
        self._place = base[whence] + offset
        return self._place


def _said_seconds(metadata: Any) -> float:
    seconds = metadata.duration_seconds
    return float(seconds) if seconds is not None and 0 < seconds < 1e9 else 0.0


def _movie(descriptor: int) -> bytes:
    """What of an MP4 or QuickTime file says how its tracks are turned: its kind and its `moov` box.

    Empty of other files, and where that box is too large or cannot be found.
    """
    size = os.fstat(descriptor).st_size
    kind = os.pread(descriptor, 12, 0)
    place = 0
    for _ in range(4096):
        header = os.pread(descriptor, 16, place)
        if len(header) < 8:
            break
        length, box = struct.unpack_from(">I4s", header)
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack_from(">Q", header, 8)
        elif length == 0:
            length = size - place
        if length < 8:
            break
        if box == b"moov":
            if length > _MOST_MOVIE_BYTES:
                break
            return struct.pack(">I", 8) + kind[4:8] + os.pread(descriptor, length, place)
        place += length
    return b""
