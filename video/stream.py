"""The video stream of a file or of a socket, decoded forwards, each frame with its time stamp."""

import io
import math
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from video.codec import core, ops
from video.errors import ClipRefused, DecodingCancelled
from video.facts import ClipLimits
from video.framing import Frame
from video.meter import Meter
from video.opening import DECODER_ERRORS, refusal, require_memory
from video.orientation import Orientation, orientation, track_matrices
from video.reader import stretch_of
from video.walk import ANY_TIME, play

# How far before a passage's beginning a video is entered: the frame that is shown at the beginning
# began some time before. Where none came early enough, it is entered so much earlier again.
_ENTER_SECONDS, _ENTER_GROWTH = 1.0, 8.0
_USUAL_INTERVAL = 1 / 25
# How often decoding goes on after packets of which nothing comes, and beyond: then the video ends.
_MOST_LOST = 4096
# Larger tables of contents are not searched for a mirror.
_MOST_MOVIE_BYTES = 64 << 20


class VideoStream:
    """The video stream of a file, or of what comes through a socket.

    Attributes:
        codec, width, height: as in :class:`video.facts.ClipFacts`.
        said_seconds, rate, lost: as in :class:`video.passages.PassageFacts`.
        interval: seconds from frame to frame, as the rate says.
        play: seconds by which time stamps may be off.
    """

    def __init__(
        self,
        open_file: Callable[[], io.RawIOBase],
        movie: bytes,
        limits: ClipLimits,
        threads: int,
        cancelled: Callable[[], bool],
    ) -> None:
        """Read the header.

        Args:
            open_file: gives what is read, from its beginning.
            movie: see :func:`movie_of`.
            limits: what a frame, and all decoding, may be.
            threads: FFmpeg's.
            cancelled: asked between two frames.

        Raises:
            ClipRefused: it cannot be read, or holds no video.
        """
        self._open_file, self._threads, self._cancelled = open_file, threads, cancelled
        self.lost = 0
        self._limits = limits
        self._decoder, metadata = self._open()
        self.codec = str(metadata.codec or "unknown")
        self.said_seconds = _said_seconds(metadata)
        rate = metadata.average_fps_from_header
        self.rate = float(rate) if rate and 0 < rate < 1e9 else 0.0
        self.interval = 1 / self.rate if self.rate else _USUAL_INTERVAL
        self.play = play(self.interval)
        self._orientation = self._oriented(metadata, movie)
        self.stretch = stretch_of(metadata.pixel_aspect_ratio, self._orientation)
        self._stored = (metadata.height or 0, metadata.width or 0)
        self.height = max(1, round(self._stored[0] * self.stretch[0]))
        self.width = max(1, round(self._stored[1] * self.stretch[1]))
        self.count_anew()

    def count_anew(self) -> None:
        """Hold what is decoded from here on against the limits, and not what was before."""
        self._meter = Meter(self._limits, self._stored, self.stretch)

    def _open(self) -> tuple[Tensor, Any]:
        try:
            decoder = ops.create_from_file_like(self._open_file(), "approximate")
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

    def _oriented(self, metadata: Any, movie: bytes) -> Orientation:
        matrices = track_matrices(memoryview(movie))
        if matrices is not None and metadata.stream_index >= len(matrices) > 0:
            raise ClipRefused("no_video_stream")  # a picture that belongs to the file
        matrix = matrices[metadata.stream_index] if matrices else None
        return orientation(matrix, metadata.rotation)

    def first_time(self) -> float:
        """The time stamp of the first frame shown, 0 if it has none."""
        for _, time, _ in self.decoded():
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
        for pixels, stamp, length in self.decoded():
            if place is not None and last == -math.inf and abs(stamp) >= ANY_TIME:
                continue  # nobody knows when it is shown
            time = self.sound(stamp, last, zero)
            last = time
            yield self.frame(pixels, time - zero), self._length(length)

    def frame(self, pixels: Tensor, seconds: float) -> Frame:
        """What was decoded, as a frame that is shown so long after the first one."""
        return Frame(self._orientation.upright(pixels), self.stretch, max(0.0, seconds))

    def sound(self, time: float, last: float, zero: float) -> float:
        """Time stamps that are missing or do not rise are made up, as a walk does."""
        if abs(time) < ANY_TIME and time > last:
            return time
        return last + self.interval if math.isfinite(last) else zero

    def _length(self, seconds: float) -> float:
        return seconds if 0 < seconds < ANY_TIME else self.interval

    def decoded(self) -> Iterator[tuple[Tensor, float, float]]:
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


class FileByDescriptor(io.RawIOBase):
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


def movie_of(descriptor: int) -> bytes:
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
