"""Accuracy over multiply-accumulates, and recall over sparsity, from the files of reports.

Needs matplotlib, the extra ``plots``.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.writing import whole_file
from startup.packages import how_to_install

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours: told apart by those who see fewer colours, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")

# From this ratio of the dearest to the cheapest point on, costs are drawn on a logarithmic axis.
_WIDE = 8

_SPELT = {"top1": "top-1 accuracy", "action_top1": "action accuracy", "mAP": "mAP"}


class PlotError(Exception):
    """No plot can be drawn; the text says why."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one series, as a report has them."""

    label: str
    points: list[dict[str, Any]]


def read_curves(reports: Sequence[Path]) -> tuple[str, list[Curve]]:
    """The headline of some reports and their curves, one for each series.

    Series of the same name are told apart by their reports' names.

    Raises:
        PlotError: a file that is no report, or reports with different headlines.
    """
    headlines: dict[str, Path] = {}
    found: list[tuple[str, str, list[dict[str, Any]]]] = []
    for path in reports:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            headlines.setdefault(document["headline"], path)
            series: dict[str, list[dict[str, Any]]] = {}
            for point in document["points"]:
                point[document["headline"]], point["macs"], point["intervals"]
                series.setdefault(point["series"], []).append(point)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PlotError(f"{path}: is no report of an evaluation ({error})") from None
        found += [(name, path.stem, points) for name, points in series.items()]
    if len(headlines) != 1:
        named = ", ".join(f"{name} in {path}" for name, path in headlines.items())
        raise PlotError(f"reports of one headline go on one plot, got {named or 'none'}")
    times = Counter(name for name, _, _ in found)
    curves = [
        Curve(name if times[name] == 1 else f"{name} ({stem})", points)
        for name, stem, points in found
    ]
    return next(iter(headlines)), curves


def draw(reports: Sequence[Path], out: Path) -> None:
    """Draw the reports' curves into ``out``, SVG or whatever else its name says.

    Left the headline over multiply-accumulates of a clip, with its 95 % intervals; right, where the
    truth is known, the share of moving tokens that were kept, over sparsity.

    Raises:
        PlotError: no matplotlib, a kind of file that it does not write, or reports that do not
            fit.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise PlotError(f"plots need matplotlib: {how_to_install('matplotlib')}") from None
    headline, curves = read_curves(reports)
    curves = [
        Curve(curve.label, [p for p in curve.points if p["macs"] is not None]) for curve in curves
    ]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        raise PlotError("there is nothing to draw: no point says what it cost")
    recalled = [
        Curve(curve.label, [p for p in curve.points if None not in (p["recall"], p["sparsity"])])
        for curve in curves
    ]
    # What keeps all tokens keeps those that move: a dense network is no curve here.
    recalled = [curve for curve in recalled if any(p["sparsity"] for p in curve.points)]
    panels = 2 if recalled else 1
    # The same reports make the same file; text stays text.
    with mpl.rc_context({"svg.hashsalt": "lookwhen", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(6.4 * panels, 4.2), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        styles = {
            curve.label: (_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)])
            for i, curve in enumerate(curves)
        }
        _draw_accuracy(axes[0], headline, curves, styles)
        if recalled:
            _draw_recall(axes[1], recalled, styles)
        try:
            kind = out.suffix[1:].lower() or "png"
            metadata = {"Date": None} if kind == "svg" else None
            with whole_file(out) as part:
                figure.savefig(part, format=kind, metadata=metadata, dpi=150)
        except (ValueError, OSError) as error:
            raise PlotError(f"{out}: {error}") from None


def _draw_accuracy(
    axes: "Axes", headline: str, curves: Sequence[Curve], styles: dict[str, tuple[str, str]]
) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    costs = [point["macs"] / 1e9 for curve in curves for point in curve.points]
    if max(costs) > _WIDE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    for number, curve in enumerate(curves):
        colour, marker = styles[curve.label]
        # The first curve is mostly the upper one: there is room above it, and below the others.
        offset, side = ((-4, 5), "right") if number == 0 else ((5, -11), "left")
        points = sorted(curve.points, key=lambda point: point["macs"])
        x = [point["macs"] / 1e9 for point in points]
        y = [100 * point[headline] for point in points]
        low, high = zip(*(point["intervals"][headline] for point in points), strict=True)
        axes.plot(x, y, color=colour, marker=marker, markersize=5, label=curve.label)
        # A point alone has no band: bars say the same.
        bars = [[v - 100 * e for v, e in zip(y, low, strict=True)]]
        bars.append([100 * e - v for v, e in zip(y, high, strict=True)])
        axes.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, alpha=0.4, capsize=2)
        for point, *place in zip(points, x, y, strict=True):
            # Schedules of merging are long, and crowd where curves meet: the report has them.
            if point["sparsity"]:
                axes.annotate(
                    f"{point['sparsity']:g}",
                    (place[0], place[1]),
                    xytext=offset,
                    ha=side,
                    textcoords="offset points",
                    fontsize=8,
                    color=colour,
                )
    axes.set_xlabel("multiply-accumulates of a clip (G)")
    axes.set_ylabel(f"{_SPELT.get(headline, headline)} (%)")
    axes.set_title("numbers at points: sparsity", loc="left", fontsize=8, color="0.4")
    axes.margins(x=0.08)
    _frame(axes, len(curves))


def _draw_recall(axes: "Axes", curves: Sequence[Curve], styles: dict[str, tuple[str, str]]) -> None:
    for curve in curves:
        colour, marker = styles[curve.label]
        points = sorted(curve.points, key=lambda point: point["sparsity"])
        axes.plot(
            [100 * point["sparsity"] for point in points],
            [100 * point["recall"] for point in points],
            color=colour,
            marker=marker,
            markersize=5,
            label=curve.label,
        )
    axes.plot([0, 100], [100, 0], color="0.6", linestyle=":", label="chance")
    axes.set_xlabel("sparsity (%)")
    axes.set_ylabel("moving tokens kept (%)")
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    _frame(axes, 2)


def _frame(axes: "Axes", curves: int) -> None:
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if curves > 1:
        axes.legend(frameon=False, fontsize=9)
