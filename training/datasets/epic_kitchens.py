"""EPIC-Kitchens-100, from the publisher's CSV files.

`EPIC_100_{train,validation}.csv`: one row per action, with participant_id, video_id, start_ and
stop_timestamp (HH:MM:SS.ss), verb_class, noun_class; `EPIC_100_{verb,noun}_classes.csv`: id and
key. Actions are cut out of long videos, called by their video_id, as they are decoded. Measured by
the top-1 of verb, noun and action.
"""

import re
from pathlib import Path

from training.datasets.annotations import Record, csv_records
from training.datasets.entries import DataSet, Seconds
from training.datasets.files import ClipFolder, Gathered
from training.datasets.ledger import LOST_SHARE
from training.datasets.tasks import VerbNoun

SPLITS = ("train", "validation")
_COLUMNS = (
    "narration_id",
    "participant_id",
    "video_id",
    "start_timestamp",
    "stop_timestamp",
    "verb_class",
    "noun_class",
)


def read_epic_kitchens(
    annotations: Path, clips: Path, split: str, *, missing_share: float = LOST_SHARE
) -> DataSet:
    """Read one split, ``train`` or ``validation``; the test split has no labels.

    The labels are all verbs, then all nouns. Participants are the groups.

    Args:
        annotations: folder with the CSV files.
        clips: folder with the videos, in any layout.
        missing_share: actions whose video may be missing.

    Raises:
        AnnotationError: a file is missing or not in the format.
        TooManyLost: more actions than that have no video.
    """
    verbs = _names(annotations / "EPIC_100_verb_classes.csv")
    nouns = _names(annotations / "EPIC_100_noun_classes.csv")
    there = ClipFolder(clips)
    gathered = Gathered("EPIC-Kitchens-100", clips, missing_share)
    for record in csv_records(annotations / f"EPIC_100_{split}.csv", _COLUMNS):
        video = record.text("video_id")
        verb = record.integer("verb_class", below=len(verbs))
        noun = record.integer("noun_class", below=len(nouns))
        start, stop = _seconds(record, "start_timestamp"), _seconds(record, "stop_timestamp")
        if stop < start:
            raise record.wrong(f"expected stop_timestamp after start_timestamp, got {stop:g} s")
        gathered.add(
            f"{record.text('narration_id')} of {video}", there.find(video), (verb, noun),
            span=Seconds(start, stop), group=record.text("participant_id"), split=split,
        )  # fmt: skip
    entries, missing = gathered.finish()
    task = VerbNoun(len(verbs), len(nouns))
    return DataSet("EPIC-Kitchens-100", entries, verbs + nouns, task, missing=missing)


def _names(file: Path) -> tuple[str, ...]:
    """Class names in the order of their ids, which must be 0, 1, 2, ..."""
    names: list[str] = []
    for record in csv_records(file, ("id", "key")):
        if record.integer("id") != len(names):
            raise record.wrong(f"expected id {len(names)}, got {record.values['id']}")
        names.append(record.text("key"))
    return tuple(names)


def _seconds(record: Record, key: str) -> float:
    match = re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)", record.text(key), re.ASCII)
    if match is None:
        raise record.wrong(f"expected {key!r} as HH:MM:SS.ss, got {record.values[key]!r}")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
