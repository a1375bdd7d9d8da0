"""The parameters of a request, each declared once: type, bounds, default, text and examples.

The same names are taken from the query and from form fields. :mod:`service.sparsity.reading` turns
their texts into one of the models here, and describes them for the OpenAPI document.
"""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from bundle.sampling import SPATIAL_VIEWS, Span, Views
from service.errors import ContradictoryParameters

AUTO: Literal["auto"] = "auto"

HIGHEST_SPARSITY = 0.99
DEFAULT_TOP = 5
# Below a thousandth, every clip gets the sparsest level whatever it shows.
LOWEST_COVERAGE = 0.001
# Both by benchmarks/control.py with the built-in bundle; see docs/control.md.
DEFAULT_COVERAGE = 0.7
DEFAULT_MARGIN = 0.7
MAX_BUDGET_MS = 3_600_000
MAX_LOSS = 100
MAX_SWEEP = 16
# Eleven days: beyond any clip that a service may allow.
MAX_SECONDS = 1_000_000
# Dense, and the sparsities that are of interest for a selector: those of the README's table.
DEFAULT_SWEEP = (0.0, 0.5, 0.7, 0.9, 0.95)

_DECIMAL = re.compile(r"[0-9]*\.?[0-9]+([eE][+-]?[0-9]{1,2})?", re.ASCII)
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a parameter accepts, in the words of a problem's `limit`."""

    text: str


def number(value: object) -> object:
    # A pattern, because float() also takes "nan", "1_0", and digits of other scripts.
    if not isinstance(value, str):
        return value
    if _DECIMAL.fullmatch(value) is None:
        raise ValueError("it is not a decimal number")
    return float(value)


def _number_or_auto(value: object) -> object:
    return value if value == AUTO else number(value)


def _boolean(value: object) -> object:
    # Python writes True.
    return _TRUTH.get(value.lower(), value) if isinstance(value, str) else value


def whole_number(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,6}", value, re.ASCII):
        raise ValueError("it is not a whole number")
    return value


def _numbers(value: object) -> object:
    # One more than the most is enough to refuse the list.
    return value.split(",")[: MAX_SWEEP + 1] if isinstance(value, str) else value


def views_of(value: object) -> object:
    return Views.parse(value) if isinstance(value, str) else value


def _each_once(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(values))


_Ratio = Annotated[float, Field(ge=0, le=HIGHEST_SPARSITY), BeforeValidator(number)]
Boolean = Annotated[Literal[True, False], BeforeValidator(_boolean), Accepts("true or false"),
                     WithJsonSchema({"type": "boolean"})]  # fmt: skip


_Sparsities = Annotated[
    tuple[_Ratio, ...],
    Field(min_length=1, max_length=MAX_SWEEP),
    AfterValidator(_each_once),
    BeforeValidator(_numbers),
    WithJsonSchema({"type": "string"}),
]
_SOME_SPARSITIES = Accepts(
    f"1 to {MAX_SWEEP} numbers from 0 to {HIGHEST_SPARSITY}, separated by commas"
)
_Seconds = Annotated[
    Annotated[float, Field(ge=0, le=MAX_SECONDS), BeforeValidator(number)] | None,
    Accepts(f"seconds from 0 to {MAX_SECONDS}"),
]
Format = Literal["json", "png", "jpeg", "mp4"]
Encoding = Literal["list", "base64"]

# Of whatever answers in JSON.
_Explain = Annotated[
    Boolean,
    Field(
        description="Say in `explanation` which tokens were kept: when and where in the clip, with "
        "which scores, and how they spread over time. False when it is not given.",
        examples=[True],
    ),
]


class ClipParameters(BaseModel):
    """What all requests about a clip may say; a service's own bounds are added in reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Parameters that one kind of request does not take, although those that it is made of do.
    left_out: ClassVar[frozenset[str]] = frozenset()

    top: Annotated[int, BeforeValidator(whole_number)] = DEFAULT_TOP
    views: Annotated[Views, BeforeValidator(views_of), WithJsonSchema({})] = Views(1, 1)

    start: _Seconds = Field(
        None,
        description="Look at the clip from there on: seconds after its first frame is shown, by "
        "the frames' time stamps. 0 when it is not given.",
        examples=[0.5],
    )
    end: _Seconds = Field(
        None,
        description="Look at the clip up to there, in the same seconds; later than `start`. The "
        "clip's own end when it is not given, or when the clip ends before.",
        examples=[1.5],
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end is not None and self.end <= self.span.start:
            given = "0, which it is when it is not given" if self.start is None else "it"
            raise ContradictoryParameters(
                "end",
                "start",
                f"end must be later than start, and {self.end:g} is not after {given}",
            )
        return self

    @property
    def span(self) -> Span:
        """The part of the clip that is looked at."""
        return Span(self.start or 0.0, self.end)

    @property
    def explains(self) -> bool:
        """Whether the answer says what was kept."""
        return False

    @property
    def drawing(self) -> Literal["png", "jpeg", "mp4"] | None:
        """What is drawn of what was kept, if anything is."""
        return None


class ChoiceParameters(ClipParameters):
    """What a request may say that lets the service choose the sparsity, or names it."""

    sparsity: Annotated[
        Annotated[float, Field(ge=0, le=HIGHEST_SPARSITY)] | Literal["auto"] | None,
        BeforeValidator(_number_or_auto),
        Accepts(f"a number from 0 to {HIGHEST_SPARSITY}, or auto"),
        # Text for both, because neither pages nor most generators have a field for either.
        WithJsonSchema({"type": "string", "pattern": f"^({AUTO}|0|0?\\.[0-9]+)$"}),
    ] = Field(
        None,
        description=f"Share of the tokens to drop, from 0 to {HIGHEST_SPARSITY}: 0.9 keeps a "
        "tenth. When it is not given, the bundle's default. The nearest level that is not sparser "
        "is used; see /model. `auto` keeps as many as the clip needs for `coverage`.",
        examples=["0.9", AUTO],
    )
    max_loss: Annotated[
        Annotated[float, Field(ge=0, le=MAX_LOSS), BeforeValidator(number)] | None,
        Accepts(f"percentage points from 0 to {MAX_LOSS}"),
    ] = Field(
        None,
        description="In the place of `sparsity`: the sparsest level that lost at most this many "
        "percentage points of top-1 against the best one, by what was measured on held-out clips "
        "of the bundle's own data (`accuracy` of /model). Not with cascade=true.",
        examples=[2],
    )
    coverage: Annotated[
        Annotated[float, Field(ge=LOWEST_COVERAGE, le=1), BeforeValidator(number)] | None,
        Accepts(f"a number from {LOWEST_COVERAGE} to 1"),
    ] = Field(
        None,
        description="Only with sparsity=auto: the share of the selector's mass that the tokens "
        "kept have to hold, within the range of sparsities that was trained; "
        f"{DEFAULT_COVERAGE:g} when it is not given.",
        examples=[DEFAULT_COVERAGE],
    )
    budget_ms: Annotated[
        Annotated[float, Field(ge=1, le=MAX_BUDGET_MS), BeforeValidator(number)] | None,
        Accepts(f"milliseconds from 1 to {MAX_BUDGET_MS}"),
    ] = Field(
        None,
        description="Milliseconds from the last byte of the body to the answer: the densest "
        "level that is predicted to fit is used, never a denser one than `sparsity` asks for, and "
        "the sparsest when none fits.",
        examples=[50],
    )
    cascade: Boolean = Field(
        False,
        description="Start sparse, and look at more tokens while the first two labels are "
        "closer than `margin`; never at more than `sparsity` says. Not with sparsity=auto. False "
        "when it is not given.",
        examples=[True],
    )
    margin: Annotated[
        Annotated[float, Field(ge=0, le=1), BeforeValidator(number)] | None,
        Accepts("a number from 0 to 1"),
    ] = Field(
        None,
        description="Only with cascade=true: the difference between the first two scores that "
        f"is enough; {DEFAULT_MARGIN:g} when it is not given.",
        examples=[DEFAULT_MARGIN],
    )
    max_sparsity: Annotated[_Ratio | None, Accepts(f"a number from 0 to {HIGHEST_SPARSITY}")] = (
        Field(
            None,
            description="The sparsest that the answer may be. Allows to be served sparser than "
            "asked while there is much to do, rather than to be refused. Not less than `sparsity`, "
            "and not with strict=true.",
            examples=[0.95],
        )
    )
    strict: Boolean = Field(
        False,
        description="Be refused rather than served sparser because the service is busy, also where "
        "the service does that by default. A `budget_ms` may still choose a sparser level. False "
        "when it is not given.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Values that are each accepted may still contradict each other.

        Raises:
            ContradictoryParameters: it passes through pydantic as it is.
        """
        if self.max_loss is not None and self.sparsity is not None:
            raise ContradictoryParameters(
                "max_loss",
                "sparsity",
                "max_loss chooses the sparsity by what it costs; ask for one of them",
            )
        if self.max_loss is not None and self.cascade:
            raise ContradictoryParameters(
                "max_loss",
                "cascade",
                "a cascade looks sparser than max_loss allows first; ask for one of them",
            )
        if self.coverage is not None and self.sparsity != AUTO:
            raise ContradictoryParameters("coverage", "sparsity", "coverage needs sparsity=auto")
        if self.margin is not None and not self.cascade:
            raise ContradictoryParameters("margin", "cascade", "margin needs cascade=true")
        if self.cascade and self.sparsity == AUTO:
            raise ContradictoryParameters(
                "cascade",
                "sparsity",
                "a cascade goes denser by its answers, sparsity=auto chooses once by the "
                "selector's scores; ask for one of them",
            )
        if self.strict and self.max_sparsity is not None:
            raise ContradictoryParameters(
                "strict",
                "max_sparsity",
                "max_sparsity allows what strict=true forbids, to be served sparser than asked",
            )
        return self

    @property
    def wanted_coverage(self) -> float | None:
        """Share of the selector's mass that `auto` has to reach; None without `auto`."""
        if self.sparsity != AUTO:
            return None
        return DEFAULT_COVERAGE if self.coverage is None else self.coverage

    @property
    def wanted_margin(self) -> float | None:
        """Lead of the first label that is enough for a cascade; None without a cascade."""
        if not self.cascade:
            return None
        return DEFAULT_MARGIN if self.margin is None else self.margin

    @property
    def proposes(self) -> bool:
        """Whether the selector's scores choose what is looked at at all."""
        return False


class EmbedParameters(ChoiceParameters):
    """What may be told to what answers with the clip's embedding."""

    normalise: Annotated[Boolean | None, Accepts("true or false")] = Field(
        None,
        description="Divide the embedding by its length, so that the product of two is the cosine "
        "between them. True when it is not given.",
        examples=[False],
    )
    encoding: Annotated[Encoding | None, Accepts("list or base64")] = Field(
        None,
        description="The embedding's numbers as a `list`, or as the `base64` of their bytes: "
        "float32, little-endian, a quarter of the size. `list` when it is not given.",
        examples=["base64"],
    )

    @property
    def embeds(self) -> bool:
        """Whether the answer has the clip's embedding."""
        return True


class Parameters(EmbedParameters):
    """What a classification may be told."""

    explain: _Explain = False
    embedding: Boolean = Field(
        False,
        description="Give in `embedding` the video token of which the labels are made: clips in "
        "which similar things happen have similar ones. False when it is not given.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _with_embedding(self) -> Self:
        for name in ("normalise", "encoding"):
            if getattr(self, name) is not None and not self.embedding:
                raise ContradictoryParameters(name, "embedding", f"{name} needs embedding=true")
        return self

    @property
    def explains(self) -> bool:
        return self.explain

    @property
    def embeds(self) -> bool:
        return self.embedding


class SweepParameters(ClipParameters):
    """What a sweep may be told; ``sparsities`` in the order asked, without repetitions."""

    sparsities: Annotated[_Sparsities, _SOME_SPARSITIES] = Field(
        DEFAULT_SWEEP,
        description=f"1 to {MAX_SWEEP} sparsities from 0 to {HIGHEST_SPARSITY}, separated by "
        "commas. Of each, the nearest level that is not sparser is used. "
        f"{','.join(f'{sparsity:g}' for sparsity in DEFAULT_SWEEP)} when it is not given.",
        examples=["0,0.5,0.9"],
    )
    explain: _Explain = False

    @property
    def explains(self) -> bool:
        return self.explain


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a service allows of a request, and what it takes where nothing is said.

    ``max_views`` and ``max_top`` are the settings of the same names; ``spatial_views`` are those
    that the bundle's framing has.
    """

    max_views: int
    max_top: int
    default_views: str = "1x1"
    spatial_views: tuple[int, ...] = SPATIAL_VIEWS

    @property
    def default_top(self) -> int:
        return min(DEFAULT_TOP, self.max_top)


class ExplainParameters(ChoiceParameters):
    """What may be told to what explains a selection; ``sparsities`` as a sweep's."""

    sparsities: Annotated[_Sparsities | None, _SOME_SPARSITIES] = Field(
        None,
        description=f"1 to {MAX_SWEEP} sparsities from 0 to {HIGHEST_SPARSITY}, separated by "
        "commas, all of one selection: each is a line of a picture. In the place of `sparsity`, "
        "and of all that lets the service choose one.",
        examples=["0.5,0.9,0.95"],
    )
    format: Annotated[Format, Accepts("json, png, jpeg or mp4")] = Field(
        "json",
        description="`json`; a picture (`png`, `jpeg`) of the views' frames with dropped tokens "
        "darkened, a line for each extraction and view; or `mp4`, the whole clip at the size that "
        "it is displayed at, with what was dropped dimmed. `json` when it is not given.",
        examples=["png"],
    )

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.sparsities is None:
            return self
        for name in ChoiceParameters.model_fields.keys() - ClipParameters.model_fields.keys():
            if getattr(self, name) not in (None, False):
                raise ContradictoryParameters(
                    name, "sparsities", f"sparsities are looked at as they are, without {name}"
                )
        if self.format == "mp4" and len(self.sparsities) > 1:
            raise ContradictoryParameters(
                "format",
                "sparsities",
                "a film shows one sparsity; ask for one of them, or for a picture",
            )
        return self

    @property
    def explains(self) -> bool:
        return True

    @property
    def drawing(self) -> Literal["png", "jpeg", "mp4"] | None:
        return None if self.format == "json" else self.format
