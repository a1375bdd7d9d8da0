"""The lines of a timeline, with examples for the OpenAPI document."""

from typing import Annotated

from pydantic import Field

from service.http.schemas import BundleAnswer, LabelScore, Problem, ResponsePart

NDJSON = "application/x-ndjson"

_Seconds = Annotated[float, Field(ge=0, examples=[12.5])]


class VideoAnswer(ResponsePart):
    """What was sent, as far as its beginning and its header say."""

    container: str = Field(examples=["mp4"])
    codec: str = Field(examples=["h264"])
    width: int = Field(description="pixels, as displayed", examples=[1920])
    height: int = Field(description="pixels, as displayed", examples=[1080])
    bytes: int = Field(description="size of the file", examples=[135_282_800])
    duration_seconds: float | None = Field(
        description="as the header has it; null where it does not say", examples=[7200.0]
    )


class BegunAnswer(ResponsePart):
    """How the video is gone through."""

    video: VideoAnswer
    window_seconds: float = Field(examples=[2.0])
    stride_seconds: float = Field(examples=[1.0])
    bundle: BundleAnswer
    request_id: str = Field(examples=["9f86d081884c4d65a2feaa0c55ad015a"])


class CutAnswer(ResponsePart):
    """A hard cut: a shot begins from one frame to the next."""

    seconds: float = Field(ge=0, description="when the shot begins", examples=[12.48])
    frame: int = Field(description="its first frame, counted from 0", examples=[312])


class WindowAnswer(ResponsePart):
    start_seconds: _Seconds
    end_seconds: _Seconds
    labels: list[LabelScore] = Field(description="best first, `top` of them")
    unknown: bool | None = Field(
        description="whether nothing happens that the bundle has a label for, as far as it can "
        "tell; null where it cannot",
        examples=[False],
    )
    sparsity: float = Field(description="the level that was used", examples=[0.9])
    tokens: int = Field(description="tokens that the extractor looked at", examples=[102])


class SegmentAnswer(ResponsePart):
    label: str = Field(examples=["moving left"])
    score: float = Field(ge=0, le=1, description="mean over the segment", examples=[0.93])
    start_seconds: _Seconds
    end_seconds: _Seconds
    start_frame: int = Field(
        description="the first frame that begins in the segment, counted from 0", examples=[312]
    )
    end_frame: int = Field(description="the last frame that begins in it", examples=[361])


class LostAnswer(ResponsePart):
    """A decode worker died of these windows, or took too long; the video goes on behind them."""

    start_seconds: _Seconds
    end_seconds: _Seconds
    windows: int = Field(examples=[4])
    code: str = Field(description="of the problem that it was", examples=["decoder_crashed"])


class DoneAnswer(ResponsePart):
    """All of it, counted."""

    windows: int = Field(description="windows that were answered", examples=[7199])
    segments: int = Field(examples=[41])
    cuts: int = Field(description="hard cuts that were found", examples=[0])
    skipped_windows: int = Field(
        description="windows in which the selector proposed nothing, so that the extractor did not "
        "look at them; 0 unless `windows` is `auto`",
        examples=[0],
    )
    lost_windows: int = Field(examples=[0])
    lost_packets: int = Field(
        description="packets of which no frame came; above 0 means that the file is damaged",
        examples=[0],
    )
    seconds: float = Field(description="of the video that were gone through", examples=[7200.0])
    frames: int = Field(description="of the video up to there", examples=[180_000])
    frames_estimated: bool = Field(
        description="whether there are frames that nobody counted, before `start` or where windows "
        "were lost, so that the numbers of frames behind them are estimates",
        examples=[False],
    )
    tokens: int = Field(description="tokens that the extractor looked at", examples=[734_298])
    macs: int = Field(
        description="multiply-accumulates of selector and extractor", examples=[4_175_000_000_000]
    )
    total_seconds: float = Field(description="from the request's start", examples=[311.5])


class BegunLine(ResponsePart):
    begun: BegunAnswer


class CutLine(ResponsePart):
    cut: CutAnswer


class WindowLine(ResponsePart):
    window: WindowAnswer


class SegmentLine(ResponsePart):
    segment: SegmentAnswer


class LostLine(ResponsePart):
    lost: LostAnswer


class DoneLine(ResponsePart):
    done: DoneAnswer


TimelineLine = BegunLine | CutLine | WindowLine | SegmentLine | LostLine | DoneLine | Problem
