"""Jester, from the publisher's CSV files.

`jester-v1-{train,validation}.csv`: rows `id;label`; `jester-v1-labels.csv`: one label per row, in
the order of the classes. Clips are folders of JPEGs `%05d.jpg`, called by their id. Measured by
top-1; never flipped, for swiping left is not swiping right.
"""

from pathlib import Path

from training.datasets.annotations import csv_records
from training.datasets.entries import DataSet
from training.datasets.files import Gathered, check_folder
from training.datasets.ledger import LOST_SHARE
from training.datasets.tasks import TopOne

SPLITS = ("train", "validation")


def read_jester(
    annotations: Path, clips: Path, split: str, *, missing_share: float = LOST_SHARE
) -> DataSet:
    """Read one split, ``train`` or ``validation``; the test split has no labels.

    Args:
        annotations: folder with the CSV files.
        clips: folder with one folder of JPEGs per clip.
        missing_share: clips that may be missing.

    Raises:
        AnnotationError: a file is missing or not in the format.
        TooManyLost: more clips than that are missing.
    """
    labels_file = annotations / "jester-v1-labels.csv"
    rows = csv_records(labels_file, ("label",), delimiter=";", header=False)
    labels = tuple(record.text("label") for record in rows)
    index = {label: number for number, label in enumerate(labels)}
    there = {path.name: path for path in check_folder(clips).iterdir()}
    gathered = Gathered("Jester", clips, missing_share)
    file = annotations / f"jester-v1-{split}.csv"
    for record in csv_records(file, ("id", "label"), delimiter=";", header=False):
        clip = record.text("id")
        label = record.one_of("label", index, f"labels of {labels_file.name}")
        gathered.add(clip, there.get(clip), (label,), split=split)
    entries, missing = gathered.finish()
    return DataSet("Jester", entries, labels, TopOne(len(labels)), mirror=None, missing=missing)
