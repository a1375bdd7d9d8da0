"""What was said of each clip, as a CSV file; and several such files as one measurement.

A row is a clip at one setting. Besides names and score there is a column of zeros and ones for each
figure that is a share of the clips, so that folds can be pooled without the model's scores.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from model.writing import whole_file
from training.datasets import DataSet, Task, VerbNoun
from training.evaluation.measure import Measurement, Outcome
from training.evaluation.methods import Setting
from training.evaluation.points import Result
from training.evaluation.statistics import Resampling, Share

_FIELDS = ("clip", "group", "series", "setting", "sparsity", "target", "predicted", "score")


class PredictionsError(Exception):
    """A file of predictions that cannot be used; the text names it and says why."""


def write_predictions(
    path: Path, measurement: Measurement, dataset: DataSet, names: Sequence[str]
) -> None:
    """Write a row per setting and clip, settings one after the other.

    ``names`` are what the data set's clips are called in the file. ``score`` is what the predicted
    class got: a probability, the mean over views; with verbs and nouns the product of both.
    """
    task = dataset.task
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        first = True
        for outcome in measurement.outcomes:
            entries = [dataset.entries[entry] for entry in measurement.entries]
            targets = torch.stack([task.target(entry.labels) for entry in entries])
            hits = task.hits(torch.from_numpy(outcome.probabilities), targets)
            if first:
                writer.writerow([*_FIELDS, *hits])
                first = False
            setting = outcome.setting
            for row, entry in enumerate(entries):
                predicted, score = _prediction(task, outcome, row)
                writer.writerow(
                    [
                        names[measurement.entries[row]],
                        entry.group,
                        setting.series,
                        setting.name,
                        "" if setting.sparsity is None else f"{setting.sparsity:g}",
                        _named(task, dataset.labels, entry.labels),
                        _named(task, dataset.labels, predicted),
                        f"{score:.6g}",
                        *(int(right[row]) for right in hits.values()),
                    ]
                )


def _prediction(task: Task, outcome: Outcome, row: int) -> tuple[tuple[int, ...], float]:
    """The best class, or verb and noun, and what it got."""
    scores = outcome.probabilities[row]
    if isinstance(task, VerbNoun):
        verbs, nouns = scores[: task.verbs], scores[task.verbs :]
        return (int(verbs.argmax()), int(nouns.argmax())), float(verbs.max() * nouns.max())
    return (int(scores.argmax()),), float(scores.max())


def _named(task: Task, names: Sequence[str], labels: Sequence[int]) -> str:
    if isinstance(task, VerbNoun):
        verb, noun = labels
        return f"{names[verb]} / {names[task.verbs + noun]}"
    return "; ".join(names[label] for label in labels)


def read_predictions(paths: Sequence[Path]) -> tuple[list[Result], Resampling, tuple[str, ...]]:
    """Pool files of predictions, such as those of the folds of a cross-validation.

    Returns:
        A result per setting, all of the same clips in the same order; how these are resampled, by
        group; and the names of the classes, in alphabetical order.

    Raises:
        PredictionsError: not such a file, files with other figures, a clip in two files, or a
            setting that misses clips which another one has.
    """
    figures: list[str] | None = None
    found: dict[Setting, dict[str, dict[str, str]]] = defaultdict(dict)
    for path in paths:
        rows, theirs = _read(path)
        if figures is not None and theirs != figures:
            raise PredictionsError(f"{path}: has the figures {theirs}, the files before {figures}")
        figures = theirs
        for number, row in enumerate(rows, start=2):
            try:
                sparsity = float(row["sparsity"]) if row["sparsity"] else None
                if any(row[name] not in ("0", "1") for name in figures):
                    raise ValueError("figures are 0 or 1")
            except (TypeError, ValueError) as error:
                raise PredictionsError(f"{path}, line {number}: {error}") from None
            clips = found[Setting(row["series"], row["setting"], sparsity)]
            if row["clip"] in clips:
                raise PredictionsError(
                    f"{path}, line {number}: the clip {row['clip']} was predicted before at "
                    f"{row['setting']}; folds must not share clips"
                )
            clips[row["clip"]] = row
    if not found or not figures:
        raise PredictionsError("there is nothing to pool: no predictions")
    most = max(found.values(), key=len)
    clips_in_order = list(most)
    for setting, rows_of in found.items():
        if rows_of.keys() != most.keys():
            missing = next(clip for clip in clips_in_order if clip not in rows_of)
            raise PredictionsError(f"{setting.series} {setting.name} misses the clip {missing}")
    return _pooled(found, clips_in_order, figures)


def _pooled(
    found: dict[Setting, dict[str, dict[str, str]]], clips: list[str], figures: list[str]
) -> tuple[list[Result], Resampling, tuple[str, ...]]:
    rows = {setting: [by_clip[clip] for clip in clips] for setting, by_clip in found.items()}
    # A confusion is of single classes; pairs of verb and noun would make a table of thousands.
    labels: tuple[str, ...] = ()
    if "top1" in figures:
        seen = {
            row[name] for some in rows.values() for row in some for name in ("target", "predicted")
        }
        labels = tuple(sorted(seen))
    number = {label: i for i, label in enumerate(labels)}
    results = [
        Result(
            setting,
            {name: Share(np.array([row[name] == "1" for row in some])) for name in figures},
            np.array([[number[row["target"]], number[row["predicted"]]] for row in some])
            if labels
            else None,
        )
        for setting, some in rows.items()
    ]
    any_rows = next(iter(rows.values()))
    return results, Resampling.of_groups([row["group"] for row in any_rows]), labels


def _read(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows, and the names of the figures."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or [])
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PredictionsError(f"{path}: cannot be read ({error})") from None
    if tuple(names[: len(_FIELDS)]) != _FIELDS:
        raise PredictionsError(f"{path}: is no file of predictions")
    figures = names[len(_FIELDS) :]
    if not figures:
        raise PredictionsError(
            f"{path}: holds no figure that is a share of clips; mean average precision cannot be "
            "pooled from predictions"
        )
    if any(None in row or None in row.values() for row in rows):
        raise PredictionsError(f"{path}: has rows of another length than its header")
    return rows, figures
