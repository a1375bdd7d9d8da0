"""The parameters of a request: the same names in the query and as form fields."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bundle.sampling import Views
from service.errors import (
    ConflictingParameter,
    ContradictoryParameters,
    InvalidParameter,
    UnknownParameter,
)

AUTO: Literal["auto"] = "auto"

HIGHEST_SPARSITY = 0.99
DEFAULT_TOP = 5
# Below a thousandth, every clip gets the sparsest level whatever it shows.
LOWEST_COVERAGE = 0.001
# Both by benchmarks/control.py with the built-in bundle; see docs/control.md.
DEFAULT_COVERAGE = 0.7
MAX_BUDGET_MS = 3_600_000
DEFAULT_MARGIN = 0.7
MAX_SWEEP = 16
# Dense, and the sparsities that are of interest for a selector: those of the README's table.
DEFAULT_SWEEP = (0.0, 0.5, 0.7, 0.9, 0.95)

_DECIMAL = re.compile(r"[0-9]*\.?[0-9]+([eE][+-]?[0-9]{1,2})?", re.ASCII)
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a classification may be told.

    Attributes:
        sparsity: None when nobody asked; `auto` chooses by ``coverage``.
        coverage: share of the selector's mass, None unless sparsity is `auto`.
        budget_ms: milliseconds from the last byte of the body to the answer, None without.
        margin: between the first two labels, None unless it is a cascade.
        max_sparsity: the sparsest that the answer may be, None when nobody said.
        strict: never served sparser than asked because there is much to do.
    """

    sparsity: float | Literal["auto"] | None
    top: int
    views: Views
    coverage: float | None = None
    budget_ms: float | None = None
    margin: float | None = None
    max_sparsity: float | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class SweepParameters:
    """What a sweep may be told; ``sparsities`` in the order asked, without repetitions."""

    sparsities: tuple[float, ...]
    top: int
    views: Views


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the service allows of a request; see the settings of the same names."""

    max_views: int
    max_top: int

    @property
    def default_top(self) -> int:
        return min(DEFAULT_TOP, self.max_top)


CLASSIFY_NAMES = ("sparsity", "coverage", "budget_ms", "cascade", "margin", "max_sparsity",
                  "strict", "top", "views")  # fmt: skip
SWEEP_NAMES = ("sparsities", "top", "views")


def collect(pairs: Iterable[tuple[str, str]], names: tuple[str, ...]) -> dict[str, str]:
    """Check the names, and that what is given more than once is the same each time.

    Raises:
        UnknownParameter, ConflictingParameter.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in names:
            raise UnknownParameter(name, list(names))
        if not _same(found.setdefault(name, value), value):
            raise ConflictingParameter(name)
    return found


def _same(one: str, other: str) -> bool:
    if (number := _number(one)) is not None:
        return number == _number(other)
    return one.lower() == other.lower()


def parse(texts: Mapping[str, str], default_views: str, bounds: Bounds) -> Parameters:
    """Read the values of a classification's parameters.

    Raises:
        InvalidParameter: names the parameter and what it accepts.
        ContradictoryParameters: each value is accepted, but not all of them together.
    """
    sparsity = _sparsity(texts["sparsity"]) if "sparsity" in texts else None
    cascade = "cascade" in texts and _boolean("cascade", texts["cascade"])
    strict = "strict" in texts and _boolean("strict", texts["strict"])
    coverage = _coverage(texts["coverage"]) if "coverage" in texts else None
    margin = _margin(texts["margin"]) if "margin" in texts else None
    max_sparsity = (
        _ratio("max_sparsity", texts["max_sparsity"]) if "max_sparsity" in texts else None
    )
    if coverage is not None and sparsity != AUTO:
        raise ContradictoryParameters("coverage", "sparsity", "coverage needs sparsity=auto")
    if margin is not None and not cascade:
        raise ContradictoryParameters("margin", "cascade", "margin needs cascade=true")
    if cascade and sparsity == AUTO:
        raise ContradictoryParameters(
            "cascade",
            "sparsity",
            "a cascade goes denser by its answers, sparsity=auto chooses once by the selector's "
            "scores; ask for one of them",
        )
    if strict and max_sparsity is not None:
        raise ContradictoryParameters(
            "strict",
            "max_sparsity",
            "max_sparsity allows what strict=true forbids, to be served sparser than asked",
        )
    return Parameters(
        sparsity=sparsity,
        top=_top(texts, bounds),
        views=_views(texts.get("views", default_views), bounds.max_views),
        coverage=(DEFAULT_COVERAGE if coverage is None else coverage) if sparsity == AUTO else None,
        budget_ms=_budget(texts["budget_ms"]) if "budget_ms" in texts else None,
        margin=(DEFAULT_MARGIN if margin is None else margin) if cascade else None,
        max_sparsity=max_sparsity,
        strict=strict,
    )


def parse_sweep(texts: Mapping[str, str], default_views: str, bounds: Bounds) -> SweepParameters:
    """Read the values of a sweep's parameters.

    Raises:
        InvalidParameter: names the parameter and what it accepts.
    """
    return SweepParameters(
        sparsities=_sparsities(texts["sparsities"]) if "sparsities" in texts else DEFAULT_SWEEP,
        top=_top(texts, bounds),
        views=_views(texts.get("views", default_views), bounds.max_views),
    )


def _number(text: str) -> float | None:
    # A pattern, because float() also takes "nan", "1_0", and digits of other scripts.
    return float(text) if _DECIMAL.fullmatch(text) else None


def _sparsity(text: str) -> float | Literal["auto"]:
    if text == AUTO:
        return AUTO
    value = _number(text)
    if value is not None and 0.0 <= value <= HIGHEST_SPARSITY:
        return value
    raise InvalidParameter("sparsity", text, f"a number from 0 to {HIGHEST_SPARSITY}, or auto")


def _ratio(name: str, text: str) -> float:
    value = _number(text)
    if value is not None and 0.0 <= value <= HIGHEST_SPARSITY:
        return value
    raise InvalidParameter(name, text, f"a number from 0 to {HIGHEST_SPARSITY}")


def _coverage(text: str) -> float:
    value = _number(text)
    if value is not None and LOWEST_COVERAGE <= value <= 1.0:
        return value
    raise InvalidParameter("coverage", text, f"a number from {LOWEST_COVERAGE} to 1")


def _margin(text: str) -> float:
    value = _number(text)
    if value is not None and 0.0 <= value <= 1.0:
        return value
    raise InvalidParameter("margin", text, "a number from 0 to 1")


def _budget(text: str) -> float:
    value = _number(text)
    if value is not None and 1.0 <= value <= MAX_BUDGET_MS:
        return value
    raise InvalidParameter("budget_ms", text, f"milliseconds from 1 to {MAX_BUDGET_MS}")


def _boolean(name: str, text: str) -> bool:
    # Python writes True.
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    raise InvalidParameter(name, text, "true or false")


def _sparsities(text: str) -> tuple[float, ...]:
    values = [_number(part) for part in text.split(",")[: MAX_SWEEP + 1]]
    found = [value for value in values if value is not None and 0.0 <= value <= HIGHEST_SPARSITY]
    if len(found) == len(values) <= MAX_SWEEP:
        return tuple(dict.fromkeys(found))
    raise InvalidParameter(
        "sparsities",
        text,
        f"1 to {MAX_SWEEP} numbers from 0 to {HIGHEST_SPARSITY}, separated by commas",
    )


def _top(texts: Mapping[str, str], bounds: Bounds) -> int:
    if (text := texts.get("top")) is None:
        return bounds.default_top
    if re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) and 1 <= (value := int(text)) <= bounds.max_top:
        return value
    raise InvalidParameter("top", text, f"a whole number from 1 to {bounds.max_top}")


def _views(text: str, max_views: int) -> Views:
    limit = (
        "TEMPORALxSPATIAL, such as 1x1 or 4x3, with 1 or 3 spatial views and at most "
        f"{max_views} in all"
    )
    try:
        views = Views.parse(text)
    except ValueError:
        raise InvalidParameter("views", text, limit) from None
    if views.count > max_views:
        raise InvalidParameter("views", text, limit)
    return views
