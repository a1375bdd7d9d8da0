"""The clips of one inference request: their bytes on the way in, each in memory of its own."""

from dataclasses import dataclass

from service.decoding.containers import Container
from service.decoding.shared_memory import SharedBlock
from service.errors import MalformedInference, TooManyClips
from service.http.body import ClipSink

_LENGTH_BYTES = 4


@dataclass(slots=True)
class ArrivedClip:
    """A clip that is here."""

    block: SharedBlock
    container: Container


class ClipWriter:
    """The bytes of one clip, into memory; what is no container we accept is refused at once."""

    def __init__(self, accepted: tuple[Container, ...]) -> None:
        self.block = SharedBlock("clip")
        self._sink = ClipSink(self.block, accepted)
        self._container: Container | None = None

    def write(self, data: bytes | memoryview) -> None:
        self._sink.write(data)

    def finish(self) -> None:
        """The clip is complete.

        Raises:
            MalformedInference: it is empty.
            ClipError: it is no container we accept.
        """
        if not self.block.size:
            raise MalformedInference("a clip is empty", field="data")
        self._container = self._sink.finish()

    @property
    def clip(self) -> ArrivedClip:
        assert self._container is not None
        return ArrivedClip(self.block, self._container)


class ClipsRoom:
    """Makes the room of each clip, and gives back what nobody took."""

    def __init__(self, accepted: tuple[Container, ...], max_clips: int) -> None:
        self._accepted, self._max_clips = accepted, max_clips
        self._writers: list[ClipWriter] = []

    def begin(self) -> ClipWriter:
        """Room for one more.

        Raises:
            TooManyClips.
        """
        if len(self._writers) >= self._max_clips:
            raise TooManyClips(self._max_clips)
        self._writers.append(ClipWriter(self._accepted))
        return self._writers[-1]

    def close(self) -> None:
        for writer in self._writers:
            writer.block.close()


class BinaryClips:
    """The clips of a binary tensor that arrives piece by piece: each behind its length.

    Args:
        room: where they go.
        count: how many there have to be.
        size: of the tensor in bytes, lengths included.
    """

    def __init__(self, room: ClipsRoom, count: int, size: int) -> None:
        self._room, self._count, self._left = room, count, size
        self._length = bytearray()
        self._missing = 0  # of the clip that is arriving
        self._writer: ClipWriter | None = None
        self.clips: list[ArrivedClip] = []

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece.

        Raises:
            MalformedInference: lengths, sizes and the number of clips do not fit each other.
            ClipError: a clip is no container we accept.
        """
        view = memoryview(data)
        if len(view) > self._left:
            raise MalformedInference(
                "it has more binary data than binary_data_size says", field="binary_data_size"
            )
        self._left -= len(view)
        while view:
            view = self._take_length(view) if self._writer is None else self._take_clip(view)

    def finish(self) -> list[ArrivedClip]:
        """The clips, when nothing more comes."""
        if self._left or self._length or self._writer is not None:
            raise MalformedInference(
                "its binary data ends before what binary_data_size and the lengths of its clips "
                "say",
                field="binary_data_size",
            )
        if len(self.clips) != self._count:
            raise MalformedInference(
                f"its binary data has {len(self.clips)} clips, and its shape says {self._count}",
                field="shape",
            )
        return self.clips

    def _take_length(self, view: memoryview) -> memoryview:
        needed = _LENGTH_BYTES - len(self._length)
        self._length += view[:needed]
        if len(self._length) == _LENGTH_BYTES:
            self._missing = int.from_bytes(self._length, "little")
            if self._missing > self._left + len(view) - needed:
                raise MalformedInference(
                    "the length of a clip goes beyond its binary data: each clip stands behind its "
                    "length in 4 bytes, the lowest first",
                    field="binary_data_size",
                )
            self._length.clear()
            self._writer = self._room.begin()
            self._close_if_complete()
        return view[needed:]

    def _take_clip(self, view: memoryview) -> memoryview:
        assert self._writer is not None
        part = view[: self._missing]
        self._writer.write(part)
        self._missing -= len(part)
        self._close_if_complete()
        return view[len(part) :]

    def _close_if_complete(self) -> None:
        if self._writer is not None and not self._missing:
            self._writer.finish()
            self.clips.append(self._writer.clip)
            self._writer = None
