"""The lines of a stream, with examples for the OpenAPI document."""

from typing import Annotated, Literal

from pydantic import Field

from service.http.schemas import BundleAnswer, Problem, ResponsePart
from service.http.timeline_schemas import CutLine, SegmentLine, WindowLine

_Seconds = Annotated[
    float, Field(ge=0, description="after the first frame of the stream", examples=[12.5])
]


class StreamAnswer(ResponsePart):
    """What comes, as far as its first frame says."""

    source: str = Field(description="without its password", examples=["rtsp://camera/door"])
    codec: str = Field(examples=["h264"])
    width: int = Field(description="pixels, as displayed", examples=[1920])
    height: int = Field(description="pixels, as displayed", examples=[1080])
    frames_per_second: float | None = Field(
        description="as the header has it; null where it does not say", examples=[25.0]
    )


class ConnectedAnswer(ResponsePart):
    """The stream's first frame came, for the first time or again."""

    seconds: _Seconds
    stream: StreamAnswer
    window_seconds: float = Field(examples=[2.0])
    stride_seconds: float = Field(examples=[1.0])
    bundle: BundleAnswer
    request_id: str = Field(examples=["9f86d081884c4d65a2feaa0c55ad015a"])


class EventAnswer(ResponsePart):
    """A label begins or ends, said at once: windows that follow may yet contradict it, and a
    `segment` says what is left of it then."""

    kind: Literal["begin", "end"] = Field(examples=["begin"])
    label: str = Field(examples=["moving left"])
    score: float = Field(
        ge=0,
        le=1,
        description="in the window with which it begins; the mean over all when it ends",
        examples=[0.93],
    )
    seconds: _Seconds
    latency_seconds: float = Field(
        ge=0, description="since the frame came that is shown then", examples=[1.62]
    )


class LeftOutAnswer(ResponsePart):
    """What came too late to be decoded or looked at, since it was said last."""

    seconds: _Seconds
    frames: int = Field(description="that were not decoded", examples=[48])
    windows: int = Field(description="that were not looked at", examples=[1])


class BrokenAnswer(ResponsePart):
    """The source broke, and is connected to again."""

    seconds: _Seconds
    why: str = Field(examples=["Connection refused"])
    retry_seconds: float = Field(description="until then", examples=[0.5])


class WatchedAnswer(ResponsePart):
    """All of it, counted."""

    why: str = Field(description="what ended it", examples=["the stream ended"])
    windows: int = Field(description="windows that were looked at", examples=[3599])
    skipped_windows: int = Field(
        description="windows that came too late or found no room", examples=[0]
    )
    segments: int = Field(examples=[41])
    cuts: int = Field(description="hard cuts that were found", examples=[0])
    dropped_frames: int = Field(
        description="frames that were not decoded, because decoding was behind", examples=[0]
    )
    breaks: int = Field(description="how often the source broke", examples=[0])
    seconds: float = Field(description="of the stream that were watched", examples=[3600.0])
    frames: int = Field(examples=[90_000])
    tokens: int = Field(description="tokens that the extractor looked at", examples=[367_098])
    macs: int = Field(
        description="multiply-accumulates of selector and extractor", examples=[2_087_000_000_000]
    )


class ConnectedLine(ResponsePart):
    connected: ConnectedAnswer


class EventLine(ResponsePart):
    event: EventAnswer


class LeftOutLine(ResponsePart):
    left_out: LeftOutAnswer


class BrokenLine(ResponsePart):
    broken: BrokenAnswer


class WatchedLine(ResponsePart):
    done: WatchedAnswer


StreamLine = (
    ConnectedLine
    | EventLine
    | CutLine
    | WindowLine
    | SegmentLine
    | LeftOutLine
    | BrokenLine
    | WatchedLine
    | Problem
)
