"""JSON Schema of each parameter, for the OpenAPI document; the truth is in ``parameters.parse``.

Defaults stand in the descriptions. As a schema's ``default`` generated clients send them, and
``coverage`` and ``margin`` are refused without what they belong to; what a form says beside them
contradicts them.
"""

from typing import Any

from service.sparsity.parameters import (
    AUTO,
    DEFAULT_COVERAGE,
    DEFAULT_MARGIN,
    DEFAULT_SWEEP,
    HIGHEST_SPARSITY,
    LOWEST_COVERAGE,
    MAX_BUDGET_MS,
    MAX_SWEEP,
    Bounds,
)

Schemas = dict[str, dict[str, Any]]

CLASSIFY: Schemas = {
    "sparsity": {
        # Text for both, because neither pages nor most generators have a field for either.
        "type": "string",
        "pattern": f"^({AUTO}|0|0?\\.[0-9]+)$",
        "description": f"Share of the tokens to drop, from 0 to {HIGHEST_SPARSITY}: 0.9 keeps a "
        "tenth. When it is not given, the bundle's default. The nearest level that is not sparser "
        "is used; see /model. `auto` keeps as many as the clip needs for `coverage`.",
        "examples": ["0.9", AUTO],
    },
    "coverage": {
        "type": "number",
        "minimum": LOWEST_COVERAGE,
        "maximum": 1,
        "description": "Only with sparsity=auto: the share of the selector's mass that the tokens "
        "kept have to hold, within the range of sparsities that was trained; "
        f"{DEFAULT_COVERAGE:g} when it is not given.",
        "examples": [DEFAULT_COVERAGE],
    },
    "budget_ms": {
        "type": "number",
        "minimum": 1,
        "maximum": MAX_BUDGET_MS,
        "description": "Milliseconds from the last byte of the body to the answer: the densest "
        "level that is predicted to fit is used, never a denser one than `sparsity` asks for, and "
        "the sparsest when none fits.",
        "examples": [50],
    },
    "cascade": {
        "type": "boolean",
        "description": "Start sparse, and look at more tokens while the first two labels are "
        "closer than `margin`; never at more than `sparsity` says. Not with sparsity=auto. False "
        "when it is not given.",
        "examples": [True],
    },
    "margin": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "Only with cascade=true: the difference between the first two scores that "
        f"is enough; {DEFAULT_MARGIN:g} when it is not given.",
        "examples": [DEFAULT_MARGIN],
    },
    "max_sparsity": {
        "type": "number",
        "minimum": 0,
        "maximum": HIGHEST_SPARSITY,
        "description": "The sparsest that the answer may be. Allows to be served sparser than "
        "asked while there is much to do, rather than to be refused. Not less than `sparsity`, "
        "and not with strict=true.",
        "examples": [0.95],
    },
    "strict": {
        "type": "boolean",
        "description": "Be refused rather than served sparser than asked, also where the service "
        "does that by default. False when it is not given.",
        "examples": [True],
    },
}

SWEEP: Schemas = {
    "sparsities": {
        "type": "string",
        "description": f"1 to {MAX_SWEEP} sparsities from 0 to {HIGHEST_SPARSITY}, separated by "
        "commas. Of each, the nearest level that is not sparser is used. "
        f"{','.join(f'{sparsity:g}' for sparsity in DEFAULT_SWEEP)} when it is not given.",
        "examples": ["0,0.5,0.9"],
    },
}


def top_and_views(default_views: str, bounds: Bounds) -> Schemas:
    """The parameters that all requests about a clip have."""
    return {
        "top": {
            "type": "integer",
            "minimum": 1,
            "maximum": bounds.max_top,
            "description": "How many labels to answer, best first; all of them if there are fewer. "
            f"{bounds.default_top} when it is not given.",
            "examples": [bounds.default_top],
        },
        "views": {
            "type": "string",
            "pattern": "^[0-9]{1,3}x[13]$",
            "description": "TEMPORALxSPATIAL: views spread over the clip's time, and 1 (centre) or "
            f"3 crops of each; at most {bounds.max_views} in all. Cost grows with their number. "
            f"{default_views} when it is not given.",
            "examples": ["1x1", "4x3"],
        },
    }
