"""Which demuxer FFmpeg takes for a clip: asked of the library that will open it.

FFmpeg has no list of formats that torchcodec could be told to keep to (0.13 opens a clip with
neither a format nor options, and does not say which it became), and takes the format whose probe
is surest. A clip may begin as a container that is accepted and hold, a few bytes on, what the probe
of a playlist looks for: `free` and `<MPD dash:profile` is QuickTime to the first and DASH to the
second. So the same question is asked beforehand, through the public functions of libavformat, in
the steps in which `avformat_open_input` asks it.
"""

import ctypes
import mmap
from collections.abc import Iterable

from service.decoding.containers import SNIFF_BYTES, Container, identify
from service.errors import AmbiguousContainer, ClipError

# libavformat's own names, the same in FFmpeg 4 to 8.
_QUICKTIME = "mov,mp4,m4a,3gp,3g2,mj2"
DEMUXERS: dict[Container, str] = {
    "mp4": _QUICKTIME,
    "mov": _QUICKTIME,
    "webm": "matroska,webm",
    "matroska": "matroska,webm",
    "avi": "avi",
    "mpegts": "mpegts",
    "mpegps": "mpeg",
}

# libavformat/format.c and avformat.h: how much is looked at first and last, what is appended to it,
# and the score that is enough while there is more to look at.
_FIRST_BYTES, _LAST_BYTES = 2048, 1 << 20
# What is looked at of a clip, at most.
PROBED_BYTES = 2 * _LAST_BYTES
_PADDING = bytes(32)
_ENOUGH = 25


class _ProbeData(ctypes.Structure):
    _fields_ = (
        ("filename", ctypes.c_char_p),
        ("buf", ctypes.c_char_p),
        ("buf_size", ctypes.c_int),
        ("mime_type", ctypes.c_char_p),
    )


class _InputFormat(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p),)  # the first of more


class Prober:
    """Asks libavformat.

    Args:
        libraries: paths of libraries that are loaded already, such as torchcodec's; the first that
            has libavformat among those it needs is taken. No file is opened for that.

    Raises:
        LookupError: none has.
    """

    def __init__(self, libraries: Iterable[str]) -> None:
        for path in libraries:
            try:
                self._probe = ctypes.CDLL(path).av_probe_input_format2
            except (AttributeError, OSError):
                continue
            self._probe.restype = ctypes.POINTER(_InputFormat)
            self._probe.argtypes = (
                ctypes.POINTER(_ProbeData),
                ctypes.c_int,
                ctypes.POINTER(ctypes.c_int),
            )
            return
        raise LookupError("no library that is loaded has FFmpeg's libavformat")

    def demuxer(self, clip: "bytes | mmap.mmap") -> str | None:
        """The name of the demuxer that FFmpeg takes, None when it knows none."""
        size = _FIRST_BYTES
        while size <= _LAST_BYTES:
            # At the end of the file, or of what is looked at, any score will do.
            is_last = size == _LAST_BYTES or size >= 2 * len(clip)
            if name := self._ask(bytes(clip[:size]), 0 if is_last else _ENOUGH):
                return name
            if is_last:
                break
            size *= 2
        return None

    def require_sniffed(self, clip: "bytes | mmap.mmap") -> None:
        """Refuse a clip that FFmpeg would not take for what its first bytes say.

        What FFmpeg takes for nothing is let through, and cannot be opened.

        Raises:
            AmbiguousContainer: it would not.
        """
        try:
            container = identify(bytes(clip[:SNIFF_BYTES]))
        except ClipError:  # a caller that has not looked at them
            raise AmbiguousContainer from None
        if (demuxer := self.demuxer(clip)) is not None and demuxer != DEMUXERS[container]:
            raise AmbiguousContainer

    def _ask(self, head: bytes, score: int) -> str | None:
        data = _ProbeData(b"", head + _PADDING, len(head), None)
        found = self._probe(ctypes.byref(data), 1, ctypes.byref(ctypes.c_int(score)))
        return found.contents.name.decode("ascii") if found else None
