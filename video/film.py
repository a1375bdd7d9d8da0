"""A clip as it is displayed, with what was kept of it lit and the rest dimmed, as H.264 in MP4.

Frames are decoded, dimmed and encoded one after the other, so that memory does not grow with the
clip. All of it runs where clips are decoded: in a confined process, without a file to write to.
"""

import mmap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from video.codec import Encoder
from video.errors import ClipRefused, DecodingCancelled, FrameLost
from video.facts import ClipLimits
from video.framing import resize
from video.opening import is_memory
from video.reader import Video
from video.views import check

# Our choice: next to nothing is lost where a picture is lit, at a third of the time that FFmpeg's
# own preset takes.
_QUALITY, _PRESET = 20, "veryfast"
# What torchcodec converts by; players of small and of large pictures differ in what they assume.
_COLOURS = dict.fromkeys(("colorspace", "color_primaries", "color_trc"), "smpte170m")
# The table of contents comes first, so that a browser plays before it has all: this is its room.
_CONTENTS_BYTES, _CONTENTS_BYTES_OF_FRAME = 4096, 32
# Rates outside of that are no rates of pictures: clips of a moment, or of one picture.
_SLOWEST, _FASTEST, _UNKNOWN = 0.01, 1000.0, 25.0
# A hair on top, for shares of the duration that are whole frames but for their last digit.
_HAIR = 1e-6


def encode_film(
    clip: Tensor,
    lit: Tensor,
    out: mmap.mmap,
    limits: ClipLimits,
    *,
    threads: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Write the clip anew, lit in some places and dimmed everywhere else.

    It has the size that the clip is displayed at, an odd row or column less, and its mean rate.

    Args:
        clip: uint8 [bytes], the file.
        lit: float64 [places, 8]: from, until, start and end in seconds; x, y, width and height in
            display pixels. A place is lit in the frames of which the middle lies between from and
            until, and in those from the one shown at its start to the one shown at its end.
        out: room for the film.
        limits: what the clip may be.
        threads: FFmpeg's.
        cancelled: asked between two frames.

    Returns:
        How many bytes the film has.

    Raises:
        ClipRefused: the clip is at fault.
        DecodingCancelled: ``cancelled`` said so.
    """

    def before_frame() -> None:
        if cancelled():
            raise DecodingCancelled

    video = Video(clip, threads=threads, limits=limits, before_frame=before_frame)
    check(video, limits)
    video.indexed = False  # every frame is wanted, in order
    video.meter.check(video.count * video.stored[0] * video.stored[1])
    frames, rate = frames_and_rate(video)
    height, width = max(2, video.height), max(2, video.width)
    lamps = _Lamps(lit, frames, rate)
    room = _Room(out)
    encoder = Encoder()  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {
        **_COLOURS,
        "threads": threads,
        "moov_size": _CONTENTS_BYTES + _CONTENTS_BYTES_OF_FRAME * frames,
    }
    stream = encoder.add_video(
        height=height - height % 2, width=width - width % 2, frame_rate=rate, device="cpu",
        codec="libx264", pixel_format="yuv420p", crf=_QUALITY, preset=_PRESET,
        extra_options=options,
    )  # fmt: skip
    try:
        with encoder.open_file_like(room, format="mp4"):
            for number in range(frames):
                picture = _shown(video, number / rate, height, width)
                dimmed = lamps.dim(picture, number)
                stream.add_frames(dimmed[:, :, : height - height % 2, : width - width % 2])
    except RuntimeError as error:  # torch's and FFmpeg's way to say that they got no memory
        if not is_memory(error):
            raise
        raise ClipRefused("decode_memory_exceeded") from None
    if room.overflown:
        raise ClipRefused("decode_memory_exceeded")
    return room.size


def frames_and_rate(video: Video) -> tuple[int, float]:
    """How many frames a film of a video has, and how many a second.

    The rate is that of the clip's header where the clip keeps to it, otherwise its mean; where
    frames do not follow each other evenly, each is shown as long as a player shows it.
    """
    rate = video.count / video.seconds if video.seconds > 0 else _UNKNOWN
    said = video.rate
    if said is not None and abs(said - rate) < 0.01 * rate:
        rate = said
    rate = min(max(rate, _SLOWEST), _FASTEST)
    return max(1, round(video.seconds * rate)), rate


def _shown(video: Video, seconds: float, height: int, width: int) -> Tensor:
    """The frame at that time at the size of the display, uint8 [1, 3, H, W]."""
    try:
        return resize(video.at(seconds).pixels, height, width)
    except FrameLost:
        raise ClipRefused("undecodable") from None


class _Lamps:
    """Which parts are lit in which frame."""

    def __init__(self, lit: Tensor, frames: int, rate: float) -> None:
        begin, until, start, end = (lit[:, :4] * rate).unbind(dim=1)
        seen = (torch.stack([start, end]) + _HAIR).floor().clamp(0, frames - 1)
        first = torch.minimum((begin - 0.5 - _HAIR).ceil(), seen[0])
        last = torch.maximum((until - 0.5 - _HAIR).ceil(), seen[1] + 1)
        self._first, self._last = first, last
        self._changes = {int(number) for number in (*first.tolist(), *last.tolist())}
        left, top, wide, high = lit[:, 4:].unbind(dim=1)
        edges = torch.stack([top, top + high, left, left + wide], dim=1)
        self._edges = edges.round().to(torch.int64)
        self._now: list[list[int]] = []

    def dim(self, picture: Tensor, number: int) -> Tensor:
        """uint8 [1, 3, H, W], which is frame ``number`` -> the same with the rest dimmed."""
        if number == 0 or number in self._changes:
            now = (self._first <= number) & (number < self._last)
            self._now = self._edges[now].tolist()
        # A quarter of the brightness: our choice, so that it can still be told what was left out.
        dimmed = picture >> 2
        for top, bottom, left, right in self._now:
            part = (..., slice(top, bottom), slice(left, right))
            dimmed[part] = picture[part]
        return dimmed


class _Room:
    """A block of memory as the file that an encoder writes to.

    What does not fit is dropped: an exception would have to find its way through FFmpeg.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory, self._place = memory, 0
        self.size, self.overflown = 0, False

    def write(self, data: bytes) -> int:
        end = self._place + len(data)
        if end > len(self._memory):
            self.overflown = True
        else:
            self._memory[self._place : end] = data
        self._place = end
        self.size = max(self.size, end)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self.size)[whence]
        return self._place
