"""What may be asked, as keyword arguments: the parameters of a request under their own names.

The service's documentation says what each means (docs/http.md); it checks them, too.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict


class ClipOptions(TypedDict, total=False):
    """What every request about a clip may say."""

    top: int
    views: str
    start: float
    end: float


class ChoiceOptions(ClipOptions, total=False):
    """What chooses the sparsity."""

    sparsity: float | Literal["auto"]
    max_loss: float
    coverage: float
    budget_ms: float
    cascade: bool
    margin: float
    max_sparsity: float
    strict: bool


class EmbedOptions(ChoiceOptions, total=False):
    """Of ``embed``."""

    normalise: bool
    encoding: Literal["list", "base64"]


class ClassifyOptions(EmbedOptions, total=False):
    """Of ``classify``."""

    embedding: bool
    explain: bool


class SweepOptions(ClipOptions, total=False):
    """Of ``sweep``."""

    sparsities: Sequence[float]
    explain: bool


class ExplainOptions(ChoiceOptions, total=False):
    """Of ``explain`` and ``draw``."""

    sparsities: Sequence[float]


class TimelineOptions(TypedDict, total=False):
    """Of ``timeline``; each window is a clip of one view, without a budget."""

    top: int
    start: float
    end: float
    sparsity: float | Literal["auto"]
    max_loss: float
    coverage: float
    cascade: bool
    margin: float
    max_sparsity: float
    strict: bool
    window: float
    stride: float
    windows: Literal["all", "auto"]
    cuts: bool
    threshold: float
    detail: Literal["segments", "windows"]


def as_query(options: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names and texts, as a query has them; what is None is not said."""
    return [(name, _text(value)) for name, value in options.items() if value is not None]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(_text, value))
    return str(value)
