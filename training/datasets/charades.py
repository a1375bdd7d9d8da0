"""Charades, from the publisher's CSV files.

`Charades_v1_{train,test}.csv`: id, subject, actions as `c092 11.90 21.20;c147 0.00 12.60`;
`Charades_v1_classes.txt`: rows `c000 Holding some clothes`. Clips are called by their id. Each
clip has any number of classes; measured by mAP over whole clips.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from training.datasets.annotations import Record, csv_records, read_text
from training.datasets.entries import DataSet, Seconds
from training.datasets.errors import AnnotationError
from training.datasets.files import ClipFolder, Gathered
from training.datasets.ledger import LOST_SHARE
from training.datasets.tasks import MultiLabel

SPLITS = ("train", "test")


def read_charades(
    annotations: Path,
    clips: Path,
    split: str,
    *,
    segments: bool = False,
    missing_share: float = LOST_SHARE,
) -> DataSet:
    """Read one split, ``train`` or ``test``.

    Args:
        annotations: folder with the CSV files and the class names.
        clips: folder with the videos, in any layout.
        segments: one entry per action, cut to its seconds and labelled with every class that is
            acted within them, instead of one per video. For training: sixteen frames of half a
            minute may miss an action of three seconds. The measure is over whole videos.
        missing_share: videos that may be missing.

    Raises:
        AnnotationError: a file is missing or not in the format.
        TooManyLost: more videos than that are missing.
    """
    labels = _labels(annotations / "Charades_v1_classes.txt")
    there = ClipFolder(clips)
    gathered = Gathered("Charades", clips, missing_share)
    file = annotations / f"Charades_v1_{split}.csv"
    for record in csv_records(file, ("id", "subject", "actions")):
        clip, subject = record.text("id"), record.text("subject")
        path = there.find(clip)
        actions = _actions(record, len(labels))
        if not segments or path is None:
            present = tuple(sorted({action.label for action in actions}))
            gathered.add(clip, path, present, group=subject, split=split)
            continue
        for action in actions:
            if action.end <= action.start:
                continue  # nothing of it is to be seen
            within = {
                other.label
                for other in actions
                if other.start < action.end and action.start < other.end
            }
            gathered.add(
                clip, path, tuple(sorted(within)),
                span=Seconds(action.start, action.end), group=subject, split=split,
            )  # fmt: skip
    entries, missing = gathered.finish()
    return DataSet("Charades", entries, labels, MultiLabel(len(labels)), missing=missing)


@dataclass(frozen=True, slots=True)
class _Action:
    label: int
    start: float
    end: float


def _actions(record: Record, classes: int) -> list[_Action]:
    actions = []
    for text in filter(None, (part.strip() for part in record.values["actions"].split(";"))):
        match = re.fullmatch(r"c(\d{3}) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)", text, re.ASCII)
        if match is None:
            raise record.wrong(f"expected actions such as 'c092 11.90 21.20', got {text!r}")
        if int(match[1]) >= classes:
            raise record.wrong(f"expected classes from c000 to c{classes - 1:03d}, got {text!r}")
        actions.append(_Action(int(match[1]), float(match[2]), float(match[3])))
    return actions


def _labels(file: Path) -> tuple[str, ...]:
    names: list[str] = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        code, _, name = line.strip().partition(" ")
        if code != f"c{len(names):03d}" or not name:
            raise AnnotationError(
                file, f"line {number}", f"expected 'c{len(names):03d} NAME', got {line!r}"
            )
        names.append(name)
    return tuple(names)
