"""``bundle.json``: everything a service must know about a model that is not in its graphs.

Version 2 knows more networks than version 1: tubelets, other samplings and framings, no context,
other selectors and answers. A document of version 1 means what it always meant, and a field that
came later is refused in it: an older release would not know of it.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from bundle.answers import AnswerFacts
from bundle.part import ManifestPart, Probability, Share
from bundle.sampling import Framing, SamplingKind, Views, spatial_choices
from bundle.versions import later_fields, without_later_fields

# What this release writes, and what it reads.
SCHEMA_VERSION = 2
SCHEMA_VERSIONS = (1, 2)

SELECTOR_FILE = "selector.onnx"
EXTRACTOR_FILE = "extractor.onnx"
GRAPH_FILES = (SELECTOR_FILE, EXTRACTOR_FILE)
# What a graph over protobuf's 2 GiB keeps outside itself.
SELECTOR_WEIGHTS_FILE = "selector.weights"
EXTRACTOR_WEIGHTS_FILE = "extractor.weights"
WEIGHTS_FILES = {SELECTOR_FILE: SELECTOR_WEIGHTS_FILE, EXTRACTOR_FILE: EXTRACTOR_WEIGHTS_FILE}
MANIFEST_FILE = "bundle.json"

SelectorKind = Literal["learned", "change", "group", "unique", "random"]
RangeBasis = Literal["trained", "untuned", "tuned"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]

Count = Annotated[int, Field(ge=0)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class Geometry(ManifestPart):
    """Shape of one view and of what passes between the two graphs."""

    frames: int = Field(ge=2, le=1024, description="T: frames of a view")
    size: int = Field(ge=2, le=4096, description="H = W: side of a view in pixels")
    patch: int = Field(ge=1, le=256, description="side of a token in pixels")
    tubelet: int = Field(default=1, ge=1, le=64, description="frames of a token")
    context: int = Field(
        ge=0,
        le=4096,
        description="P: tokens that the selector hands on; with 0 neither graph has a context",
    )
    width: int = Field(ge=1, le=16384, description="D: channels of a token")
    video_width: int | None = Field(
        default=None, ge=1, le=65536, description="channels of the video's own vector; null is D"
    )
    frame_tokens: int = Field(
        default=0, ge=0, le=1024, description="vectors of single frames that the extractor gives"
    )

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.frames % self.tubelet:
            raise ValueError(
                f"frames must be a multiple of the tubelet, got {self.frames} and {self.tubelet}"
            )
        if self.size % self.patch:
            raise ValueError(
                "size must be a multiple of the patch, and in version 1 a multiple of twice the "
                f"patch, got {self.size} and {self.patch}"
            )
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """(frames, rows, columns) of tokens."""
        return self.frames // self.tubelet, self.size // self.patch, self.size // self.patch

    @property
    def tokens(self) -> int:
        """N: tokens of one view."""
        frames, rows, columns = self.grid
        return frames * rows * columns

    @property
    def patch_bytes(self) -> int:
        """Values of a token: frames of the tubelet, rows, columns and channels."""
        return self.tubelet * self.patch * self.patch * 3

    @property
    def video(self) -> int:
        """Channels of the video's own vector."""
        return self.video_width or self.width


class Sampling(ManifestPart):
    """How a clip becomes views: which frames, and which part of their picture."""

    kind: SamplingKind = "uniform"
    stride: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="dense only: source frames from one sampled frame to the next",
    )
    short_side: int = Field(
        ge=2,
        le=4096,
        description="pixels of the shorter side after resizing, of which a crop shows a square; "
        "the view's own size where the whole picture is shown",
    )
    framing: Framing = "crop"
    default_views: str = Field(default="1x1", description="TEMPORALxSPATIAL when nobody asks")

    @field_validator("default_views")
    @classmethod
    def _views(cls, text: str) -> str:
        return str(Views.parse(text))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "dense" and self.stride is None:
            raise ValueError("dense sampling needs a stride")
        if self.kind == "uniform" and self.stride is not None:
            raise ValueError("stride is for dense sampling, and kind is uniform")
        allowed = spatial_choices(self.framing)
        if Views.parse(self.default_views).spatial not in allowed:
            raise ValueError(
                f"framing {self.framing} shows the whole picture: default_views has 1 spatial "
                f"view, got {self.default_views}"
            )
        return self


class Normalisation(ManifestPart):
    """What the graphs subtract and divide by, on a 0-1 scale; for the record only."""

    mean: Channels
    std: Channels


class Downscale(ManifestPart):
    """By how much smaller a clip is for the selector than for the extractor."""

    time: Literal[1, 2] = 2
    space: Literal[1, 2] = 2

    def shape(self, geometry: Geometry) -> tuple[int, int, int, int]:
        """(T, H, W, 3) of a view as the selector sees it."""
        side = geometry.size // self.space
        return geometry.frames // self.time, side, side, 3

    def tokens(self, geometry: Geometry) -> int:
        """Tokens of a view as the selector sees it, at least 1."""
        return max(1, geometry.tokens // (self.time * self.space * self.space))


class SelectorFacts(ManifestPart):
    """What kind of selector it is, and what it looks at.

    ``learned`` was trained; the others are arithmetic on pixels: ``change`` prefers what changes
    from frame to frame, ``group`` keeps the same share of each group of frames, ``unique`` prefers
    what differs most from everything else, ``random`` is what every other is compared with.
    """

    kind: SelectorKind = "learned"
    downscale: Downscale = Downscale()


class SparsityRange(ManifestPart):
    """The sparsities that a bundle is meant for, and the one used when nobody asks.

    ``basis`` is what the range rests on: the sparsities seen in training (``trained``) or in a
    short tuning of a dense network (``tuned``), or nothing but what is published of networks like
    this one (``untuned``).
    """

    lowest: Share
    highest: Share
    default: Share
    basis: RangeBasis = "trained"

    def includes(self, sparsity: float) -> bool:
        """Whether a sparsity lies in the range; a last binary digit does not count."""
        return self.lowest - 1e-9 <= sparsity <= self.highest + 1e-9

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest > self.highest:
            raise ValueError(f"lowest sparsity {self.lowest} exceeds highest {self.highest}")
        return self


class Macs(ManifestPart):
    """Multiply-accumulates of one view, exact for every K: attention makes them quadratic in K."""

    selector: Count
    extractor_fixed: Count
    extractor_per_token: Count
    extractor_per_token_pair: Count

    def at(self, kept: int) -> int:
        """Selector and extractor together for one view that keeps ``kept`` tokens."""
        return (
            self.selector
            + self.extractor_fixed
            + self.extractor_per_token * kept
            + self.extractor_per_token_pair * kept * kept
        )


class AccuracyPoint(ManifestPart):
    """Top-1 on held-out clips at one sparsity, as measured by the evaluation."""

    sparsity: Share
    top1: Probability
    clips: int = Field(ge=1)
    top5: Probability | None = None
    recall: Probability | None = Field(
        default=None, description="share of the truly moving tokens that were kept"
    )
    precision: Precision = "fp32"
    agreement: Probability | None = Field(
        default=None, description="share of the clips answered as in fp32 at the same sparsity"
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=1000,
        description="models of the same recipe that each left some of the clips out and were "
        "measured on those; null where the bundle's own weights were measured",
    )


class Rival(ManifestPart):
    """What else the same cost buys, measured on the same clips: fewer frames, for instance."""

    name: str = Field(min_length=1, max_length=200)
    macs: Count
    top1: Probability
    clips: int = Field(ge=1)


class Licence(ManifestPart):
    """What the weights may be used for; ``commercial`` is null where that is not known."""

    name: str = Field(min_length=1, max_length=200)
    url: str | None = Field(default=None, max_length=2000)
    commercial: bool | None = None
    attribution: str = Field(default="", max_length=2000)


class WeightsSource(ManifestPart):
    """The published file that the weights were read from: a hub's id, an address or a name."""

    place: str = Field(min_length=1, max_length=2000)
    revision: str | None = Field(default=None, max_length=200)
    file: str = Field(min_length=1, max_length=500)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Provenance(ManifestPart):
    """Where the weights come from, enough to make them again."""

    recipe: str
    seed: int | None = None
    commit: str
    data: str
    parameters: int = Field(ge=1)
    clips_seen: Count = 0
    exported_with: str = ""
    source: WeightsSource | None = None
    network: dict[str, JsonValue] | None = Field(
        default=None, description="the configuration of a published network, as networks/ has it"
    )


class FileDigest(ManifestPart):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)


class Manifest(ManifestPart):
    """The whole of ``bundle.json``."""

    schema_version: int
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    version: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")
    labels: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        min_length=2, max_length=100_000
    )
    geometry: Geometry
    sampling: Sampling
    normalisation: Normalisation
    selector: SelectorFacts = SelectorFacts()
    answer: AnswerFacts = AnswerFacts()
    sparsity: SparsityRange
    macs: Macs
    accuracy: list[AccuracyPoint] = Field(max_length=1000)
    rivals: list[Rival] = Field(default=[], max_length=1000)
    licence: Licence | None = None
    provenance: Provenance
    files: dict[str, FileDigest]

    @field_validator("schema_version")
    @classmethod
    def _known(cls, version: int) -> int:
        if version not in SCHEMA_VERSIONS:
            known = " or ".join(map(str, SCHEMA_VERSIONS))
            raise ValueError(f"this release reads schema version {known}, got {version}")
        return version

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: list[str]) -> list[str]:
        if len(set(labels)) != len(labels):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            raise ValueError(f"labels must be distinct, found twice: {', '.join(twice[:5])}")
        return labels

    @field_validator("files")
    @classmethod
    def _both_graphs(cls, files: dict[str, FileDigest]) -> dict[str, FileDigest]:
        required, weights = set(GRAPH_FILES), set(WEIGHTS_FILES.values())
        if not required <= set(files) <= required | weights:
            raise ValueError(
                f"files must be exactly {SELECTOR_FILE} and {EXTRACTOR_FILE}, and beside them only "
                f"{' or '.join(sorted(weights))}, got {sorted(files)}"
            )
        return files

    @model_validator(mode="after")
    def _is_of_its_version(self) -> Self:
        if self.schema_version != 1:
            return self
        if later := [*later_fields(self), *sorted(set(WEIGHTS_FILES.values()) & set(self.files))]:
            raise ValueError(f"{later[0]} came with schema version 2, and schema_version is 1")
        geometry = self.geometry
        if geometry.context < 1:
            raise ValueError("geometry.context may be 0 from schema version 2 on, got version 1")
        if self.provenance.seed is None:
            raise ValueError("provenance.seed may be left out from schema version 2 on")
        if geometry.size % (2 * geometry.patch):
            raise ValueError(
                "geometry: size must in version 1 be a multiple of twice the patch, "
                f"got {geometry.size} and {geometry.patch}"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        geometry, sampling, smaller = self.geometry, self.sampling, self.selector.downscale
        if geometry.frames % smaller.time:
            raise ValueError(
                f"geometry: frames must be even for the selector's 2x, got {geometry.frames}"
            )
        if geometry.size % smaller.space:
            raise ValueError(
                f"geometry: size must be even for the selector's 2x, got {geometry.size}"
            )
        if sampling.framing == "crop" and sampling.short_side < geometry.size:
            raise ValueError(
                f"sampling.short_side {sampling.short_side} is smaller than the view's "
                f"geometry.size {geometry.size}"
            )
        if sampling.framing != "crop" and sampling.short_side != geometry.size:
            raise ValueError(
                f"sampling.short_side must be geometry.size {geometry.size} where framing is "
                f"{sampling.framing}, got {sampling.short_side}"
            )
        known = self.answer.known
        if known is not None and len(known.weights) != geometry.video:
            raise ValueError(
                f"answer.known.weights must be one for each of the {geometry.video} channels of "
                f"the video's vector, got {len(known.weights)}"
            )
        thresholds = self.answer.thresholds
        if thresholds is not None and len(thresholds) != len(self.labels):
            raise ValueError(
                f"answer.thresholds must be one for each of the {len(self.labels)} labels, got "
                f"{len(thresholds)}"
            )
        return self

    @model_serializer(mode="wrap")
    def _in_its_version(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the fields that this document's version does not have."""
        document: dict[str, Any] = serialize(self)
        return without_later_fields(document) if self.schema_version == 1 else document
