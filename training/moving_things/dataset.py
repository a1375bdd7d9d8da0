"""A store of rendered clips as a data set among others."""

from pathlib import Path

from training.datasets.entries import DataSet
from training.datasets.errors import DataSetError
from training.datasets.files import Gathered
from training.datasets.tasks import TopOne
from training.moving_things.labels import LABELS, MIRROR
from training.moving_things.store import ClipStore, StoreError


def read_store(path: Path) -> DataSet:
    """Read a store of rendered clips (moving-things). Flips exchange left and right.

    Raises:
        DataSetError: no store, an unfinished one, or one of another renderer.
    """
    try:
        labels = ClipStore(path).labels.tolist()
    except StoreError as error:
        raise DataSetError(str(error)) from None
    gathered = Gathered("moving_things", path, 0.0)
    for number, label in enumerate(labels):
        gathered.add(f"clip {number}", path, (label,), stored=number, store=ClipStore)
    entries, _ = gathered.finish()
    mirror = {label: int(other) for label, other in enumerate(MIRROR) if other != label}
    return DataSet("moving_things", entries, LABELS, TopOne(len(LABELS)), mirror=mirror)
