"""A video from its beginning, a frame at a time, as FFmpeg's own program decodes it.

Nothing is sought: so it is right for whatever FFmpeg plays, and for clips whose index of key frames
leads astray, or that have none.
"""

import math
from collections.abc import Callable

from torch import Tensor

from video.codec import VideoDecoder, core
from video.errors import FrameLost
from video.meter import Meter
from video.opening import DECODER_ERRORS, require_memory

# Time stamps beyond that are FFmpeg's way to say that there is none.
ANY_TIME = 1e12
_PLAY_SECONDS = 1e-3
# How often a walk goes on after packets that cannot be decoded, beyond one for each frame.
_LOST_PACKETS = 16


class Walk:
    """Goes through a video from its beginning, a frame at a time.

    Attributes:
        first_time: the time stamp of the first frame shown, 0 if it has none.
    """

    def __init__(
        self,
        open_decoder: Callable[[], VideoDecoder],
        meter: Meter,
        *,
        interval: float,
        count: int,
        hidden: int,
        before_frame: Callable[[], None],
    ) -> None:
        """Decode the first frame.

        Args:
            open_decoder: gives a decoder that stands at the beginning.
            meter: holds frames against the limits.
            interval: mean seconds from frame to frame.
            count: frames that are shown.
            hidden: frames that are decoded before the first that is shown.
            before_frame: called before each frame; may raise.
        """
        self._open, self._meter, self._before_frame = open_decoder, meter, before_frame
        self._interval, self._count, self._hidden = interval, count, hidden
        self._play = play(interval)
        self._restart()
        self.first_time = self._first

    def _restart(self) -> None:
        self._decoder = self._open()
        self._lost_packets = 0
        self._index, self._first = -1, 0.0
        self._time = -math.inf
        self._frame: Tensor | None = None
        self._next: tuple[Tensor, float] | None = None
        self._next = self._decode()
        if self._next is not None:
            self._first = self._next[1]

    def at(self, seconds: float) -> Tensor:
        """The last frame that is shown at that time, uint8 [1, 3, H, W]."""
        asked = self._first + seconds + self._play
        if self._frame is not None and self._time > asked:
            self._restart()
        while self._next is not None and (self._frame is None or self._next[1] <= asked):
            self._step()
        return self._here()

    def nth(self, index: int) -> Tensor:
        """The frame shown as number ``index``, or the last there is."""
        if self._index > index:
            self._restart()
        while self._next is not None and self._index < index:
            self._step()
        return self._here()

    @property
    def seconds(self) -> float:
        """The time stamp of the frame that was given last, counted from the first frame shown."""
        return max(0.0, self._time - self._first)

    def _here(self) -> Tensor:
        if self._frame is None:
            raise FrameLost("no frame can be decoded")
        return self._frame

    def _step(self) -> None:
        assert self._next is not None
        self._frame, self._time = self._next
        self._index += 1
        self._next = self._decode()

    def _decode(self) -> tuple[Tensor, float] | None:
        """The next frame and its time stamp; None behind the last."""
        while self._lost_packets <= self._count + _LOST_PACKETS:
            self._before_frame()
            try:
                data, time, _ = core.get_next_frame(self._decoder._decoder)
            except IndexError:  # no more
                return None
            except DECODER_ERRORS as error:
                require_memory(error, self._meter.stored)
                self._lost_packets += 1
                continue
            pixels = data[None]
            self._meter.count(1 if self._next is not None else 1 + self._hidden, pixels)
            return pixels, self._sound(float(time))
        return None

    def _sound(self, time: float) -> float:
        """Time stamps that are missing or do not rise are made up: a frame later than the last."""
        last = self._next[1] if self._next is not None else -math.inf
        if abs(time) < ANY_TIME and time > last:
            return time
        return last + self._interval if math.isfinite(last) else 0.0


def play(interval: float) -> float:
    """Seconds by which a frame may begin later than the time that is asked for.

    Matroska rounds time stamps to milliseconds: without some play, a time that falls on the very
    beginning of a frame finds that frame or the one before, as the rounding went.
    """
    return min(_PLAY_SECONDS, interval / 4)
