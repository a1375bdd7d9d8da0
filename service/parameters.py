"""The parameters of a classification: the same names in the query and as form fields."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bundle.sampling import Views
from service.errors import ConflictingParameter, InvalidParameter, UnknownParameter

NAMES = ("sparsity", "top", "views")
HIGHEST_SPARSITY = 0.99
MAX_TOP = 1000
DEFAULT_TOP = 5

_DECIMAL = re.compile(r"[0-9]*\.?[0-9]+([eE]-?[0-9]{1,2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parameters:
    """``sparsity`` is None when nobody asked."""

    sparsity: float | None
    top: int
    views: Views


def collect(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Check the names, and that what is given more than once is the same each time.

    Raises:
        UnknownParameter, ConflictingParameter.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in NAMES:
            raise UnknownParameter(name, list(NAMES))
        if found.setdefault(name, value) != value:
            raise ConflictingParameter(name)
    return found


def parse(texts: Mapping[str, str], default_views: str, max_views: int) -> Parameters:
    """Read the values.

    Raises:
        InvalidParameter: names the parameter and what it accepts.
    """
    return Parameters(
        sparsity=_sparsity(texts["sparsity"]) if "sparsity" in texts else None,
        top=_top(texts["top"]) if "top" in texts else DEFAULT_TOP,
        views=_views(texts.get("views", default_views), max_views),
    )


def _sparsity(text: str) -> float:
    # A pattern, because float() also takes "nan", "1_0", and digits of other scripts.
    if _DECIMAL.fullmatch(text) and 0.0 <= (value := float(text)) <= HIGHEST_SPARSITY:
        return value
    raise InvalidParameter("sparsity", text, f"a number from 0 to {HIGHEST_SPARSITY}")


def _top(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) and 1 <= (value := int(text)) <= MAX_TOP:
        return value
    raise InvalidParameter("top", text, f"a whole number from 1 to {MAX_TOP}")


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


def schemas(default_views: str, max_views: int) -> dict[str, dict[str, Any]]:
    """JSON Schema of each parameter, for the OpenAPI document; the truth is in :func:`parse`."""
    return {
        "sparsity": {
            "type": "number",
            "minimum": 0,
            "maximum": HIGHEST_SPARSITY,
            "description": "Share of the tokens to drop: 0.9 keeps a tenth. When it is not given, "
            "the bundle's default. The nearest level that is not sparser is used; see /model.",
            "examples": [0.9],
        },
        "top": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_TOP,
            "default": DEFAULT_TOP,
            "description": "How many labels to answer, best first; all of them if there are fewer.",
            "examples": [5],
        },
        "views": {
            "type": "string",
            "pattern": "^[0-9]{1,3}x[13]$",
            "default": default_views,
            "description": "TEMPORALxSPATIAL: views spread over the clip's time, and 1 (centre) or "
            f"3 crops of each; at most {max_views} in all. Cost grows with their number.",
            "examples": ["1x1", "4x3"],
        },
    }
