"""Opening a file, and the boundary at which the decoder's errors become ours."""

import mmap
import re
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from video.codec import VideoDecoder
from video.errors import ClipRefused

SeekMode = Literal["exact", "approximate"]

# RGB frames that must fit into memory if a lack of it is not to be why a frame failed.
_FRAMES_OF_ROOM = 4

# ArithmeticError: a pixel's aspect of n/0, of which torchcodec makes a fraction.
DECODER_ERRORS = (
    RuntimeError, ValueError, IndexError, MemoryError, ArithmeticError, AssertionError
)  # fmt: skip


def open_decoder(
    source: Tensor | Path, threads: int, device: str, seek_mode: SeekMode
) -> VideoDecoder:
    """torchcodec's decoder of a file.

    Args:
        source: the bytes of a file, uint8 [bytes], or where it lies.
        threads: FFmpeg's.
        device: torch's name of where to decode.
        seek_mode: whether all packets are read, or the header is believed.

    Raises:
        ClipRefused: it cannot be read, or holds no video.
    """
    try:
        return VideoDecoder(
            _named(source) if isinstance(source, Path) else source,
            seek_mode=seek_mode,
            num_ffmpeg_threads=threads,
            device=device,
        )
    except (*DECODER_ERRORS, OSError) as error:
        raise refusal(error) from None


def _named(path: Path) -> str | bytes:
    """A file by its name, or by its bytes where the name is no text, which torchcodec refuses."""
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        return path.read_bytes()
    return name


def content_of(source: Tensor | Path) -> memoryview:
    """The bytes of a file, without reading more of it than is looked at."""
    if isinstance(source, Tensor):
        content: Any = source.numpy()
        return memoryview(content)
    with source.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def refusal(error: Exception) -> ClipRefused:
    """The boundary at which the decoder's errors, whose texts hold paths, become ours."""
    if is_memory(error):
        return ClipRefused("decode_memory_exceeded")
    # torchcodec has no error of its own for this.
    if isinstance(error, ValueError) and "best video stream is unknown" in str(error):
        return ClipRefused("no_video_stream")
    return ClipRefused("undecodable")


def is_memory(error: Exception) -> bool:
    """Whether an error of torch's or torchcodec's is about a lack of memory."""
    return isinstance(error, MemoryError) or bool(
        re.search(r"cannot allocate|can't allocate|bad_alloc|aten::empty", str(error), re.I)
    )


def require_memory(error: Exception, size: tuple[int, int]) -> None:
    """Tell a lack of memory from a frame that cannot be decoded: decoders call both invalid data.

    Args:
        error: what decoding a frame raised.
        size: (height, width) of a frame.

    Raises:
        ClipRefused: there is no memory, or none for a few such frames.
    """
    if not is_memory(error):
        try:
            mmap.mmap(-1, _FRAMES_OF_ROOM * 3 * max(1, size[0] * size[1]))
        except OSError:
            pass
        else:
            return
    raise ClipRefused("decode_memory_exceeded") from None
