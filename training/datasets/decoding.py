"""The pictures of an entry: of a video, or of a folder of pictures."""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from training.datasets.entries import Entry, Frames, Seconds
from training.datasets.errors import UnreadableClip
from training.datasets.stores import open_store
from video.errors import ClipRefused, FrameLost
from video.framing import Frame
from video.reader import Video

_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")

_REASONS = {
    "undecodable": "it cannot be decoded: it is damaged, not complete, or no video",
    "no_video_stream": "it holds no video",
    "decode_memory_exceeded": "decoding it takes more memory than there is",
}


class OpenClip:
    """The frames of an entry's span.

    Attributes:
        count: how many there are; of a span in seconds, by the mean frame rate.
    """

    count: int

    def at(self, share: float) -> Frame:
        """The frame that is shown when ``share`` of the span, in [0, 1), is over.

        Ascending order is cheapest.

        Raises:
            UnreadableClip: it cannot be had.
        """
        raise NotImplementedError

    def frame(self, index: int) -> Frame:
        """Frame number ``index`` of ``count`` that follow each other evenly; as :meth:`at`."""
        return self.at((index + 0.5) / self.count)


def open_clip(entry: Entry) -> OpenClip:
    """Open an entry; nothing is decoded yet.

    Raises:
        UnreadableClip: there is nothing to read at the path, or nothing within the span.
    """
    if entry.store is not None and entry.stored is not None:
        video = bytearray(open_store(entry.store, entry.path).video(entry.stored))
        return _Video(entry, torch.frombuffer(video, dtype=torch.uint8))
    if os.path.isdir(entry.path):  # noqa: PTH112, pathlib's raises for names that cannot be
        return _Pictures(entry)
    return _Video(entry, entry.path)


class _Video(OpenClip):
    """A compressed video, read by the code that the service reads clips with.

    Whole clips are sampled by time, as the service samples them; spans in frames by the number of
    the frame. Spans in seconds are cut out of long recordings, of which reading every packet would
    take seconds: there the header is trusted, until a frame turns out to be of another time.
    """

    def __init__(self, entry: Entry, source: Tensor | Path) -> None:
        self._name = entry.name
        by_seconds = isinstance(entry.span, Seconds)
        try:
            if isinstance(source, Path) and not source.stat().st_size:
                raise UnreadableClip(self._name, "the file is empty")
            self._video = Video(source, seek_mode="approximate" if by_seconds else "exact")
        except ClipRefused as error:
            raise UnreadableClip(self._name, _REASONS.get(error.code, str(error))) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no file has such a name"
            raise UnreadableClip(self._name, f"{entry.path.name}: {reason}") from None
        self._first: int | None = None
        self._start, self._seconds = 0.0, self._video.seconds
        if isinstance(entry.span, Seconds):
            self.count = self._cut(entry.span)
            return
        first, self.count = _within(entry, self._video.count)
        if isinstance(entry.span, Frames):
            self._first = first

    def _cut(self, span: Seconds) -> int:
        """Confine the clip to a span; returns how many frames it has by the mean rate."""
        video = self._video
        if not video.seconds or not video.count:
            raise UnreadableClip(self._name, "its frame rate or duration is not known")
        rate = video.count / video.seconds
        # Half a frame in hand: the header's duration is rounded.
        if span.start > video.seconds - 0.5 / rate:
            raise UnreadableClip(self._name, f"the video ends at {video.seconds:g} s")
        self._start = span.start
        self._seconds = max(min(span.end, video.seconds) - span.start, 0.0)
        return max(1, round(self._seconds * rate))

    def at(self, share: float) -> Frame:
        try:
            if self._first is not None:
                return self._video.nth(self._first + _index(share, self.count))
            return self._video.at(self._start + share * self._seconds)
        except FrameLost:
            raise UnreadableClip(self._name, "a frame of it cannot be decoded") from None
        except ClipRefused as error:
            raise UnreadableClip(self._name, _REASONS.get(error.code, str(error))) from None


class _Pictures(OpenClip):
    """A folder of pictures, in the order of their names; nothing else of that kind lies in it."""

    def __init__(self, entry: Entry) -> None:
        self._name = entry.name
        try:
            paths = sorted(
                path
                for path in entry.path.iterdir()
                if path.suffix.lower() in _PICTURE_SUFFIXES and not path.name.startswith(".")
            )
        except OSError as error:
            raise _gone(self._name, error) from None
        self._paths = paths
        self._first, self.count = _within(entry, len(paths))

    def at(self, share: float) -> Frame:
        path = self._paths[self._first + _index(share, self.count)]
        try:
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise _gone(self._name, error) from None
        # An empty buffer is an error of OpenCV's, anything else that is no picture gives None.
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if picture is None:
            raise UnreadableClip(self._name, f"{path.name} is no picture")
        # OpenCV's order is blue, green, red.
        planes = np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1))
        return Frame(torch.from_numpy(planes)[None])


def _index(share: float, count: int) -> int:
    # A hair above: a share that is the very beginning of a frame must not miss it by rounding.
    return min(int(share * count + 1e-9), count - 1)


def _within(entry: Entry, frames: int) -> tuple[int, int]:
    """The first frame that is meant, and how many, of a clip of ``frames``."""
    first, end = 0, frames
    if isinstance(entry.span, Frames):
        first, end = entry.span.start, min(entry.span.end, frames)
    if end <= first:
        raise UnreadableClip(entry.name, f"it has {frames} frames")
    return first, end - first


def _gone(name: str, error: OSError) -> UnreadableClip:
    return UnreadableClip(name, error.strerror or type(error).__name__)
