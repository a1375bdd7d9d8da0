"""The experiments on training as Markdown and plots: for ``docs/experiments.md``."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmarks.report.tables import markdown, where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = dict[str, Any]


def pretraining(result: Result) -> str:
    """Top-1 and recall of moving tokens of each variant, mean and range over the seeds."""
    budget, clips = result["budget"], result["clips"]
    seeds = {len(curves) for curves in result["curves"].values()}
    said = (
        f"{budget['pretrain_steps']} steps of pre-training and {budget['finetune_steps']} of "
        f"fine-tuning, of 32 clips each; {clips['train']} clips to learn from, "
        f"{clips['held_out']} held out; {'/'.join(map(str, sorted(seeds)))} seeds, mean and range."
    )
    parts = [where(result), said]
    for figure, title in (("top1", "top-1 at sparsity"), ("recall", "moving tokens kept at")):
        rows = []
        for name, curves in result["curves"].items():
            cells = [name]
            for at in zip(*(curve["points"] for curve in curves), strict=True):
                cells.append(_spread([point[figure] for point in at]))
            rows.append(cells)
        any_curve = next(iter(result["curves"].values()))[0]
        header = [title, *(f"{point['sparsity']:g}" for point in any_curve["points"])]
        parts.append(markdown(header, rows))
    if baselines := result.get("baselines"):
        rows = [
            [
                f"{point['series']} {point['setting']}".strip(),
                f"{point['macs'] / 1e9:.2f}",
                f"{point['top1']:.1%}",
                _interval(point["intervals"]["top1"]),
            ]
            for point in baselines
        ]
        parts.append(
            markdown(["on the dense network", "GMACs a clip", "top-1", "95 % interval"], rows)
        )
    return "\n\n".join(parts)


def draw_pretraining(result: Result, figure: "Figure") -> None:
    """Accuracy over multiply-accumulates, and over the share of the moving tokens kept."""
    left, right = figure.subplots(1, 2)
    for name, curves in result["curves"].items():
        points = list(zip(*(curve["points"] for curve in curves), strict=True))
        _curve(left, [p[0]["macs"] / 1e9 for p in points], points, "top1", name)
        _curve(right, [100 * p[0]["sparsity"] for p in points], points, "recall", name)
    by_series: dict[str, list[Result]] = {}
    for point in result.get("baselines", []):
        by_series.setdefault(point["series"], []).append(point)
    for series, found in by_series.items():
        ordered = sorted(found, key=lambda point: float(point["macs"]))
        x = [point["macs"] / 1e9 for point in ordered]
        y = [100 * point["top1"] for point in ordered]
        label = f"{series} (dense network)"
        left.plot(x, y, "s--", markersize=4, linewidth=0.8, label=label)
    left.set(xlabel="G multiply-accumulates a clip", ylabel="top-1 (%)", xscale="log")
    right.set(xlabel="sparsity (%)", ylabel="moving tokens kept (%)")
    left.legend(fontsize=6)


def _curve(
    axes: "Axes", x: Sequence[float], points: Sequence[Sequence[Result]], name: str, label: str
) -> None:
    values = [[100 * point[name] for point in at] for at in points]
    (line,) = axes.plot(x, [fmean(at) for at in values], "o-", markersize=3, label=label)
    axes.fill_between(
        x, [min(at) for at in values], [max(at) for at in values], color=line.get_color(), alpha=0.2
    )


# Of no more classes than these, a clip's own is always among the best five.
_TOP = 5


def folds(result: Result) -> str:
    """Pooled top-1 of each variant, with intervals by group, and what it gains over another.

    Top-5 is told where there are more classes than five.
    """
    parts = []
    for name, variant in result["variants"].items():
        recipe = variant["recipe"]
        points = variant["points"]
        parts.append(
            f"**{name}**: {points[0]['clips']} clips of {len(variant['parts'])} parts "
            f"(`{variant['column']}`), {variant['intervals']['groups']} groups, "
            f"{recipe['epochs']:g} epochs, views {variant['views']}. {where(variant)}"
        )
        rows = [
            [
                f"{point['sparsity']:g}",
                f"{point['top1']:.1%}",
                _interval(point["intervals"]["top1"]),
                _difference(point["differences"].get("top1")),
            ]
            for point in points
        ]
        first = points[0]["sparsity"]
        headers = [
            "sparsity", "top-1", "95 % interval",
            f"to {f'{first:g}' if first else 'dense'} (points)",
        ]  # fmt: skip
        if len(variant.get("labels", ())) > _TOP and "top5" in points[0]:
            for row, point in zip(rows, points, strict=True):
                row.insert(3, f"{point['top5']:.1%}")
            headers.insert(3, "top-5")
        against = variant.get("against")
        if against:
            gained = against["top1"]
            for row, point in zip(rows, points, strict=True):
                row.append(_difference(gained[f"{point['sparsity']:g}"]))
            rows.append(["mean", *[""] * (len(headers) - 1), _difference(gained["mean"])])
            headers.append(f"against “{against['variant']}”")
        parts.append(markdown(headers, rows))
    return "\n\n".join(parts)


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1%}"
    return f"{fmean(values):.1%} ({100 * min(values):.1f}-{100 * max(values):.1f})"


def _interval(bounds: Sequence[float]) -> str:
    low, high = bounds
    return f"{100 * low:.1f} - {100 * high:.1f}"


def _difference(estimate: Sequence[float] | None) -> str:
    if estimate is None:
        return ""
    value, low, high = (100 * part for part in estimate)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def recall(result: Result) -> str:
    """What each target keeps, with each teacher; the best at 90 % first."""
    ninety = result["sparsities"].index(0.9)
    rows = [
        [
            row["target"] + (f", {row['teacher']} teacher" if row["teacher"] else ""),
            *(
                f"{share:.1%} ± {100 * error:.1f}"
                for share, error in zip(row["recall"], row["standard_error"], strict=True)
            ),
        ]
        for row in sorted(result["rows"], key=lambda row: -row["recall"][ninety])
    ]
    clips = result["rows"][0]["clips"]
    header = ["moving tokens kept at sparsity", *(f"{s:g}" for s in result["sparsities"])]
    said = f"{where(result)} Mean and standard error over {clips} clips in which something moves."
    return "\n\n".join([said, markdown(header, rows)])


_WAYS = {
    "selector": "the selector",
    "target": "the change of pixels",
    "random": "chance",
}


def selected_by(result: Result) -> str:
    """Top-1 with its interval at each sparsity, by what selected the tokens."""
    points = result["rows"][0]["points"]
    header = ["top-1 at sparsity", *(f"{point['sparsity']:g}" for point in points)]
    rows = [
        [
            _WAYS[row["by"]],
            *(f"{p['top1']:.1%} ({_interval(p['interval'])})" for p in row["points"]),
        ]
        for row in result["rows"]
    ]
    said = f"{where(result)} {points[0]['clips']} clips, with 95 % intervals."
    return f"{said}\n\n{markdown(header, rows)}"


def stts(result: Result) -> str:
    """Top-1 by how a network was trained and what selects, and how far learning is ahead."""
    recipe, macs = result["recipe"], result["macs"]
    said = (
        f"{', '.join(recipe['places'])}; {macs['selecting'] / 1e6:.0f} M multiply-accumulates of "
        f"{macs['dense'] / 1e6:.0f} M; {recipe['steps']} steps of {recipe['batch']} clips, "
        f"{result['clips']['train']} to learn from; {len(result['rows'][0]['by_seed'])} seeds; "
        f"{len(result['labels'])} labels."
    )
    rows = [
        [
            f"{row['trained']} selection, answers by {row['selected']} selection",
            str(row["answers"]),
            f"{row['top1']:.1%}",
            _interval(row["interval"]),
            _difference([row["learned_ahead"], *row["learned_ahead_interval"]])
            if row is not result["rows"][0]
            else "",
        ]
        for row in result["rows"]
    ]
    header = ["trained with", "answers", "top-1", "95 % interval", "learned ahead by (points)"]
    return "\n\n".join([f"{where(result)} {said}", markdown(header, rows)])


def tuning(result: Result) -> str:
    """Top-1 of a dense network before and after its tuning, by what selects and sparsity."""
    setup = result["setup"]
    said = (
        f"{setup['width']} wide, {setup['depth']} blocks, {setup['frames']} frames of "
        f"{setup['size']} pixels; {setup['dense_steps']} dense steps of {setup['batch']} clips, "
        f"then {setup['tune_steps']}; {result['clips']['train']} clips to learn from, "
        f"{len(result['labels'])} labels, {result['clips']['held_out']} held-out clips."
    )
    rows = [
        [
            row["way"],
            f"{row['sparsity']:g}",
            f"{row['top1']:.1%}",
            _interval(row["interval"]),
            ""
            if row["way"] == result["rows"][0]["way"]
            else _difference([row["gain"], *row["gain_interval"]]),
        ]
        for row in result["rows"]
    ]
    header = ["network, selected by", "sparsity", "top-1", "95 % interval", "against untuned"]
    return "\n\n".join([f"{where(result)} {said}", markdown(header, rows)])


TABLES: dict[str, Callable[[Result], str]] = {
    "selected_by": selected_by,
    "stts": stts,
    "tuning": tuning,
    "recall": recall,
    "pretraining_selection": pretraining,
    "pretraining_rates": pretraining,
    "pretraining_targets": pretraining,
    "survfight": folds,
    "skateboard": folds,
    "jhmdb": folds,
}
PLOTS: dict[str, Callable[[Result, "Figure"], None]] = {
    "pretraining_selection": draw_pretraining,
    "pretraining_rates": draw_pretraining,
    "pretraining_targets": draw_pretraining,
}
