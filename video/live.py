"""A stream to windows, as it comes: decoded once, forwards, and never opened again."""

import io
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator

from torch import Tensor

from video.cuts import CutFinder
from video.errors import ClipRefused
from video.facts import ClipLimits
from video.live_facts import StreamBegun, StreamNews, StreamProgress, StreamWindow
from video.opening import is_memory
from video.passages import PassagePlan
from video.slide import Slide, Window
from video.stream import VideoStream
from video.walk import ANY_TIME

# How often it is said how far decoding has come, in seconds of the stream.
_TELL_SECONDS = 0.5
# Where no frame comes for longer, nothing was seen: no window reaches over it. A stream of one
# picture a second has none.
_GAP_SECONDS, _GAP_FRAMES = 1.5, 4.0


def decode_live(
    open_stream: Callable[[], "StreamByDescriptor"],
    out: Tensor,
    plan: PassagePlan,
    limits: ClipLimits,
    tell: Callable[[StreamNews], None],
    *,
    threads: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
) -> StreamProgress:
    """Decode a stream until it ends.

    Args:
        open_stream: called once.
        out: uint8 [W, T, H, W, 3], written: a window's row is written again W windows later.
        plan: which windows; ``windows`` is W, more than overlap at any time.
        limits: what a frame may be, and all frames of half a second.
        tell: is told what comes.
        threads: FFmpeg's.
        cancelled: asked between two frames.

    Raises:
        ClipRefused: the stream is at fault.
        DecodingCancelled: ``cancelled`` said so.
    """
    try:
        return _Live(open_stream, out, plan, limits, tell, threads, cancelled).go()
    except RuntimeError as error:  # torch's way to say that it got no memory
        if not is_memory(error):
            raise
        raise ClipRefused("decode_memory_exceeded") from None


class _Live:
    def __init__(
        self,
        open_stream: Callable[[], "StreamByDescriptor"],
        out: Tensor,
        plan: PassagePlan,
        limits: ClipLimits,
        tell: Callable[[StreamNews], None],
        threads: int,
        cancelled: Callable[[], bool],
    ) -> None:
        self._stream = VideoStream(open_stream, b"", limits, threads, cancelled)
        self._plan, self._limits, self._tell = plan, limits, tell
        self._slide = _EndlessSlide(plan, self._stream.play, out)
        self._finder = CutFinder(plan.cuts)
        self._frames, self._seconds = 0, 0.0
        self._told, self._told_frames = 0.0, 0

    def go(self) -> StreamProgress:
        stream, zero, last = self._stream, 0.0, 0.0
        gap = max(_GAP_SECONDS, _GAP_FRAMES * stream.interval)
        for pixels, stamp, _ in stream.decoded():
            if not self._frames:
                last = zero = stamp if abs(stamp) < ANY_TIME else 0.0
                self._tell(
                    StreamBegun(stream.codec, stream.width, stream.height, zero, stream.rate)
                )
            else:
                time, before = stream.sound(stamp, last, zero), last
                last = time
                if time - before > gap:
                    self._part(before - zero + stream.interval, time - zero)
            self._frames += 1
            self._seconds = last - zero
            for frame, cut in self._finder.push(stream.frame(pixels, self._seconds)):
                self._slide.show(frame, cut=cut)
            if (until := self._finder.waits_from) is not None:
                self._slide.show_until(until)
            self._say()
        if not self._frames:
            raise ClipRefused("undecodable")
        self._end(self._seconds + stream.interval)
        return self._progress()

    def _part(self, end: float, resumes: float) -> None:
        """Nothing is known of the time between."""
        self._end(end)
        self._finder = CutFinder(self._plan.cuts)
        self._slide.resume(resumes)

    def _end(self, end: float) -> None:
        for frame, cut in self._finder.finish():
            self._slide.show(frame, cut=cut)
        self._slide.end(end)
        self._say_windows()

    def _say(self) -> None:
        self._say_windows()
        passed, frames = self._seconds - self._told, self._frames - self._told_frames
        if passed < _TELL_SECONDS:
            self._require_rate(frames, _TELL_SECONDS)
            return
        self._require_rate(frames, passed)
        self._told, self._told_frames = self._seconds, self._frames
        self._stream.count_anew()
        self._tell(self._progress())

    def _require_rate(self, frames: int, seconds: float) -> None:
        most = self._limits.max_frames_per_second
        # One more, because both ends count.
        if frames > 1.001 * most * seconds + 2:
            raise ClipRefused("frame_rate_too_high", frames / seconds, most)

    def _say_windows(self) -> None:
        for row, place in self._slide.take():
            self._tell(StreamWindow(row, tuple(place)))

    def _progress(self) -> StreamProgress:
        return StreamProgress(max(0.0, self._seconds), self._frames, self._stream.lost)


class _EndlessSlide(Slide):
    """Windows that are given away as they are made; what is kept does not grow.

    A window that was given away is not changed any more: one that ends a hair before its shot is
    followed by one that ends with it, shows the same, and speaks for what is left of the shot.
    """

    _taken = _forgotten = 0

    @property
    def is_full(self) -> bool:
        return False

    def _has_room(self) -> bool:
        return len(self._open) < self._plan.windows

    def _is_whole(self, window: Window, time: float, play: float) -> bool:
        """Or whether all that it shows has come, which is a little before it ends."""
        if window.next == self._plan.frames and window.cell[1] <= time - self._play:
            return True
        return super()._is_whole(window, time, play)

    def _row(self, number: int) -> int:
        return number % self._plan.windows

    def take(self) -> Iterator[tuple[int, list[float]]]:
        """The row and the place of each window that was made since."""
        for place in self._places:
            shot, *values = self._counted(place)
            edges, before = values[:4], values[4:]
            counts = [count + self._forgotten for count in before]
            yield self._row(self._taken), [shot, *edges, *counts]
            self._taken += 1
        self._places.clear()
        self._forget()

    def show_until(self, time: float) -> None:
        """What is shown is shown up to then; whether a shot begins there is not known yet."""
        if self._shown is not None:
            self._pass(time)

    def resume(self, time: float) -> None:
        """Go on behind a gap, after :meth:`end`."""
        self.following = self._shot = self._from = self._spoken = time

    def _forget(self) -> None:
        """Of the frames' times, those that no window can count from any more."""
        if len(self._times) < 2:
            return
        old = bisect_left(self._times, self._times[-1] - 2 * self._plan.window - _GAP_SECONDS)
        if old > len(self._times) // 2:
            del self._times[:old]
            self._forgotten += old


class StreamByDescriptor(io.RawIOBase):
    """What comes through a socket, given on as it comes.

    torchcodec reads until it has as much as FFmpeg's buffer holds, or until a read gives nothing:
    after a read that gave less than was asked for it reads once more. That one gives nothing where
    nothing has come, or a slow stream would be seen seconds late.

    Args:
        descriptor: of the socket.
        ready: whether something can be read from it; with True it waits for that, and says False
            where decoding is to stop.
    """

    def __init__(self, descriptor: int, ready: Callable[[bool], bool]) -> None:
        self._descriptor, self._ready = descriptor, ready
        self._goes_on = False

    def read(self, size: int = -1) -> bytes:
        goes_on, self._goes_on = self._goes_on, False
        if not self._ready(not goes_on):
            return b""
        data = os.read(self._descriptor, size)
        self._goes_on = 0 < len(data) < size
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """There is no way back; FFmpeg goes on without."""
        return -1
