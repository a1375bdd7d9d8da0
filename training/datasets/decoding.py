"""The frames of an entry, one at a time, and only those that are asked for."""

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torchcodec.decoders import VideoDecoder

from training.datasets.entries import Entry, Frames, Seconds
from training.datasets.errors import UnreadableClip
from training.moving_things.store import ClipStore

_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")

# What torchcodec raises when it cannot open, seek or decode.
_DECODER_ERRORS = (RuntimeError, ValueError, IndexError, OSError)


class Clip(Protocol):
    """The frames of an entry's span, numbered from 0."""

    count: int

    def frame(self, index: int) -> Tensor:
        """uint8 [1, 3, H, W]; UnreadableClip if it cannot be had. Ascending order is cheapest."""


def open_clip(entry: Entry) -> Clip:
    """Open an entry; nothing is decoded yet.

    Raises:
        UnreadableClip: there is nothing to read at the path, or nothing within the span.
    """
    if entry.stored is not None:
        return _Video(entry, _store(entry.path)[entry.stored].video)
    if entry.path.is_dir():
        return _Pictures(entry)
    return _Video(entry, str(entry.path))


class _Video:
    """A compressed video.

    Whole clips, and spans in frames, are opened with the seek mode "exact", as the service does:
    all packets are read, without decoding them, so that frame counts and variable rates are right.
    Spans in seconds are cut out of long recordings, of which reading every packet would take
    seconds: there the header is trusted, and a frame is asked for by the middle of its time.
    """

    def __init__(self, entry: Entry, source: str | bytes) -> None:
        self._name = entry.name
        self._start = 0.0
        self._by_time = isinstance(entry.span, Seconds)
        try:
            self._decoder = VideoDecoder(
                source, seek_mode="approximate" if self._by_time else "exact"
            )
            frames = 0 if self._by_time else len(self._decoder)
            rate, end = self._decoder.metadata.average_fps, self._decoder.metadata.duration_seconds
        except _DECODER_ERRORS as error:
            raise _unreadable(self._name, error) from None
        if isinstance(entry.span, Seconds):
            if not rate or not end:
                raise UnreadableClip(self._name, "its frame rate or duration is not known")
            self._start, self._rate = entry.span.start, rate
            # Half a frame in hand: the header's duration is rounded.
            self._last = end - 0.5 / rate
            if self._start > self._last:
                raise UnreadableClip(self._name, f"the video ends at {end:g} s")
            frames = max(1, round((min(entry.span.end, end) - self._start) * rate))
        self._first, self.count = _within(entry, frames)

    def frame(self, index: int) -> Tensor:
        try:
            if self._by_time:
                seconds = min(self._start + (index + 0.5) / self._rate, self._last)
                frame = self._decoder.get_frame_played_at(seconds)
            else:
                frame = self._decoder.get_frame_at(self._first + index)
        except _DECODER_ERRORS as error:
            raise _unreadable(self._name, error) from None
        data: Tensor = frame.data[None]
        return data


class _Pictures:
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
            raise _unreadable(self._name, error) from None
        self._paths = paths
        self._first, self.count = _within(entry, len(paths))

    def frame(self, index: int) -> Tensor:
        path = self._paths[self._first + index]
        try:
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise _unreadable(self._name, error) from None
        # An empty buffer is an error of OpenCV's, anything else that is no picture gives None.
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if picture is None:
            raise UnreadableClip(self._name, f"{path.name} is no picture")
        # OpenCV's order is blue, green, red.
        planes = np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1))
        return torch.from_numpy(planes)[None]


def _within(entry: Entry, frames: int) -> tuple[int, int]:
    """The first frame that is meant, and how many, of a clip of ``frames``."""
    first, end = 0, frames
    if isinstance(entry.span, Frames):
        first, end = entry.span.start, min(entry.span.end, frames)
    if end <= first:
        raise UnreadableClip(entry.name, f"it has {frames} frames")
    return first, end - first


def _unreadable(name: str, error: Exception) -> UnreadableClip:
    # Decoders put traces of their stack below the first line.
    return UnreadableClip(name, (str(error).splitlines() or [type(error).__name__])[0])


@lru_cache(maxsize=4)
def _store(path: Path) -> ClipStore:
    """Opened once in each process that reads."""
    return ClipStore(path)
