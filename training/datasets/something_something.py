"""Something-Something V2, from the publisher's JSON files.

`something-something-v2-{train,validation}.json` (or `{train,validation}.json`): id and template,
`[something]` in brackets; `something-something-v2-labels.json` (or `labels.json`): template without
brackets to class number. Clips are called by their id. Measured by top-1, at 2x3 views; never
flipped, for left and right are in the labels.
"""

from pathlib import Path

from training.datasets.annotations import first_there, json_records, read_json
from training.datasets.entries import DataSet
from training.datasets.errors import AnnotationError
from training.datasets.files import ClipFolder, Gathered
from training.datasets.ledger import LOST_SHARE
from training.datasets.tasks import TopOne

SPLITS = ("train", "validation")


def read_something_something(
    annotations: Path, clips: Path, split: str, *, missing_share: float = LOST_SHARE
) -> DataSet:
    """Read one split, ``train`` or ``validation``; the test split has no labels.

    Args:
        annotations: folder with the JSON files.
        clips: folder with the clips, in any layout.
        missing_share: clips that may be missing.

    Raises:
        AnnotationError: a file is missing or not in the format.
        TooManyLost: more clips than that are missing.
    """
    prefix = "something-something-v2-"
    labels_file = first_there(annotations, f"{prefix}labels.json", "labels.json")
    labels = _labels(labels_file)
    index = {label: number for number, label in enumerate(labels)}
    there = ClipFolder(clips)
    gathered = Gathered("Something-Something V2", clips, missing_share)
    file = first_there(annotations, f"{prefix}{split}.json", f"{split}.json")
    for record in json_records(file, ("id", "template")):
        clip, label = record.text("id"), record.text("template").replace("[", "").replace("]", "")
        if label not in index:
            raise record.wrong(
                f"expected the template to be one of the {len(index)} of {labels_file.name}, "
                f"got {label!r}"
            )
        gathered.add(clip, there.find(clip), (index[label],), split=split)
    entries, missing = gathered.finish()
    return DataSet(
        "Something-Something V2", entries, labels, TopOne(len(labels)), mirror=None, missing=missing
    )


def _labels(file: Path) -> tuple[str, ...]:
    document = read_json(file)
    expected = 'expected {"template": "number"} with the numbers from 0 on'
    if not isinstance(document, dict):
        raise AnnotationError(file, "line 1", f"{expected}, got {type(document).__name__}")
    by_number = {str(number): label for label, number in document.items()}
    for number in range(len(document)):
        if str(number) not in by_number:
            raise AnnotationError(file, "", f"{expected}, {number} is not there")
    return tuple(by_number[str(number)] for number in range(len(document)))
