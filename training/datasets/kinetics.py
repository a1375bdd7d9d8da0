"""Kinetics-400, from the publisher's CSV files. The 600 and 700 versions have the same format.

`kinetics_{train,val,test}.csv` (or `{train,val,test}.csv`): label, youtube_id, time_start,
time_end. Clips are cut already and are called `{youtube_id}_{start:06d}_{end:06d}`. Classes are
numbered in the order of their names. Measured by top-1, at 4x3 views.
"""

from pathlib import Path

from training.datasets.annotations import csv_records, first_there
from training.datasets.entries import DataSet
from training.datasets.files import ClipFolder, Gathered
from training.datasets.ledger import LOST_SHARE
from training.datasets.tasks import TopOne

SPLITS = ("train", "val", "test")
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def read_kinetics(
    annotations: Path, clips: Path, split: str, *, missing_share: float = LOST_SHARE
) -> DataSet:
    """Read one split.

    Args:
        annotations: folder with the CSV files; the training file is read for the classes too.
        clips: folder with the clips, in any layout.
        split: ``train``, ``val`` or ``test``.
        missing_share: clips that may be missing. Of YouTube's, a twentieth or more is gone: set
            this to what your copy lacks.

    Raises:
        AnnotationError: a file is missing or not in the format.
        TooManyLost: more clips than that are missing.
    """
    train = first_there(annotations, "kinetics_train.csv", "train.csv")
    file = first_there(annotations, f"kinetics_{split}.csv", f"{split}.csv")
    labels = tuple(sorted({record.text("label") for record in csv_records(train, _COLUMNS)}))
    index = {label: number for number, label in enumerate(labels)}
    there = ClipFolder(clips)
    gathered = Gathered("Kinetics", clips, missing_share)
    for record in csv_records(file, _COLUMNS):
        video = record.text("youtube_id")
        start, end = record.integer("time_start"), record.integer("time_end")
        clip = f"{video}_{start:06d}_{end:06d}"
        label = record.one_of("label", index, f"classes of {train.name}")
        gathered.add(clip, there.find(clip), (label,), group=video, split=split)
    entries, missing = gathered.finish()
    return DataSet("Kinetics", entries, labels, TopOne(len(labels)), missing=missing)
