"""An evaluation's figures, for the bundle of the checkpoint that was evaluated.

Users choose a sparsity by them, so they must be of what the bundle does by itself: its own
views, its own selector, its own labels, float32, one class per clip.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bundle.schema import AccuracyPoint
from bundle.tokens import tokens_to_keep
from model.config import ModelConfig
from model.macs import Cost
from networks.config import NetworkConfig

# What a bundle's service does when nobody asks for more; see export.pack.
DEFAULT_VIEWS = "1x1"


class AccuracyError(Exception):
    """An evaluation that does not tell what the bundle would; the text says why."""


def read_accuracy(
    path: Path,
    digest: str,
    config: ModelConfig | NetworkConfig,
    price: Cost,
    selected_by: str = "selector",
) -> list[AccuracyPoint]:
    """Read an evaluation's points.

    Args:
        path: what ``lookwhen train evaluate`` wrote.
        digest: SHA-256 of the checkpoint that is exported.
        config: the checkpoint's.
        price: what the bundle costs.
        selected_by: what chooses the bundle's tokens.

    Raises:
        AccuracyError: no evaluation, or one of something else than the bundle: another checkpoint,
            other views, labels, precision, geometry or choice of tokens.
    """
    document = _document(path)
    for wrong in _differences(document, digest, config, price, selected_by):
        raise AccuracyError(f"{path}: {wrong}")
    return _points(path, document)


def read_cross_validated(path: Path, config: ModelConfig, price: Cost) -> list[AccuracyPoint]:
    """Read the pooled points of several models of the exported one's recipe.

    Each of them left some of the clips out and was measured on those. The exported model may have
    learnt from all clips, and its own accuracy cannot be measured then.

    Args:
        path: what ``lookwhen train pool --out`` wrote.
        config, price: of the checkpoint that is exported.

    Raises:
        AccuracyError: nothing that was pooled, other labels, or no figures of top-1.
    """
    document = _document(path)
    folds = document.get("pooled")
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise AccuracyError(f"{path}: pools no folds; `lookwhen train pool --out` writes what does")
    if (headline := document.get("headline")) != "top1":
        raise AccuracyError(f"{path}: measures {_said(headline)}, and a bundle tells top-1")
    # A report of folds names the labels that occur or were said.
    if not set(document.get("labels") or [None]) <= set(config.labels):
        raise AccuracyError(f"{path}: has other labels than the checkpoint")
    for wrong in _wrong_points(document, config, price, tells_cost=False):
        raise AccuracyError(f"{path}: {wrong}")
    points = _points(path, document)
    return [point.model_copy(update={"folds": folds}) for point in points]


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AccuracyError(f"{path}: is not an evaluation ({error})") from None
    if not isinstance(document, dict) or not isinstance(document.get("points"), list):
        raise AccuracyError(f"{path}: is not an evaluation; `lookwhen train evaluate` writes one")
    return document


def _points(path: Path, document: dict[str, Any]) -> list[AccuracyPoint]:
    known = set(AccuracyPoint.model_fields)
    try:
        return TypeAdapter(list[AccuracyPoint]).validate_python(
            [{name: point[name] for name in known & point.keys()} for point in document["points"]]
        )
    except ValidationError as error:
        raise AccuracyError(f"{path}: its points are no figures of top-1 ({error})") from None


def _differences(
    document: dict[str, Any],
    digest: str,
    config: ModelConfig | NetworkConfig,
    price: Cost,
    selected_by: str,
) -> Iterator[str]:
    """What the evaluation is of, and the bundle is not: most telling first."""
    if "pooled" in document:
        yield (
            "pools the folds of several checkpoints; --cross-validated takes it, and the bundle "
            "then says so"
        )
    if document.get("checkpoint_sha256") != digest:
        yield "was measured on another checkpoint than the one that is exported"
    views = document.get("views")
    if views != DEFAULT_VIEWS:
        yield (
            f"was measured with {_said(views)} views, and the bundle takes {DEFAULT_VIEWS} unless "
            f"it is asked for more; measure again with --views {DEFAULT_VIEWS}"
        )
    if (by := document.get("selected_by")) != selected_by:
        ours = "its selector" if selected_by == "selector" else selected_by
        yield (
            f"was measured on tokens that were selected by {_said(by)}, and the bundle's are "
            f"selected by {ours}; measure again without --by and --baseline"
        )
    if (precision := document.get("precision")) != "float32":
        yield (
            f"was measured in {_said(precision)}, and the bundle's graphs are float32; measure "
            "again without --bf16"
        )
    if (headline := document.get("headline")) != "top1":
        yield f"measures {_said(headline)}, and a bundle tells top-1"
    if document.get("labels") != list(config.labels):
        yield "has other labels than the checkpoint"
    yield from _wrong_points(document, config, price)


def _wrong_points(
    document: dict[str, Any],
    config: ModelConfig | NetworkConfig,
    price: Cost,
    tells_cost: bool = True,
) -> Iterator[str]:
    """What is wrong with the points.

    Args:
        tells_cost: they must tell tokens and cost, which pooled predictions do not.
    """
    seen = set[float]()
    if not document["points"]:
        yield "has no points"
    for number, point in enumerate(document["points"], start=1):
        sparsity = point.get("sparsity") if isinstance(point, dict) else None
        if isinstance(sparsity, bool) or not isinstance(sparsity, int | float):
            yield f"its point {number} has no sparsity; a dense network's methods are no bundle's"
            return
        if not 0 <= sparsity < 1:
            yield f"its point {number} has a sparsity of {sparsity}; it must lie in [0, 1)"
            return
        if sparsity in seen:
            yield f"has two points of sparsity {sparsity:g}"
        seen.add(sparsity)
        kept = tokens_to_keep(sparsity, config.tokens)
        for name, ours in (("kept", kept), ("macs", price.at(kept))):
            theirs = point.get(name)
            if theirs is None and not tells_cost:
                continue
            # Means over clips, rounded where there are many.
            if not isinstance(theirs, int | float) or not math.isclose(theirs, ours, rel_tol=1e-9):
                yield (
                    f"at sparsity {sparsity:g} its {name} is {_said(theirs)}, and the "
                    f"bundle's {ours}: its views have other frames or pixels, or it was altered"
                )
        if point.get("clips") != document.get("clips"):
            yield (
                f"at sparsity {sparsity:g} it counts {_said(point.get('clips'))} clips, and "
                f"{_said(document.get('clips'))} in all"
            )


def _said(value: object) -> str:
    """A value in a sentence; what is not there is of an older release, or was taken out."""
    return "what it does not say" if value is None else str(value)
