"""What the service answers, with examples for the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CacheUse = Literal["hit", "partial", "miss", "off"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class LabelScore(_Answer):
    label: str = Field(examples=["moving left"])
    score: float = Field(
        ge=0, le=1, description="softmax, averaged over the views", examples=[0.93]
    )


class SparsityAnswer(_Answer):
    asked: float | Literal["auto"] | None = Field(
        description="null when the request did not say", examples=[0.92]
    )
    used: float = Field(description="the level that was used", examples=[0.9])
    degraded: bool = Field(
        description="whether it is sparser than what was asked for", examples=[False]
    )
    reason: Literal["requests", "tokens", "wait", "budget"] | None = Field(
        description="why it is degraded: the bound that was near (requests or tokens in flight, or "
        "the wait for them), or the budget",
        examples=[None],
    )


class CoverageAnswer(_Answer):
    asked: float = Field(description="share of the selector's mass", examples=[0.7])
    reached: float = Field(description="share that the tokens kept hold", examples=[0.73])


class BudgetAnswer(_Answer):
    """Milliseconds from the last byte of the body."""

    asked_ms: float = Field(examples=[40.0])
    predicted_ms: float = Field(
        description="when the level was chosen: what had passed, what was queued, and the "
        "extractor at that level",
        examples=[33.1],
    )
    spent_ms: float = Field(description="what it took", examples=[35.4])
    fits: bool = Field(
        description="false when even the sparsest level that is allowed was predicted to be late; "
        "it was used nevertheless",
        examples=[True],
    )
    met: bool = Field(description="whether it was in time", examples=[True])


class CascadeStep(_Answer):
    sparsity: float = Field(examples=[0.95])
    tokens: int = Field(description="kept, all views together", examples=[51])
    label: str = Field(examples=["moving left"])
    score: float = Field(examples=[0.61])
    margin: float = Field(description="to the score of the next label", examples=[0.32])


class CascadeAnswer(_Answer):
    margin: float = Field(description="the margin that was enough", examples=[0.7])
    steps: list[CascadeStep] = Field(description="in order; the last is the answer")
    stopped: Literal["margin", "densest", "budget"] = Field(
        description="why it went no further: the margin was reached, it was the densest step "
        "allowed, or the next would have been late"
    )


class TokensAnswer(_Answer):
    kept: int = Field(description="tokens the extractor saw, all views together", examples=[102])
    total: int = Field(description="tokens there were, all views together", examples=[1024])
    views: int = Field(description="views of the clip", examples=[1])


class SweepTokens(_Answer):
    total: int = Field(description="tokens there were, all views together", examples=[1024])
    views: int = Field(description="views of the clip", examples=[1])


class TimingAnswer(_Answer):
    """Seconds in each stage; what they leave of the total is what lies between them."""

    admit: float = Field(description="reading the query and reserving the cost", examples=[0.0001])
    upload: float = Field(description="receiving the body", examples=[0.012])
    decode: float = Field(description="waiting for a decode worker and decoding", examples=[0.041])
    select: float = Field(
        description="downscaling, the selector and the order of its scores", examples=[0.011]
    )
    queue: float = Field(
        description="waiting for a turn on the device, or for another's work on the same clip",
        examples=[0.0],
    )
    extract: float = Field(
        description="patches of the best tokens and the extractor", examples=[0.019]
    )
    total: float = Field(description="from the request's start to the answer", examples=[0.085])


class ClipAnswer(_Answer):
    """What was uploaded; sizes as displayed: turned, and with square pixels."""

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
    mirrored: bool = Field(
        description="whether they were mirrored left-right after that", examples=[False]
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
        description="multiply-accumulates of selector and extractor, all views and all steps of a "
        "cascade together; without what the cache spared",
        examples=[412_345_678],
    )
    coverage: CoverageAnswer | None = Field(description="of sparsity=auto")
    budget: BudgetAnswer | None = Field(description="of budget_ms")
    cascade: CascadeAnswer | None = Field(description="of cascade=true")
    cache: CacheUse = Field(
        description="what was known of this clip: `hit` all, `partial` all but the extractor's "
        "answer, `miss` nothing; `off` when there is no cache or the request passed it by",
        examples=["off"],
    )
    timing: TimingAnswer
    clip: ClipAnswer
    bundle: BundleAnswer
    request_id: str = Field(examples=["9f86d081884c4d65a2feaa0c55ad015a"])


class Agreement(_Answer):
    """With the densest sparsity of the same sweep."""

    top1: bool = Field(description="the best label is the same", examples=[True])
    overlap: float = Field(
        ge=0,
        le=1,
        description="of the two distributions of scores: the sum over all labels of the lesser",
        examples=[0.97],
    )


class SweepPoint(_Answer):
    asked: float = Field(examples=[0.92])
    used: float = Field(description="the level that was used", examples=[0.9])
    tokens: int = Field(description="kept, all views together", examples=[102])
    labels: list[LabelScore] = Field(description="best first")
    agreement: Agreement
    macs: int = Field(
        description="multiply-accumulates of the extractor, all views together; the selector's, "
        "which all points share, are in the sum alone",
        examples=[314_000_000],
    )
    extract_seconds: float = Field(
        description="of the extractor, without waiting; 0 for what the cache had", examples=[0.005]
    )


class Sweep(_Answer):
    """The answer of ``POST /sweep``."""

    points: list[SweepPoint] = Field(description="in the order asked")
    tokens: SweepTokens
    macs: int = Field(
        description="multiply-accumulates of the selector, once, and of all extractions",
        examples=[1_234_567_890],
    )
    cache: CacheUse = Field(description="as in a classification", examples=["off"])
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
    degrade_to: float | None = Field(
        description="up to which requests that say neither max_sparsity nor strict may be served "
        "sparser under load; null when they are not"
    )


class LimitsAnswer(_Answer):
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


class BatchingAnswer(_Answer):
    """What was measured of one number of tokens; ``rows`` views of it share a run."""

    tokens: int = Field(description="of one view", examples=[102])
    rows: int | None = Field(
        description="views that share a run where the tokens allow; null is without limit",
        examples=[1],
    )
    seconds_per_view: dict[int, float] = Field(
        description="measured at start, by views in one run", examples=[{"1": 0.011, "2": 0.0109}]
    )


class StageCostAnswer(_Answer):
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


class DecodingCostAnswer(_Answer):
    """Learnt from clips; zeros before the first."""

    clip: float = Field(description="seconds of any clip", examples=[0.004])
    megapixel: float = Field(
        description="seconds of a million pixels of all its frames", examples=[0.003]
    )
    clips: int = Field(description="clips it was learnt from", examples=[120])


class CostAnswer(_Answer):
    """How the service predicts times on this machine."""

    select: StageCostAnswer
    extract: StageCostAnswer
    decode: DecodingCostAnswer
    calibration_seconds: float = Field(description="that warming and measuring took")
    warmed_tokens: list[int] = Field(description="kept tokens that were run before the first clip")


class EngineAnswer(_Answer):
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


class DecodingAnswer(_Answer):
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


class Model(_Answer):
    """The answer of ``GET /model``."""

    bundle: BundleAnswer
    labels: list[str]
    geometry: GeometryAnswer
    default_views: str
    sparsity: SparsityRangeAnswer
    accuracy: list[AccuracyAnswer] = Field(description="measured on held-out clips; may be empty")
    engine: EngineAnswer
    decoding: DecodingAnswer
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
    other: str | None = Field(default=None, description="the parameter that `field` contradicts")
    known: list[str] | None = Field(default=None, description="the parameters there are")
    reason: str | None = Field(default=None, description="what there was too little of")
    retry_after: int | None = Field(default=None, description="seconds, as in Retry-After")
    accepted: list[str] | None = Field(
        default=None, description="the containers that are, where another was sent"
    )


class ProblemDescription(_Answer):
    """The answer of ``GET /problems/{code}``."""

    code: str
    title: str
    status: int
    advice: str
