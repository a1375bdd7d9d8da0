"""``bundle.json``: everything a service must know about a model that is not in its graphs."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bundle.sampling import Views

SCHEMA_VERSION = 1
SELECTOR_FILE = "selector.onnx"
EXTRACTOR_FILE = "extractor.onnx"
MANIFEST_FILE = "bundle.json"

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=0)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class _Part(BaseModel):
    # A field that this version does not know may change the meaning of those it does.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Geometry(_Part):
    """Shape of one view and of what passes between the two graphs."""

    frames: int = Field(ge=2, le=1024, description="T: frames of a view")
    size: int = Field(ge=2, le=4096, description="H = W: side of a view in pixels")
    patch: int = Field(ge=1, le=256, description="side of a token in pixels")
    context: int = Field(ge=1, le=4096, description="P: tokens the selector hands on")
    width: int = Field(ge=1, le=16384, description="D: channels of a token")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.frames % 2:
            raise ValueError(f"frames must be even for the selector's 2x, got {self.frames}")
        if self.size % (2 * self.patch):
            raise ValueError(
                f"size must be a multiple of twice the patch, got {self.size} and {self.patch}"
            )
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """(frames, rows, columns) of tokens."""
        return self.frames, self.size // self.patch, self.size // self.patch

    @property
    def tokens(self) -> int:
        """N: tokens of one view."""
        frames, rows, columns = self.grid
        return frames * rows * columns

    @property
    def patch_bytes(self) -> int:
        return self.patch * self.patch * 3


class Sampling(_Part):
    """How a clip becomes views: uniform frames, short side resized, crops along the long side."""

    short_side: int = Field(ge=2, le=4096, description="pixels of the shorter side after resizing")
    default_views: str = Field(default="1x1", description="TEMPORALxSPATIAL when nobody asks")

    @field_validator("default_views")
    @classmethod
    def _views(cls, text: str) -> str:
        return str(Views.parse(text))


class Normalisation(_Part):
    """What the graphs subtract and divide by, on a 0-1 scale; for the record only."""

    mean: Channels
    std: Channels


class SparsityRange(_Part):
    """The sparsities seen in training, and the one used when nobody asks."""

    lowest: Share
    highest: Share
    default: Share

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest > self.highest:
            raise ValueError(f"lowest sparsity {self.lowest} exceeds highest {self.highest}")
        return self


class Macs(_Part):
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


class AccuracyPoint(_Part):
    """Top-1 on held-out clips at one sparsity, as measured by the evaluation."""

    sparsity: Share
    top1: float = Field(ge=0.0, le=1.0)
    clips: int = Field(ge=1)
    recall: float | None = Field(
        default=None, ge=0.0, le=1.0, description="share of the truly moving tokens that were kept"
    )


class Provenance(_Part):
    """Where the weights come from, enough to make them again."""

    recipe: str
    seed: int
    commit: str
    data: str
    parameters: int = Field(ge=1)
    clips_seen: Count = 0
    exported_with: str = ""


class FileDigest(_Part):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)


class Manifest(_Part):
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
    sparsity: SparsityRange
    macs: Macs
    accuracy: list[AccuracyPoint] = Field(max_length=1000)
    provenance: Provenance
    files: dict[str, FileDigest]

    @field_validator("schema_version")
    @classmethod
    def _known(cls, version: int) -> int:
        if version != SCHEMA_VERSION:
            raise ValueError(f"this release reads schema version {SCHEMA_VERSION}, got {version}")
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
        if set(files) != {SELECTOR_FILE, EXTRACTOR_FILE}:
            raise ValueError(
                f"files must be exactly {SELECTOR_FILE} and {EXTRACTOR_FILE}, got {sorted(files)}"
            )
        return files

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.sampling.short_side < self.geometry.size:
            raise ValueError(
                f"sampling.short_side {self.sampling.short_side} is smaller than the view's "
                f"geometry.size {self.geometry.size}"
            )
        return self
