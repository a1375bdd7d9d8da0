"""What ``GET /model`` answers, with examples for the OpenAPI document."""

from typing import Literal

from pydantic import Field

from service.http.schemas import BundleAnswer, ResponsePart


class GeometryAnswer(ResponsePart):
    frames: int = Field(description="frames of one view")
    size: int = Field(description="side of a view in pixels")
    patch: int = Field(description="side of a token in pixels")
    tubelet: int = Field(description="frames of a token")
    tokens: int = Field(description="tokens of one view")


class SamplingAnswer(ResponsePart):
    """How a clip becomes views."""

    kind: Literal["uniform", "dense"] = Field(
        description="frames spread over all of a clip, or windows of frames close together"
    )
    stride: int | None = Field(
        description="dense only: source frames from one sampled frame to the next", examples=[None]
    )
    framing: Literal["crop", "squash", "pad"] = Field(
        description="a square of the picture, or all of it: squeezed, or between black bars"
    )
    spatial_views: list[int] = Field(description="that may be asked for", examples=[[1, 3]])


class SelectorAnswer(ResponsePart):
    """What chooses the tokens."""

    kind: Literal["learned", "change", "group", "unique", "random"] = Field(
        description="trained, or arithmetic on pixels: what changes, the same share of each group "
        "of frames, what differs most from all else, or chance"
    )
    downscale_time: int = Field(description="how many frames it sees as one")
    downscale_space: int = Field(description="how many rows, and columns, it sees as one")
    macs: int = Field(description="multiply-accumulates of one view")


class UnknownAnswer(ResponsePart):
    sparsity: float
    threshold: float = Field(description="below which the answer is unknown")


class TemperatureAnswer(ResponsePart):
    sparsity: float
    temperature: float


class AnswerKindAnswer(ResponsePart):
    """What scores mean."""

    kind: Literal["softmax", "sigmoid"] = Field(
        description="whether labels exclude each other (softmax) or not"
    )
    temperature: float = Field(description="that logits are divided by first", examples=[1.0])
    temperatures: list[TemperatureAnswer] | None = Field(
        description="in its place, that of the nearest sparsity; null where it is one for all"
    )
    thresholds: list[float] | None = Field(
        description="of each label that does not exclude others; 0.5 of each where it is null"
    )
    unknown: list[UnknownAnswer] | None = Field(
        description="that of the nearest sparsity counts; null where the bundle cannot tell"
    )
    unknown_by: Literal["best", "video"] = Field(
        description="what these are compared with: the best label's score, or how sure the bundle "
        "is, by the video's vector, that it has a label for what happens"
    )


class LevelAnswer(ResponsePart):
    sparsity: float
    tokens: int = Field(description="tokens kept of one view")
    macs: int = Field(description="multiply-accumulates of one view")


class AccuracyAnswer(ResponsePart):
    sparsity: float
    top1: float = Field(description="share of held-out clips whose best label is right")
    top5: float | None = Field(description="whose label is among the best five")
    clips: int
    precision: str = Field(description="fp32, fp16, bf16 or int8", examples=["fp32"])
    agreement: float | None = Field(
        description="share of the clips that are answered as in fp32 at the same sparsity"
    )
    folds: int | None = Field(
        description="models of the same recipe that each left some of the clips out and were "
        "measured on those; null where these weights were measured",
        examples=[None],
    )


class RivalAnswer(ResponsePart):
    """What else the cost of a sparsity buys, measured on the same clips."""

    name: str = Field(examples=["4 frames, dense"])
    macs: int = Field(description="multiply-accumulates of one view")
    top1: float
    clips: int


class LicenceAnswer(ResponsePart):
    """What the weights may be used for, as their publisher says."""

    name: str = Field(examples=["CC BY-NC 4.0"])
    url: str | None
    commercial: bool | None = Field(description="null where that is not known")
    attribution: str


class SparsityRangeAnswer(ResponsePart):
    lowest: float = Field(description="least sparsity that the bundle is meant for")
    highest: float = Field(description="greatest sparsity that the bundle is meant for")
    default: float = Field(description="used when a request does not say")
    basis: Literal["trained", "tuned", "untuned"] = Field(
        description="what the range rests on: training, a short tuning, or nothing but what is "
        "published of networks like this one"
    )
    levels: list[LevelAnswer] = Field(
        description="the sparsities that are really used; when every one is, some examples"
    )
    exact: bool = Field(description="whether every sparsity is used exactly as asked")
    degrade_to: float | None = Field(
        description="up to which requests that say neither max_sparsity nor strict may be served "
        "sparser under load; null when they are not"
    )


class LimitsAnswer(ResponsePart):
    containers: list[str] = Field(
        description="that are accepted, as a clip's `container` names them", examples=[["mp4"]]
    )
    max_body_bytes: int
    max_frame_pixels: int
    max_clip_seconds: float
    max_clip_frames: int
    max_frames_per_second: float
    max_streams: int
    max_decoded_pixels: int
    max_views: int
    max_top_labels: int
    max_explained_tokens: int
    timeline_max_body_bytes: int
    timeline_max_video_seconds: float


class BatchingAnswer(ResponsePart):
    """What was measured of one number of tokens; ``rows`` views of it share a run."""

    tokens: int = Field(description="of one view", examples=[102])
    rows: int | None = Field(
        description="views that share a run where the tokens allow; null is without limit",
        examples=[1],
    )
    seconds_per_view: dict[int, float] = Field(
        description="measured at start, by views in one run", examples=[{"1": 0.011, "2": 0.0109}]
    )


class StageCostAnswer(ResponsePart):
    """Seconds of a run are the sum of these, each times how many there are of it."""

    run: float = Field(examples=[0.0008])
    view: float = Field(examples=[0.002])
    token: float = Field(examples=[6.1e-05])
    token_pair: float = Field(examples=[4.2e-08])
    padded_token: float = Field(examples=[5.9e-05])
    median_error: float = Field(description="of the measurements, relative", examples=[0.02])
    largest_error: float = Field(examples=[0.07])
    measurements: int = Field(
        description="shapes that were measured; 0 when multiply-accumulates stand in for them",
        examples=[18],
    )
    correction: float = Field(
        description="measured by fitted seconds of the last runs that had the device to "
        "themselves; predictions are multiplied by it",
        examples=[1.08],
    )
    shared_correction: float = Field(
        description="the same of runs that shared the device with others; until there were any, as "
        "many as run at the same time",
        examples=[1.45],
    )


class DecodingCostAnswer(ResponsePart):
    """Learnt from clips; zeros before the first."""

    clip: float = Field(description="seconds of any clip", examples=[0.004])
    megapixel: float = Field(
        description="seconds of a million pixels of all its frames", examples=[0.003]
    )
    clips: int = Field(description="clips it was learnt from", examples=[120])


class CostAnswer(ResponsePart):
    """How the service predicts times on this machine."""

    select: StageCostAnswer
    extract: StageCostAnswer
    decode: DecodingCostAnswer
    calibration_seconds: float = Field(description="that warming and measuring took")
    warmed_tokens: list[int] = Field(description="kept tokens that were run before the first clip")


class EngineAnswer(ResponsePart):
    runtime: str = Field(examples=["onnxruntime 1.31.0"])
    execution_providers: list[str] = Field(description="what the sessions really use")
    precision: str = Field(description="fp32, fp16, bf16 or int8", examples=["fp32"])
    threads: int = Field(description="of one inference that runs alone")
    shared_threads: int = Field(description="of one inference that runs beside others")
    concurrent_inferences: int
    batching: dict[str, list[BatchingAnswer]] = Field(
        description="of `select` and `extract`: which views share a run, and why"
    )
    cost: CostAnswer | None = Field(description="null before warm-up")


class DecodingAnswer(ResponsePart):
    """What reads strangers' clips, and what it is confined by."""

    workers: int = Field(description="decode processes that are warm")
    sandbox: str | None = Field(
        description="what confines them besides a process each and resource limits; null before "
        "the first is warm",
        examples=["landlock+seccomp"],
    )
    device: str = Field(description="where clips are decoded", examples=["cpu"])
    torchcodec: str = Field(examples=["0.13.0"])
    ffmpeg: str = Field(examples=["5.1.6"])


class Model(ResponsePart):
    """The answer of ``GET /model``."""

    bundle: BundleAnswer
    labels: list[str]
    geometry: GeometryAnswer
    sampling: SamplingAnswer
    default_views: str
    timeline_window_seconds: float = Field(
        description="seconds of a timeline's window where none is asked for", examples=[2.0]
    )
    selector: SelectorAnswer
    answer: AnswerKindAnswer
    sparsity: SparsityRangeAnswer
    accuracy: list[AccuracyAnswer] = Field(description="measured on held-out clips; may be empty")
    rivals: list[RivalAnswer] = Field(description="may be empty")
    licence: LicenceAnswer | None = Field(description="null where the bundle says nothing of it")
    source: str | None = Field(description="where the weights were published", examples=[None])
    engine: EngineAnswer
    decoding: DecodingAnswer
    limits: LimitsAnswer
