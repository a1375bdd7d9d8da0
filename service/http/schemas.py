"""What the service answers, with examples for the OpenAPI document."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CacheUse = Literal["hit", "partial", "miss", "off"]


class ResponsePart(BaseModel):
    """An object of an answer."""

    model_config = ConfigDict(frozen=True)


class LabelScore(ResponsePart):
    label: str = Field(examples=["moving left"])
    score: float = Field(
        ge=0,
        le=1,
        description="probability, averaged over the views: of all labels together 1, or of each "
        "label by itself where the bundle's labels do not exclude each other (`answer.kind` of "
        "/model)",
        examples=[0.93],
    )
    above_threshold: bool | None = Field(
        description="whether a label that does not exclude others is there; null where labels do",
        examples=[None],
    )


class SparsityAnswer(ResponsePart):
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
    within_range: bool = Field(
        description="whether the level lies in the range that the bundle is meant for",
        examples=[True],
    )
    note: str | None = Field(
        description="where it does not: what that range rests on", examples=[None]
    )


class CoverageAnswer(ResponsePart):
    asked: float = Field(description="share of the selector's mass", examples=[0.7])
    reached: float = Field(description="share that the tokens kept hold", examples=[0.73])


class LossAnswer(ResponsePart):
    """Percentage points of top-1 on held-out clips, against the best sparsity."""

    asked: float = Field(description="`max_loss`", examples=[2.0])
    points: float = Field(description="what the level lost", examples=[1.2])
    low: float = Field(
        description="of the 95 % interval of `points`, as of two independent measurements",
        examples=[-0.4],
    )
    high: float = Field(examples=[2.8])
    clips: int = Field(description="that it was measured on", examples=[2880])
    sparsity: float = Field(
        description="at which it was measured: that of the level, or the next sparser one",
        examples=[0.9],
    )


class BudgetAnswer(ResponsePart):
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


class CascadeStep(ResponsePart):
    sparsity: float = Field(examples=[0.95])
    tokens: int = Field(description="kept, all views together", examples=[51])
    label: str = Field(examples=["moving left"])
    score: float = Field(examples=[0.61])
    margin: float = Field(
        description="to the score of the next label; of labels that do not exclude each other how "
        "far the one that is closest to its threshold is from it",
        examples=[0.32],
    )


class CascadeAnswer(ResponsePart):
    margin: float = Field(description="the margin that was enough", examples=[0.7])
    steps: list[CascadeStep] = Field(description="in order; the last is the answer")
    stopped: Literal["margin", "densest", "budget"] = Field(
        description="why it went no further: the margin was reached, it was the densest step "
        "allowed, or the next would have been late"
    )


class TokensAnswer(ResponsePart):
    kept: int = Field(description="tokens the extractor saw, all views together", examples=[102])
    total: int = Field(description="tokens there were, all views together", examples=[1024])
    views: int = Field(description="views of the clip", examples=[1])


class SweepTokens(ResponsePart):
    total: int = Field(description="tokens there were, all views together", examples=[1024])
    views: int = Field(description="views of the clip", examples=[1])


class TimingAnswer(ResponsePart):
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


class ClipAnswer(ResponsePart):
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


class BundleAnswer(ResponsePart):
    name: str = Field(examples=["moving-things"])
    version: str = Field(examples=["1.0.0"])


class RectangleAnswer(ResponsePart):
    """A part of the picture, in pixels of the clip as displayed, like `clip.width`."""

    x: float = Field(description="of the left edge", examples=[150.0])
    y: float = Field(description="of the upper edge", examples=[90.0])
    width: float = Field(examples=[30.0])
    height: float = Field(examples=[30.0])


class StepAnswer(ResponsePart):
    """A step of a view: a sampled frame, or a tubelet of them. Seconds count from the first frame
    shown."""

    start_seconds: float = Field(description="time stamp of its first frame", examples=[0.4375])
    end_seconds: float = Field(
        description="time stamp of its last frame; the same where it is one frame",
        examples=[0.4375],
    )
    from_seconds: float = Field(
        description="from here to `until_seconds` in the clip no other step of the view is nearer",
        examples=[0.375],
    )
    until_seconds: float = Field(examples=[0.5])


class TokenAnswer(RectangleAnswer):
    """A token: which one of its view's grid, when, where, and the selector's score."""

    step: int = Field(description="which of the view's `steps`, from 0", examples=[3])
    row: int = Field(description="of the grid, from the top", examples=[3])
    column: int = Field(description="of the grid, from the left", examples=[5])
    start_seconds: float = Field(description="as the step's", examples=[0.4375])
    end_seconds: float = Field(description="as the step's", examples=[0.4375])
    score: float = Field(examples=[4.21])


class ViewAnswer(ResponsePart):
    temporal: int = Field(description="which temporal view, from 0", examples=[0])
    spatial: int = Field(description="which spatial view, from 0", examples=[0])
    region: RectangleAnswer = Field(
        description="what the view shows; black bars reach beyond the picture"
    )
    steps: list[StepAnswer]
    tokens: list[TokenAnswer] = Field(
        description="of the highest scores, best first: an extraction that kept K tokens of a "
        "view looked at the first K"
    )


class GridAnswer(ResponsePart):
    """Tokens of a view."""

    steps: int = Field(description="in time", examples=[16])
    rows: int = Field(examples=[8])
    columns: int = Field(examples=[8])


class ExtractionAnswer(ResponsePart):
    sparsity: float = Field(description="the level", examples=[0.9])
    kept: int = Field(description="tokens of each view", examples=[102])
    shares: list[list[float]] = Field(
        description="of each view: how its tokens spread over its steps, with the sum 1",
        examples=[[[0.25, 0.75]]],
    )


class ExplanationAnswer(ResponsePart):
    """What the extractor looked at."""

    grid: GridAnswer
    extractions: list[ExtractionAnswer] = Field(
        description="in the order in which they were made; those of a cascade are its steps"
    )
    listed: int = Field(
        description="tokens of each view in `tokens`; less than an extraction kept where an "
        "explanation may not list as many (`limits.max_explained_tokens` of /model)",
        examples=[102],
    )
    views: list[ViewAnswer] = Field(description="temporal views in order, each with its crops")


class EmbeddingAnswer(ResponsePart):
    """The video token, averaged over the views: what the extractor makes of the clip."""

    width: int = Field(description="how many numbers it has", examples=[384])
    normalised: bool = Field(description="whether its length is 1", examples=[True])
    values: list[float] | None = Field(
        description="its numbers; null with encoding=base64", examples=[[0.031, -0.112, 0.024]]
    )
    base64: str | None = Field(
        description="with encoding=base64 the bytes of the numbers, float32, little-endian",
        examples=[None],
    )


class Classification(ResponsePart):
    """The answer of ``POST /classify`` and ``POST /embed``."""

    labels: list[LabelScore] = Field(description="best first")
    unknown: bool | None = Field(
        description="whether nothing happens that the bundle has a label for, as far as it can "
        "tell; null where it cannot",
        examples=[False],
    )
    sparsity: SparsityAnswer
    tokens: TokensAnswer
    macs: int = Field(
        description="multiply-accumulates of selector and extractor, all views and all steps of a "
        "cascade together; without what the cache spared",
        examples=[412_345_678],
    )
    coverage: CoverageAnswer | None = Field(description="of sparsity=auto")
    loss: LossAnswer | None = Field(
        description="of max_loss: of what it chose, before a budget or a busy service went sparser"
    )
    budget: BudgetAnswer | None = Field(description="of budget_ms")
    cascade: CascadeAnswer | None = Field(description="of cascade=true")
    explanation: ExplanationAnswer | None = Field(description="of explain=true")
    embedding: EmbeddingAnswer | None = Field(description="of embedding=true, and of `/embed`")
    cache: CacheUse = Field(
        description="what was known of this clip: `hit` all, `partial` all but the extractor's "
        "answer, `miss` nothing; `off` when there is no cache or the request passed it by",
        examples=["off"],
    )
    timing: TimingAnswer
    clip: ClipAnswer
    bundle: BundleAnswer
    request_id: str = Field(examples=["9f86d081884c4d65a2feaa0c55ad015a"])


class Agreement(ResponsePart):
    """With the densest sparsity of the same sweep."""

    top1: bool = Field(description="the best label is the same", examples=[True])
    overlap: float = Field(
        ge=0,
        le=1,
        description="of the two answers' scores: the sum over all labels of the lesser; of labels "
        "that do not exclude each other, as a share of the sum of the greater",
        examples=[0.97],
    )


class SweepPoint(ResponsePart):
    asked: float = Field(examples=[0.92])
    used: float = Field(description="the level that was used", examples=[0.9])
    tokens: int = Field(description="kept, all views together", examples=[102])
    within_range: bool = Field(
        description="whether the level lies in the range that the bundle is meant for",
        examples=[True],
    )
    note: str | None = Field(
        description="where it does not: what that range rests on", examples=[None]
    )
    labels: list[LabelScore] = Field(description="best first")
    unknown: bool | None = Field(description="as in a classification", examples=[False])
    agreement: Agreement
    macs: int = Field(
        description="multiply-accumulates of the extractor, all views together; the selector's, "
        "which all points share, are in the sum alone",
        examples=[314_000_000],
    )
    extract_seconds: float = Field(
        description="of the extractor, without waiting; 0 for what the cache had", examples=[0.005]
    )


# Of answers with several extractions.
MacsOfAll = Annotated[
    int,
    Field(
        description="multiply-accumulates of the selector, once, and of all extractions",
        examples=[1_234_567_890],
    ),
]
CacheAsBefore = Annotated[CacheUse, Field(description="as in a classification", examples=["off"])]


class Sweep(ResponsePart):
    """The answer of ``POST /sweep``."""

    points: list[SweepPoint] = Field(description="in the order asked")
    tokens: SweepTokens
    explanation: ExplanationAnswer | None = Field(
        description="of explain=true; of all points together"
    )
    macs: MacsOfAll
    cache: CacheAsBefore
    timing: TimingAnswer
    clip: ClipAnswer
    bundle: BundleAnswer
    request_id: str = Field(examples=["9f86d081884c4d65a2feaa0c55ad015a"])


class ExplainedPoint(ResponsePart):
    """An extraction, and what came out of it."""

    used: float = Field(description="the level", examples=[0.9])
    tokens: int = Field(description="kept, all views together", examples=[102])
    within_range: bool = Field(
        description="whether the level lies in the range that the bundle is meant for",
        examples=[True],
    )
    note: str | None = Field(
        description="where it does not: what that range rests on", examples=[None]
    )
    labels: list[LabelScore] = Field(description="best first")
    unknown: bool | None = Field(description="as in a classification", examples=[False])


class Explained(ResponsePart):
    """The answer of ``POST /explain`` in JSON."""

    points: list[ExplainedPoint] = Field(
        description="an entry for each of the explanation's extractions, in their order; the last "
        "of one sparsity is the answer"
    )
    tokens: SweepTokens
    explanation: ExplanationAnswer | None
    macs: MacsOfAll
    cache: CacheAsBefore
    timing: TimingAnswer
    clip: ClipAnswer
    bundle: BundleAnswer
    request_id: str = Field(examples=["9f86d081884c4d65a2feaa0c55ad015a"])


class Health(ResponsePart):
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


class ProblemDescription(ResponsePart):
    """The answer of ``GET /problems/{code}``."""

    code: str
    title: str
    status: int
    advice: str
