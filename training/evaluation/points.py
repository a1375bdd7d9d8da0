"""From what was measured to figures with intervals, confusions and differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets import DataSet, TopOne
from training.evaluation.measure import Measurement, Outcome
from training.evaluation.methods import Setting
from training.evaluation.statistics import Estimate, Estimates, MeanAP, Resampling, Share, Statistic


@dataclass(frozen=True, slots=True)
class Result:
    """One setting on n clips, ready for the statistics.

    figures: name to statistic. labels: int64 [n, 2], right and predicted class, where each clip
    has one class. macs, kept, recall: means over clips, None where they are not known.
    """

    setting: Setting
    figures: dict[str, Statistic]
    labels: NDArray[np.int64] | None = None
    macs: float | None = None
    kept: float | None = None
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One setting as it is reported.

    Attributes:
        clips: how many were measured.
        figures: name (top1, action_top1, mAP, ...) to figure with its interval.
        against: name of the setting that `differences` are to, None for that setting itself.
        differences: name to this figure minus that of the other setting, on the same clips.
        macs: multiply-accumulates of a clip, all views together, mean over clips.
        kept: tokens of a view that the deep network saw, mean over clips.
        recall: share of the truly moving tokens that it saw, mean over the clips that have any.
        confusion: clips by right class (rows) and predicted class.
    """

    setting: Setting
    clips: int
    figures: dict[str, Estimate]
    against: str | None
    differences: dict[str, Estimate]
    macs: float | None
    kept: float | None
    recall: float | None
    confusion: NDArray[np.int64] | None

    @property
    def per_class(self) -> list[float | None] | None:
        """Share of each class's clips that are right, None for a class without clips."""
        if self.confusion is None:
            return None
        right, clips = self.confusion.diagonal(), self.confusion.sum(axis=1)
        return [int(r) / int(n) if n else None for r, n in zip(right, clips, strict=True)]


def result_of(outcome: Outcome, dataset: DataSet, entries: NDArray[np.int64]) -> Result:
    """Read an outcome as the data set's task wants it; ``entries`` as in `Measurement`."""
    task = dataset.task
    targets = torch.stack([task.target(dataset.entries[entry].labels) for entry in entries])
    probabilities = torch.from_numpy(outcome.probabilities)
    figures: dict[str, Statistic] = {
        name: Share(hits) for name, hits in task.hits(probabilities, targets).items()
    }
    if not figures:
        scores = outcome.probabilities.astype(np.float64)
        figures[task.headline] = MeanAP(scores, targets.numpy() > 0.5)
    labels = None
    if isinstance(task, TopOne):
        predicted = outcome.probabilities.argmax(axis=1)
        labels = np.stack([targets.numpy(), predicted], axis=1).astype(np.int64)
    known = outcome.recall[~np.isnan(outcome.recall)]
    return Result(
        outcome.setting,
        figures,
        labels,
        macs=float(outcome.macs.mean()),
        kept=float(outcome.kept.mean()),
        recall=float(known.mean()) if len(known) else None,
    )


def results_of(measurement: Measurement, dataset: DataSet) -> tuple[list[Result], Resampling]:
    """All outcomes of a measurement, and how their clips are resampled."""
    results = [result_of(one, dataset, measurement.entries) for one in measurement.outcomes]
    groups = [dataset.entries[entry].group for entry in measurement.entries]
    return results, Resampling.of_groups(groups)


def summarise(
    results: Sequence[Result], resampling: Resampling, classes: int, against: str | None = None
) -> list[Point]:
    """Figures with intervals, and what each setting loses against one of them.

    Args:
        results: of the same clips, in the same order.
        resampling: of these clips.
        classes: rows and columns of confusions.
        against: name of the setting to compare with; by default the one that drops least, or the
            first where that is not what is set.

    Raises:
        ValueError: no such setting.
    """
    reference = _reference([result.setting for result in results], against)
    estimates = [Estimates.of(result.figures, resampling) for result in results]
    points = []
    for i, (result, ours) in enumerate(zip(results, estimates, strict=True)):
        alone = i == reference
        points.append(
            Point(
                setting=result.setting,
                clips=len(resampling.groups),
                figures={name: ours.estimate(name) for name in result.figures},
                against=None if alone else results[reference].setting.name,
                differences={}
                if alone
                else {name: ours.difference(name, estimates[reference]) for name in result.figures},
                macs=result.macs,
                kept=result.kept,
                recall=result.recall,
                confusion=None if result.labels is None else _confusion(result.labels, classes),
            )
        )
    return points


def _reference(settings: Sequence[Setting], against: str | None) -> int:
    if against is not None:
        names = [setting.name for setting in settings]
        if against not in names:
            raise ValueError(f"no setting {against!r} to compare with; there are {names}")
        return names.index(against)
    dropped = [setting.sparsity for setting in settings]
    sparsities = [s for s in dropped if s is not None]
    return dropped.index(min(sparsities)) if len(sparsities) == len(dropped) else 0


def _confusion(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    counts = np.bincount(labels[:, 0] * classes + labels[:, 1], minlength=classes**2)
    return counts.reshape(classes, classes)


def most_confused(points: Sequence[Point], pairs: int) -> list[tuple[int, int]]:
    """The (right, predicted) classes that are confused most, over all settings together."""
    tables = [point.confusion for point in points if point.confusion is not None]
    if not tables:
        return []
    wrong = np.sum(tables, axis=0)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:pairs]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if wrong[row, column]
    ]
