"""The frames of a video by their time, with torchcodec.

A frame is asked for by the time at which it is shown, counted from the first frame shown. What
comes is the last frame with a time stamp at or before that, as a player shows it, and its own time
stamp is compared with the time that was asked for.

There are two ways to a frame:

- **By index**: torchcodec reads all packets when it opens a file, without decoding them (1 to 4 ms
  for clips of some megabytes), and goes to a frame's nearest key frame. That is right for variable
  frame rates, for streams that do not begin at zero and for headers that promise too much. It is
  wrong where a key frame is hidden: a clip that was cut without encoding it anew begins with frames
  that an edit list hides, the index does not know the hidden key frame, and the next one is
  decoded instead. The time stamp of what came tells.
- **By walking**: decoding from the beginning, frame after frame, as FFmpeg's own program does.
  That is always right. It is taken for what the index got wrong, and for containers that keep no
  presentation times (AVI) or no index of key frames (MPEG's own).
"""

import functools
import math
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from video.codec import VideoDecoder, core
from video.errors import ClipRefused, FrameLost
from video.facts import NO_LIMITS, ClipLimits
from video.framing import Frame
from video.meter import Meter
from video.opening import DECODER_ERRORS, SeekMode, content_of, open_decoder, require_memory
from video.orientation import Orientation, orientation, track_matrices
from video.walk import ANY_TIME, Walk, play

_EBML = b"\x1a\x45\xdf\xa3"
# AVI, and MPEG program streams: frames have no presentation times, or few.
_UNDATED = (b"RIFF", b"\x00\x00\x01\xba")
_ISO_MEDIA = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")


class _NotByIndex(Exception):
    """The frame has to be walked to."""


class Video:
    """The frames of one video stream, by time.

    Times asked for in ascending order cost least.

    Attributes:
        codec: FFmpeg's name of it.
        width, height: of a frame on the display, as the header says.
        stored: (height, width) of a frame in decoded pixels, turned, as the header says.
        count: frames in the file, counted and not believed; with ``approximate`` believed.
        seconds: from the first frame shown to the end of the last; 0 if nobody knows.
        rate: frames per second as the header has it; None where it does not say.
        orientation: how frames were turned to be upright.
        stretch: display pixels (high, wide) of one decoded pixel, after the frame was turned.
        indexed: whether frames are gone to by index; else they are walked to. May be set to False
            where nearly every frame will be asked for.
        meter: what decoding has cost.
    """

    def __init__(
        self,
        source: Tensor | Path,
        *,
        threads: int = 1,
        device: str = "cpu",
        seek_mode: SeekMode = "exact",
        limits: ClipLimits = NO_LIMITS,
        before_frame: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the header and, with ``exact``, the packets; nothing is decoded yet.

        Args:
            source: the bytes of a file, uint8 [bytes], or where it lies.
            threads: FFmpeg's.
            device: torch's name of where to decode.
            seek_mode: ``approximate`` believes the header instead of reading all packets: for long
                recordings, of which that would take seconds.
            limits: what a frame, and all decoding together, may be.
            before_frame: called before each frame that is decoded for itself; may raise.

        Raises:
            ClipRefused: it cannot be read, or holds no video.
        """
        self._open = functools.partial(open_decoder, source, threads, device)
        self._before_frame = before_frame
        content = content_of(source)
        self._iso_media = bytes(content[4:8]) in _ISO_MEDIA
        self.indexed = self._iso_media or bytes(content[:4]) == _EBML
        self._undated = bytes(content[:4]) in _UNDATED
        self._seek_mode, self.decoder = self._first_open(seek_mode)
        metadata = self.decoder.metadata
        self.codec = str(metadata.codec or "unknown")
        self.count = len(self.decoder)
        self._check_numbers(limits)
        self.rate = metadata.average_fps_from_header
        self._begin = _time(metadata.begin_stream_seconds)
        self._end = max(self._begin, _time(metadata.end_stream_seconds))
        if self.count == 1 and (metadata.begin_stream_seconds or 0.0) < -ANY_TIME:
            raise ClipRefused("no_video_stream")  # a song's cover, which is never shown
        self.orientation = self._oriented(content)
        self.stretch = stretch_of(metadata.pixel_aspect_ratio, self.orientation)
        self.stored = (metadata.height or 0, metadata.width or 0)
        self.height = round(self.stored[0] * self.stretch[0])
        self.width = round(self.stored[1] * self.stretch[1])
        self._key_frames = (
            torch.as_tensor(self.decoder._get_key_frame_indices()).tolist()
            if self._seek_mode == "exact"
            else [0]
        )
        self.meter = Meter(limits, self.stored, self.stretch)
        self._walk: Walk | None = None
        self._last_index = -1
        self._recent: tuple[Tensor, float, float] | None = None
        # The first frame shown has the first time stamp if it is a key frame. Else what comes
        # before the first key frame may not decode, and only decoding tells.
        self._first_key_frame = self._key_frames[0] if self._key_frames else self.count
        # Frames that an edit list hides are decoded all the same by walking.
        in_header = (metadata.num_frames_from_header or 0) if self._iso_media else 0
        self._hidden = max(0, in_header - self.count) if self._first_key_frame else 0
        self._zero = self._begin
        if not self.indexed or self._first_key_frame:
            self._zero = self._walker().first_time
        self.seconds = self._length()

    def _first_open(self, seek_mode: SeekMode) -> tuple[SeekMode, VideoDecoder]:
        try:
            return seek_mode, self._open(seek_mode)
        except ClipRefused as error:
            if error.code != "undecodable" or not self._undated:
                raise
        # Having read all packets, torchcodec goes back to the beginning by a time, and some
        # program streams have no packet there. Walking needs neither.
        try:
            return "approximate", self._open("approximate")
        except ClipRefused:
            raise ClipRefused("undecodable") from None

    def _check_numbers(self, limits: ClipLimits) -> None:
        """Refuse what has too many streams or frames before anything is done for each of them."""
        # The public decoder knows one stream; how many there are is told by the layer below.
        streams = len(core.get_container_metadata(self.decoder._decoder).streams)
        if streams > limits.max_streams:
            raise ClipRefused("too_many_streams", streams, limits.max_streams)
        if self.count > limits.max_clip_frames:
            raise ClipRefused("too_many_frames", self.count, limits.max_clip_frames)

    def _oriented(self, content: memoryview) -> Orientation:
        matrices = track_matrices(content)
        stream = self.decoder.stream_index or 0
        if matrices is not None and stream >= len(matrices) > 0:
            raise ClipRefused("no_video_stream")  # a picture that belongs to the file
        matrix = matrices[stream] if matrices else None
        return orientation(matrix, self.decoder.metadata.rotation)

    def _length(self) -> float:
        """Seconds from the first frame shown to the end of the last."""
        seconds, fps = self._end - self._zero, self.rate
        if self._undated and fps:
            # Time stamps are those of decoding, or missing: the first frame seems to come late.
            return max(seconds, self.count / fps)
        if fps and self.count > 1 and abs(seconds - (self.count - 1) / fps) < 0.25 / fps:
            seconds += 1 / fps  # the last packet does not say how long it is shown
        return max(0.0, seconds)

    def at(self, seconds: float) -> Frame:
        """The frame that is shown ``seconds`` after the first frame is.

        Raises:
            FrameLost: it cannot be decoded.
            ClipRefused: a limit, or the memory, is exceeded.
        """
        self._before_frame()
        if not self.indexed or self._index_at(seconds) < self._first_key_frame:
            return self._walked_to(seconds)
        asked = self._zero + seconds + play(self._interval)
        asked = max(self._begin, min(asked, math.nextafter(self._end, self._begin)))
        if self._recent is not None and self._recent[1] <= asked < self._recent[2]:
            return self._shown(*self._recent[:2])
        try:
            pixels, time, duration = self._by_index(asked)
        except _NotByIndex:
            if self._seek_mode == "approximate":
                self._read_all_packets()
                return self.at(seconds)
            return self._walked_to(seconds)
        again = self._recent is not None and self._recent[1] == time
        self._charge(self._index_at(seconds), pixels, again)
        # How long a frame is shown is known where it is the time to the next one: in MP4 files.
        self._recent = (pixels, time, time + duration if self._iso_media else time)
        return self._shown(pixels, time)

    def nth(self, index: int) -> Frame:
        """The frame shown as number ``index``, counted from 0; raises as :meth:`at` does."""
        self._before_frame()
        if not self.indexed or self._first_key_frame:
            return self._walked_to(index=index)
        try:
            found = self.decoder.get_frame_at(index)
        except IndexError:  # as in `_by_index`
            return self._walked_to(index=index)
        except DECODER_ERRORS as error:
            raise self._lost(error) from None
        self._charge(index, found.data[None])
        return self._shown(found.data[None], found.pts_seconds)

    def pixels_to_decode(self, times: list[float]) -> int:
        """How many pixels have to be decoded for frames at ascending times.

        By the size in the header, and as if frames followed each other evenly: where they do not,
        it is an estimate. Each frame is counted again as it is decoded.
        """
        frames, last = self._hidden, -1
        for time in times:
            index = self._index_at(time)
            frames += self._frames_to_decode(index, last)
            last = index
        return frames * self.stored[0] * self.stored[1]

    @property
    def _interval(self) -> float:
        """Mean seconds from frame to frame."""
        if self.rate and not self.indexed:  # time stamps are missing, the rate does not vary
            return 1 / self.rate
        return (self._end - self._begin) / max(1, self.count)

    def _index_at(self, seconds: float) -> int:
        if self.seconds <= 0:
            return 0
        return min(max(0, int(seconds / self.seconds * self.count)), self.count - 1)

    def _frames_to_decode(self, index: int, last: int) -> int:
        """Frames between the one decoded last, or the nearest key frame, and the one wanted."""
        position = bisect_right(self._key_frames, index) - 1
        key_frame = self._key_frames[position] if position >= 0 and self.indexed else 0
        begin = max(last + 1, key_frame) if last <= index else key_frame
        return max(0, index - begin + 1)

    def _charge(self, index: int, pixels: Tensor, again: bool = False) -> None:
        # For a frame that was the last one already, the decoder goes back to the key frame.
        frames = self._frames_to_decode(index, index + 1 if again else self._last_index)
        self._last_index = index
        self.meter.count(frames, pixels)

    def _by_index(self, asked: float) -> tuple[Tensor, float, float]:
        """The frame at a time of the stream's own clock, its time stamp, and its duration.

        Raises:
            _NotByIndex: another frame came, or none.
        """
        try:
            if self._seek_mode == "exact":
                batch = self.decoder.get_frames_played_at([asked])
                time = batch.pts_seconds[0].item()
                if time > asked:
                    raise _NotByIndex
                return batch.data, time, batch.duration_seconds[0].item()
        except DECODER_ERRORS as error:
            require_memory(error, self.stored)
            # A batch has one size, and the stream may change its own: asked for singly, below.
        try:
            frame = self.decoder.get_frame_played_at(asked)
        except IndexError:  # "no more frames": some decoders lose the last ones after a jump
            raise _NotByIndex from None
        except DECODER_ERRORS as error:
            raise self._lost(error) from None
        if frame.pts_seconds > asked:
            raise _NotByIndex
        return frame.data[None], frame.pts_seconds, frame.duration_seconds

    def _lost(self, error: Exception) -> FrameLost:
        require_memory(error, self.stored)
        return FrameLost((str(error).splitlines() or [type(error).__name__])[0])

    def _read_all_packets(self) -> None:
        self.decoder, self._seek_mode = self._open("exact"), "exact"

    def _walker(self) -> Walk:
        if self._walk is None:
            # It does not know of this object: a circle would keep a clip's memory, and its
            # descriptor, until a collection.
            self._walk = Walk(
                functools.partial(self._open, "approximate"),
                self.meter,
                interval=self._interval,
                count=self.count,
                hidden=self._hidden,
                before_frame=self._before_frame,
            )
        return self._walk

    def _walked_to(self, seconds: float = 0.0, index: int | None = None) -> Frame:
        walk = self._walker()
        pixels = walk.at(seconds) if index is None else walk.nth(index)
        return self._shown(pixels, self._zero + walk.seconds)

    def _shown(self, pixels: Tensor, time: float) -> Frame:
        time = max(0.0, time - self._zero)
        return Frame(self.orientation.upright(pixels), self.stretch, time)


def _time(seconds: float | None) -> float:
    """0 where FFmpeg knows of no time."""
    return seconds if seconds is not None and abs(seconds) < ANY_TIME else 0.0


def stretch_of(aspect: object, orientation: Orientation) -> tuple[float, float]:
    """Display pixels (high, wide) of one decoded pixel, after the frame was turned."""
    wide = float(aspect) if aspect else 1.0  # type: ignore[arg-type]
    if not (wide > 0 and math.isfinite(wide)):
        wide = 1.0
    return (wide, 1.0) if orientation.degrees in (90, 270) else (1.0, wide)
