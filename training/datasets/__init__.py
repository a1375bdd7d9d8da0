"""Data sets for training and measuring: annotation files in, batches of views out.

A reader (:mod:`.kinetics`, :mod:`.lists`, ...) returns a :class:`DataSet`: entries, names of the
classes, and a :class:`Task` that says what is predicted and how it is measured. `split_off` and
`k_fold` split it; `training_batches` and `evaluation_batches` decode it.
"""

from training.datasets.augment import Augmentation
from training.datasets.catalogue import KINDS, read_dataset
from training.datasets.entries import DataSet, Entry, Frames, Seconds, without_labels
from training.datasets.errors import AnnotationError, DataSetError, TooManyLost, UnreadableClip
from training.datasets.ledger import LOST_SHARE, Ledger
from training.datasets.splits import k_fold, split_off
from training.datasets.tasks import MultiLabel, Task, TopOne, VerbNoun
from training.datasets.views import Batch, Batches, evaluation_batches, training_batches

__all__ = [
    "KINDS",
    "LOST_SHARE",
    "AnnotationError",
    "Augmentation",
    "Batch",
    "Batches",
    "DataSet",
    "DataSetError",
    "Entry",
    "Frames",
    "Ledger",
    "MultiLabel",
    "Seconds",
    "Task",
    "TooManyLost",
    "TopOne",
    "UnreadableClip",
    "VerbNoun",
    "evaluation_batches",
    "k_fold",
    "read_dataset",
    "split_off",
    "training_batches",
    "without_labels",
]
