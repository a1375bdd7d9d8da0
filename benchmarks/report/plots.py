"""Results as plots, SVG; needs matplotlib, the extra ``plots``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Result = dict[str, Any]

# Okabe and Ito's colours: told apart by those who see fewer colours, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def network(result: Result, figure: "Figure") -> None:
    """Clips a second over multiply-accumulates; the line is the ceiling."""
    plots = figure.subplots(1, len(result["runs"]), squeeze=False)[0]
    for plot, run in zip(plots, result["runs"], strict=True):
        ceiling = run["macs_per_second_ceiling"]["median"]
        ends = [min(row["macs"] for row in run["rows"]), max(row["macs"] for row in run["rows"])]
        plot.plot([e / 1e9 for e in ends], [run["batch"] * ceiling / e for e in ends], color="grey")
        for ours in (True, False):
            rows = [r for r in run["rows"] if r["name"].startswith("lookwhen") is ours]
            x = [row["macs"] / 1e9 for row in rows]
            y = [row["clips_per_second"]["median"] for row in rows]
            plot.plot(x, y, "o-" if ours else "s", color=_COLOURS[0 if ours else 1])
            for row, *at in zip(rows, x, y, strict=True):
                name = row["name"].removeprefix("lookwhen ")
                plot.annotate(name, at, textcoords="offset points", xytext=(4, 4), fontsize=7)
        plot.set(xscale="log", yscale="log", xlabel="G multiply-accumulates", ylabel="clips/s")
        plot.set_title(f"{run['engine']}, {run['device']}, batch {run['batch']}", fontsize=9)


def serving(result: Result, figure: "Figure") -> None:
    """Left the p99 over what is answered rightly, up to capacity; right goodput under overload."""
    curve, overload = figure.subplots(1, 2)
    for index, (name, server) in enumerate(result["servers"].items()):
        colour = _COLOURS[index % len(_COLOURS)]
        loads = _mean_by_load(server["points"])
        below = [(rate, p99) for load, (_, rate, p99) in loads.items() if load <= 1 and p99]
        if below:
            curve.plot(*zip(*below, strict=True), "o-", color=colour, label=name)
        above = [(offered, rate) for load, (offered, rate, _) in loads.items()]
        overload.plot(*zip(*above, strict=True), "o-", color=colour, label=name)
    curve.axhline(1e3 * result["p99_bound_seconds"], color="grey", linewidth=0.8)
    curve.set(yscale="log", xlabel="right answers/s", ylabel="p99, ms")
    overload.set(xlabel="requests/s", ylabel="right answers/s")
    overload.legend(fontsize=7)


def _mean_by_load(points: list[Result]) -> dict[float, tuple[float, float, float]]:
    """(offered, goodput, p99 in ms) by load; the p99 is the worst round's, 0 if unknown."""
    found = {}
    for load in sorted({point["load"] for point in points}):
        rounds = [point for point in points if point["load"] == load]
        found[load] = (
            sum(point["offered_per_second"] for point in rounds) / len(rounds),
            sum(point["goodput_per_second"] for point in rounds) / len(rounds),
            max(1e3 * (point["latency_seconds"]["p99"] or 0) for point in rounds),
        )
    return found


def growth(result: Result, figure: "Figure") -> None:
    """One panel an axis: the stages' medians on top of each other."""
    panels = figure.subplots(1, len(result["axes"]), squeeze=False)[0]
    for panel, (axis, rows) in zip(panels, result["axes"].items(), strict=True):
        bottom = [0.0] * len(rows)
        for index, stage in enumerate(("upload", "decode", "select", "extract")):
            heights = [1e3 * row["seconds"][stage]["median"] for row in rows]
            panel.bar(
                [row["at"] for row in rows], heights, bottom=bottom, color=_COLOURS[index],
                label=stage,
            )  # fmt: skip
            bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
        panel.set(xlabel=axis, ylabel="ms")
        panel.tick_params(labelsize=7)
    panels[0].legend(fontsize=7)


_SECONDS, _GMACS = "measured CPU seconds a view", "G multiply-accumulates a view"


def models(result: Result, figure: "Figure") -> None:
    """Published top-1 over the measured time of a view, and over its multiply-accumulates."""
    panels = figure.subplots(1, 2, sharey=True)
    for panel, label in zip(panels, (_SECONDS, _GMACS), strict=True):
        for number, (data, title) in enumerate((("kinetics", "K400"), ("something", "SSv2"))):
            for ours in (True, False):
                rows = [
                    row for row in result["rows"]
                    if row["published"][data] is not None
                    and row["name"].startswith("LookWhen") is ours
                ]  # fmt: skip
                x = [
                    row["seconds"]["median"] if label == _SECONDS else row["macs"] / 1e9
                    for row in rows
                ]
                y = [row["published"][data] for row in rows]
                panel.plot(
                    x, y, "o-" if ours else "s", color=_COLOURS[number],
                    fillstyle="full" if ours else "none",
                    label=f"{title}, {'LookWhen' if ours else 'others'}",
                )  # fmt: skip
                for row, *at in zip(rows, x, y, strict=True):
                    panel.annotate(
                        row["name"], at, textcoords="offset points", xytext=(4, 3), fontsize=5
                    )
        panel.set(xscale="log", xlabel=label)
    panels[0].set(ylabel="published top-1 (%)")
    panels[0].legend(fontsize=7)


PLOTS: dict[str, Callable[[Result, "Figure"], None]] = {
    "network": network,
    "models": models,
    "serving": serving,
    "growth": growth,
}


def draw(name: str, plot: Callable[[Result, "Figure"], None], result: Result, out: Path) -> None:
    """Draw a result into an SVG that depends on nothing but the result.

    Raises:
        ImportError: no matplotlib.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": name, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(10, 4), layout="constrained")
        plot(result, figure)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format="svg", metadata={"Date": None})
