"""Diving48 V2, from the publisher's JSON files.

`Diving48_V2_{train,test}.json`: vid_name, label, start_frame, end_frame; `Diving48_vocab.json`: one
list of four words per class. Clips are called by vid_name, which ends in a number within the
competition's video. Measured by top-1.

Frames are counted from 0 and the end is not included: our reading, because start_frame is 0 and
end_frame is the number of frames wherever the published clips are whole.
"""

from pathlib import Path

from training.datasets.annotations import json_records, read_json
from training.datasets.entries import DataSet, Frames
from training.datasets.errors import AnnotationError
from training.datasets.files import ClipFolder, Gathered
from training.datasets.ledger import LOST_SHARE
from training.datasets.tasks import TopOne

SPLITS = ("train", "test")


def read_diving48(
    annotations: Path, clips: Path, split: str, *, missing_share: float = LOST_SHARE
) -> DataSet:
    """Read one split, ``train`` or ``test``.

    Args:
        annotations: folder with the JSON files.
        clips: folder with the clips, in any layout.
        missing_share: clips that may be missing.

    Raises:
        AnnotationError: a file is missing or not in the format.
        TooManyLost: more clips than that are missing.
    """
    labels = _labels(annotations / "Diving48_vocab.json")
    there = ClipFolder(clips)
    gathered = Gathered("Diving48 V2", clips, missing_share)
    file = annotations / f"Diving48_V2_{split}.json"
    for record in json_records(file, ("vid_name", "label", "start_frame", "end_frame")):
        clip = record.text("vid_name")
        label = record.integer("label", below=len(labels))
        start, end = record.integer("start_frame"), record.integer("end_frame")
        if end <= start:
            raise record.wrong(f"expected end_frame after start_frame, got {start} and {end}")
        competition = clip.rpartition("_")[0]
        gathered.add(
            clip, there.find(clip), (label,),
            span=Frames(start, end), group=competition, split=split,
        )  # fmt: skip
    entries, missing = gathered.finish()
    return DataSet("Diving48 V2", entries, labels, TopOne(len(labels)), missing=missing)


def _labels(file: Path) -> tuple[str, ...]:
    document = read_json(file)
    if not isinstance(document, list) or not document:
        raise AnnotationError(file, "line 1", "expected a list with one list of words per class")
    for number, words in enumerate(document, start=1):
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise AnnotationError(file, f"item {number}", f"expected a list of words, got {words}")
    return tuple(" ".join(words) for words in document)
