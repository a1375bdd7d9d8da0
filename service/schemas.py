"""What the service answers, with examples for the OpenAPI document."""

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class LabelScore(_Answer):
    label: str = Field(examples=["moving left"])
    score: float = Field(
        ge=0, le=1, description="softmax, averaged over the views", examples=[0.93]
    )


class SparsityAnswer(_Answer):
    asked: float | None = Field(description="null when the request did not say", examples=[0.92])
    used: float = Field(description="the level that was used", examples=[0.9])


class TokensAnswer(_Answer):
    kept: int = Field(description="tokens the extractor saw, all views together", examples=[102])
    total: int = Field(description="tokens there were, all views together", examples=[1024])
    views: int = Field(description="views of the clip", examples=[1])


class TimingAnswer(_Answer):
    """Seconds in each stage; what they leave of the total is what lies between them."""

    admit: float = Field(description="reading the query and reserving the cost", examples=[0.0001])
    upload: float = Field(description="receiving the body", examples=[0.012])
    decode: float = Field(description="waiting for a decode worker and decoding", examples=[0.041])
    select: float = Field(description="downscaling and the selector", examples=[0.011])
    queue: float = Field(description="waiting for a turn on the device", examples=[0.0])
    extract: float = Field(description="top-K, patches and the extractor", examples=[0.019])
    total: float = Field(description="from the request's start to the answer", examples=[0.085])


class ClipAnswer(_Answer):
    """What was uploaded; sizes as displayed, that is after rotation."""

    container: str = Field(examples=["mp4"])
    codec: str = Field(examples=["h264"])
    width: int = Field(description="pixels", examples=[1920])
    height: int = Field(description="pixels", examples=[1080])
    frames: int = Field(examples=[250])
    fps: float = Field(description="mean frames per second", examples=[25.0])
    duration_seconds: float = Field(examples=[10.0])
    rotation_degrees: int = Field(
        description="how far the frames were turned, counter-clockwise", examples=[0]
    )
    substituted_frames: int = Field(
        description="sampled frames that could not be decoded and were replaced by others of the "
        "clip; above 0 means that the file is damaged",
        examples=[0],
    )
    bytes: int = Field(description="size of the file", examples=[1352828])


class BundleAnswer(_Answer):
    name: str = Field(examples=["moving-things"])
    version: str = Field(examples=["1.0.0"])


class Classification(_Answer):
    """The answer of ``POST /classify``."""

    labels: list[LabelScore] = Field(description="best first")
    sparsity: SparsityAnswer
    tokens: TokensAnswer
    macs: int = Field(
        description="multiply-accumulates of selector and extractor, all views together",
        examples=[412_345_678],
    )
    timing: TimingAnswer
    clip: ClipAnswer
    bundle: BundleAnswer
    request_id: str = Field(examples=["9f86d081884c4d65a2feaa0c55ad015a"])


class GeometryAnswer(_Answer):
    frames: int = Field(description="frames of one view")
    size: int = Field(description="side of a view in pixels")
    patch: int = Field(description="side of a token in pixels")
    tokens: int = Field(description="tokens of one view")


class LevelAnswer(_Answer):
    sparsity: float
    tokens: int = Field(description="tokens kept of one view")
    macs: int = Field(description="multiply-accumulates of one view")


class AccuracyAnswer(_Answer):
    sparsity: float
    top1: float = Field(description="share of held-out clips whose best label is right")
    clips: int


class SparsityRangeAnswer(_Answer):
    lowest: float = Field(description="least sparsity seen in training")
    highest: float = Field(description="greatest sparsity seen in training")
    default: float = Field(description="used when a request does not say")
    levels: list[LevelAnswer] = Field(
        description="the sparsities that are really used; when every one is, some examples"
    )
    exact: bool = Field(description="whether every sparsity is used exactly as asked")


class LimitsAnswer(_Answer):
    max_body_bytes: int
    max_frame_pixels: int
    max_clip_seconds: float
    max_clip_frames: int
    max_frames_per_second: float
    max_streams: int
    max_views: int


class EngineAnswer(_Answer):
    runtime: str = Field(examples=["onnxruntime 1.31.0"])
    execution_providers: list[str] = Field(description="what the sessions really use")
    threads: int


class Model(_Answer):
    """The answer of ``GET /model``."""

    bundle: BundleAnswer
    labels: list[str]
    geometry: GeometryAnswer
    default_views: str
    sparsity: SparsityRangeAnswer
    accuracy: list[AccuracyAnswer] = Field(description="measured on held-out clips; may be empty")
    engine: EngineAnswer
    limits: LimitsAnswer


class Health(_Answer):
    status: str = Field(examples=["ready"])
    reason: str | None = None


class Problem(BaseModel):
    """RFC 9457. ``code`` is stable; further members depend on it."""

    type: str = Field(examples=["/problems/clip_too_long"])
    title: str = Field(examples=["The clip is too long"])
    status: int = Field(examples=[413])
    detail: str = Field(examples=["The clip lasts 130 seconds, the limit is 120."])
    code: str = Field(examples=["clip_too_long"])
    request_id: str = Field(examples=["9f86d081884c4d65a2feaa0c55ad015a"])
    field: str | None = Field(default=None, description="the parameter at fault")
    limit: float | str | None = Field(default=None, description="what is accepted")


class ProblemDescription(_Answer):
    """The answer of ``GET /problems/{code}``."""

    code: str
    title: str
    status: int
    advice: str
