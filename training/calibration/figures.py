"""How well a calibration does on clips that it was not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bundle.answers import AnswerFacts
from bundle.scores import probabilities_of
from training.calibration.fitting import certainties
from training.calibration.looks import Looks
from training.calibration.temperature import CalibrationError
from training.evaluation.statistics import Estimate, Estimates, Share


@dataclass(frozen=True, slots=True)
class SetFigures:
    """Figures of one set at one sparsity, with intervals by group.

    Attributes:
        before, after: expected calibration error; None of clips that have no label.
        unknown: share of the clips that are unknown.
    """

    name: str
    clips: int
    sparsity: float
    top1: Estimate | None
    before: Estimate | None
    after: Estimate | None
    unknown: Estimate

    def as_json(self) -> dict[str, Any]:
        figures = {"top1": self.top1, "error_before": self.before, "error_after": self.after,
                   "unknown": self.unknown}  # fmt: skip
        return {"set": self.name, "clips": self.clips, "sparsity": self.sparsity} | {
            name: figure._asdict() for name, figure in figures.items() if figure is not None
        }


def figures_of(
    looks: Looks, before: AnswerFacts, after: AnswerFacts, *, labelled: bool
) -> list[SetFigures]:
    """The figures of one set, by sparsity, before and after.

    Args:
        labelled: the clips are of the bundle's classes.
    """
    found = []
    scores, resampling = certainties(looks, after), looks.resampling
    for sparsity, logits in looks.logits.items():
        threshold = after.unknown_below(sparsity)
        assert threshold is not None  # it was fitted
        statistics: dict[str, Any] = {"unknown": Share(scores[sparsity] < threshold)}
        if labelled:
            targets = looks.targets
            for name, answer in (("before", before), ("after", after)):
                shown = probabilities_of(logits, answer, sparsity)
                statistics[name] = CalibrationError.of(shown, targets)
            statistics["top1"] = Share(statistics["after"].right)
        estimates = Estimates.of(statistics, resampling)
        figures = {name: estimates.estimate(name) for name in statistics}
        found.append(
            SetFigures(
                looks.name, len(looks.clips), sparsity, figures.get("top1"),
                figures.get("before"), figures.get("after"), figures["unknown"],
            )
        )  # fmt: skip
    return found


def print_figures(console: Console, figures: Sequence[SetFigures], answer: AnswerFacts) -> None:
    """The figures in percent, a table for each set."""
    sets: dict[str, list[SetFigures]] = {}
    for row in figures:
        sets.setdefault(row.name, []).append(row)
    for name, rows in sets.items():
        title = f"{name}, {rows[0].clips} clips, percent"
        table = Table(title=title, title_justify="left", box=None)
        labelled = ("temperature", "calibration error", "after") if rows[0].after else ()
        for heading in ("sparsity", *labelled, "unknown"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            cells = [f"{answer.temperature_at(row.sparsity):.2f}"] if row.after else []
            shown = [row.before, row.after, row.unknown]
            cells += [_said(figure) for figure in shown if figure is not None]
            table.add_row(f"{row.sparsity:g}", *cells)
        console.print(table)


def _said(figure: Estimate) -> str:
    low = max(0.0, figure.low)  # not minus nothing
    return f"{100 * figure.value:.1f} ({100 * low:.1f}-{100 * figure.high:.1f})"
