"""What is said of a stream while it is decoded: plain values, without torch."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval, Len

from video.facts import Word
from video.passages import PLACE_VALUES

_Count = Annotated[int, Interval(ge=0, le=1 << 40)]
_Side = Annotated[int, Interval(ge=1, le=1 << 31)]
_Value = Annotated[float, Interval(ge=0.0, le=1e12)]


@dataclass(frozen=True, slots=True)
class StreamBegun:
    """The first frame was decoded.

    Attributes:
        zero: its time stamp on the stream's own clock; all seconds count from there.
        rate: frames per second as the header has it; 0 where it does not say.
    """

    codec: Word
    width: _Side
    height: _Side
    zero: Annotated[float, Interval(ge=-1e12, le=1e12)]
    rate: Annotated[float, Interval(ge=0.0, le=1e9)]


@dataclass(frozen=True, slots=True)
class StreamWindow:
    """A window is whole, and lies in a row of the room for them.

    Attributes:
        place: see :data:`video.passages.PLACE_VALUES`.
    """

    row: _Count
    place: Annotated[tuple[_Value, ...], Len(PLACE_VALUES, PLACE_VALUES)]


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """So far a stream has been decoded.

    Attributes:
        seconds: when the last frame is shown, after the first one.
        frames: that were decoded.
        lost: how often no frame came of a packet.
    """

    seconds: _Value
    frames: _Count
    lost: _Count


StreamNews = StreamBegun | StreamWindow | StreamProgress
