"""A clip as Python has it, and its bytes piece by piece."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Clip = str | os.PathLike[str] | bytes | BinaryIO

_CHUNK_BYTES = 256 * 1024


class ClipBytes:
    """The bytes of a clip, which may be read more than once where that is possible.

    Attributes:
        size: in bytes, or None of a stream that has no end to seek.
        again: whether it can be read a second time, after a refusal.
    """

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._from = 0
        self.size: int | None = None
        self.again = True
        if isinstance(clip, bytes):
            self.size = len(clip)
        elif isinstance(clip, str | os.PathLike):
            self.size = Path(clip).stat().st_size
        elif self._seeks(clip):
            self._from = clip.tell()
            self.size = clip.seek(0, io.SEEK_END) - self._from
            clip.seek(self._from)
        else:
            self.again = False

    @staticmethod
    def _seeks(clip: BinaryIO) -> bool:
        try:
            return clip.seekable()
        except AttributeError:
            return False

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """A file to read from its beginning; a stream that was handed in stays open."""
        if isinstance(self._clip, bytes):
            yield io.BytesIO(self._clip)
        elif isinstance(self._clip, str | os.PathLike):
            with Path(self._clip).open("rb") as file:
                yield file
        else:
            if self.again:
                self._clip.seek(self._from)
            yield self._clip


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """Its bytes, a piece after another."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
