"""Points as JSON and as tables on a terminal."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from model.writing import whole_file
from training.evaluation.points import Point, most_confused
from training.evaluation.statistics import Estimate, Resampling

# Rows of the tables that name classes, and settings that fit beside these names.
_NAMED = 5
_COLUMNS = 8

# Classes of which five guesses are always right.
_FEW = 5


def points_as_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Each figure under its own name, its interval under ``intervals``.

    ``sparsity``, ``top1``, ``recall`` and ``clips`` are what an export puts into a bundle.
    """
    return [
        {
            "series": point.setting.series,
            "setting": point.setting.name,
            "sparsity": point.setting.sparsity,
            "kept": _whole(point.kept),
            "macs": _whole(point.macs),
            "clips": point.clips,
            **{name: figure.value for name, figure in point.figures.items()},
            "recall": point.recall,
            "intervals": {name: [f.low, f.high] for name, f in point.figures.items()},
            "against": point.against,
            "differences": {name: list(figure) for name, figure in point.differences.items()},
            "per_class": point.per_class,
            "confusion": None if point.confusion is None else point.confusion.tolist(),
        }
        for point in points
    ]


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value


def intervals_as_json(resampling: Resampling) -> dict[str, Any]:
    """How the intervals were made."""
    grouped = resampling.grouped
    return {
        "level": 0.95,
        "shares": "bootstrap of groups" if grouped else "Wilson",
        "differences of shares": "bootstrap of groups" if grouped else "Agresti and Min",
        "mAP": f"bootstrap of {'groups' if grouped else 'clips'}",
        "groups": resampling.count,
        "draws": resampling.draws,
        "seed": resampling.seed,
    }


def write_report(
    path: Path, about: Mapping[str, Any], points: Sequence[Point], resampling: Resampling
) -> None:
    """Write what was measured, on what; the file appears under its name only when it is whole."""
    document = {
        **about,
        "intervals": intervals_as_json(resampling),
        "points": points_as_json(points),
    }
    text = json.dumps(document, indent=2)
    # A list of numbers on one line: confusions of hundreds of classes would fill a line per cell.
    numbers = re.compile(r"\[\s+((?:-?[\d.e+-]+|null)(?:,\s+(?:-?[\d.e+-]+|null))*)\s+\]")
    text = numbers.sub(lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def print_report(
    console: Console, title: str, headline: str, points: Sequence[Point], labels: Sequence[str]
) -> None:
    """Print figures, what sparsity costs, the weakest classes and the most confused pairs.

    The headline has its interval here; those of the other figures are in the file.
    """
    if len(labels) <= _FEW:
        points = [_without_top5(point) for point in points]
    console.print(_figures(title, headline, points))
    if len(points) > 1:
        console.print(_differences(headline, points))
    if points[0].confusion is not None:
        # A column for each sparsity; of many methods the first, and the one that is worst.
        shown = points
        if not _one_curve(points) or len(points) > _COLUMNS:
            worst = min(points[1:], key=lambda p: p.figures[headline].value, default=points[0])
            shown = [points[0], worst]
        console.print(_classes(shown, labels))
        if (pairs := _pairs(shown, labels)).row_count:
            console.print(pairs)


def _without_top5(point: Point) -> Point:
    return replace(
        point,
        figures={name: figure for name, figure in point.figures.items() if name != "top5"},
        differences={name: figure for name, figure in point.differences.items() if name != "top5"},
    )


def _setting_columns(table: Table, points: Sequence[Point]) -> None:
    if _one_curve(points):
        table.add_column("sparsity", justify="right")
    else:
        table.add_column("method", no_wrap=True)
        table.add_column("setting", justify="right", overflow="fold")


def _setting(point: Point, points: Sequence[Point]) -> tuple[str, ...]:
    if _one_curve(points):
        return (point.setting.name,)
    return point.setting.series, point.setting.name


def _one_curve(points: Sequence[Point]) -> bool:
    return len({point.setting.series for point in points}) == 1 and all(
        point.setting.sparsity is not None for point in points
    )


def _figures(title: str, headline: str, points: Sequence[Point]) -> Table:
    table = Table(title=title)
    _setting_columns(table, points)
    for known, column in (("kept", "kept"), ("macs", "GMACs")):
        if getattr(points[0], known) is not None:
            table.add_column(column, justify="right")
    for name in points[0].figures:
        table.add_column(_spelt(name), justify="right", no_wrap=True)
        if name == headline:
            table.add_column("95 % interval", justify="right", no_wrap=True)
    recall = any(point.recall is not None for point in points)
    if recall:
        table.add_column("moving tokens kept", justify="right")
    for point in points:
        cells = [*_setting(point, points)]
        if point.kept is not None:
            cells.append(f"{point.kept:g}" if point.kept % 1 == 0 else f"{point.kept:.1f}")
        if point.macs is not None:
            cells.append(f"{point.macs / 1e9:.2f}")
        for name, figure in point.figures.items():
            cells.append(f"{figure.value:.1%}")
            if name == headline:
                cells.append(f"{100 * figure.low:.1f} - {100 * figure.high:.1f}")
        if recall:
            cells.append("" if point.recall is None else f"{point.recall:.1%}")
        table.add_row(*cells)
    return table


def _differences(headline: str, points: Sequence[Point]) -> Table:
    against = next(point.against for point in points if point.against is not None)
    named = against
    if _one_curve(points):
        named = f"sparsity {against}"
    table = Table(title=f"points gained or lost against {named}, same clips")
    _setting_columns(table, points)
    for name in points[0].figures:
        table.add_column(_spelt(name), justify="right", no_wrap=True)
        if name == headline:
            table.add_column("95 % interval", justify="right", no_wrap=True)
    for point in points:
        if point.against is None:
            continue
        cells = [*_setting(point, points)]
        for name, change in point.differences.items():
            cells.append(_points(change.value))
            if name == headline:
                cells.append(_range(change))
        table.add_row(*cells)
    return table


def _range(change: Estimate) -> str:
    return f"{_points(change.low)} to {_points(change.high)}"


def _points(share: float) -> str:
    """A difference of shares in percentage points, never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def _classes(points: Sequence[Point], labels: Sequence[str]) -> Table:
    """The classes that are right least often, over all settings together."""
    confusions = [point.confusion for point in points if point.confusion is not None]
    clips = confusions[0].sum(axis=1)
    right = np.sum([confusion.diagonal() for confusion in confusions], axis=0)
    order = sorted(
        (label for label in range(len(labels)) if clips[label]),
        key=lambda label: right[label] / clips[label],
    )
    table = Table(title="weakest classes: share that is right, by setting")
    table.add_column("class", overflow="fold")
    table.add_column("clips", justify="right")
    _value_columns(table, points)
    for label in order[:_NAMED]:
        shares = [confusion[label, label] / clips[label] for confusion in confusions]
        table.add_row(labels[label], str(clips[label]), *(f"{share:.0%}" for share in shares))
    return table


def _pairs(points: Sequence[Point], labels: Sequence[str]) -> Table:
    table = Table(title="most confused classes: clips, by setting")
    table.add_column("right", overflow="fold")
    table.add_column("predicted", overflow="fold")
    _value_columns(table, points)
    for row, column in most_confused(points, _NAMED):
        counts = [p.confusion[row, column] for p in points if p.confusion is not None]
        table.add_row(labels[row], labels[column], *map(str, counts))
    return table


def _value_columns(table: Table, points: Sequence[Point]) -> None:
    for point in points:
        # A method with one setting is called as that.
        words = dict.fromkeys(_setting(point, points))
        table.add_column(" ".join(words), justify="right", no_wrap=True)


def _spelt(name: str) -> str:
    """``action_top1`` as ``action top-1``."""
    return name.replace("_", " ").replace("top", "top-")
