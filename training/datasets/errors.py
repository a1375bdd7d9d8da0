"""What can go wrong with a data set.

DataSetError
├── AnnotationError    an annotation file is not there, or not what its format says
├── UnreadableClip     one clip cannot be decoded; counted and skipped
└── TooManyLost        more clips are missing or unreadable than the run may do without
"""

from pathlib import Path


class DataSetError(Exception):
    """Base of everything here; the text is for the person who started the run."""


class AnnotationError(DataSetError):
    """``file``, ``place`` within it ("line 7", "item 3", or "" for all of it), what was wrong."""

    def __init__(self, file: Path, place: str, reason: str) -> None:
        self.file, self.place, self.reason = file, place, reason
        super().__init__(f"{file}, {place}: {reason}" if place else f"{file}: {reason}")


class UnreadableClip(DataSetError):
    """``clip`` as the log names it, and the decoder's reason."""

    def __init__(self, clip: str, reason: str) -> None:
        self.clip, self.reason = clip, reason
        super().__init__(f"{clip}: {reason}")

    def __reduce__(self) -> tuple[type["UnreadableClip"], tuple[str, str]]:
        # So that it survives the way back from a worker process.
        return UnreadableClip, (self.clip, self.reason)


class TooManyLost(DataSetError):
    """More than the set share of the clips is missing or unreadable."""
