"""Finding the clips that annotations name, and what to do about those that are not there."""

import logging
from pathlib import Path

from training.datasets.entries import Entry, Frames, Seconds
from training.datasets.errors import DataSetError
from training.datasets.ledger import Ledger
from training.datasets.stores import StoreOpener
from video.files import VIDEO_SUFFIXES, videos_below

_log = logging.getLogger(__name__)


class ClipFolder:
    """The videos below a folder by their name without suffix.

    Sets are kept in one folder, by split, by class or by person, and re-encoded into other
    containers: whichever it is, a clip is found by its id.

    Raises:
        DataSetError: no such folder, or no video in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}
        for path in videos_below(check_folder(folder)):
            self._paths.setdefault(path.stem, path)
        if not self._paths:
            raise DataSetError(f"{folder}: no video files ({', '.join(VIDEO_SUFFIXES)}) below it")

    def find(self, stem: str) -> Path | None:
        return self._paths.get(stem)


class Gathered:
    """Entries as a reader finds them, and the clips it does not find.

    Args:
        what: name of the data set.
        clips: folder that is searched, for the log.
        share: how many of the clips may be missing.
    """

    def __init__(self, what: str, clips: Path, share: float) -> None:
        self.entries: list[Entry] = []
        self.clips = clips
        # One line for each of thousands would bury everything else: the names are at INFO, and in
        # `DataSet.missing`.
        self._ledger = Ledger(what, 0, share, level=logging.INFO)

    def add(
        self,
        clip: str,
        path: Path | None,
        labels: tuple[int, ...],
        *,
        span: Seconds | Frames | None = None,
        group: str = "",
        split: str = "",
        stored: int | None = None,
        store: StoreOpener | None = None,
    ) -> None:
        """Count the clip: an entry, or missing if ``path`` is None."""
        self._ledger.total += 1
        if path is None:
            self._ledger.add(clip, f"no such clip below {self.clips}")
        else:
            self.entries.append(Entry(path, labels, span, group, split, stored, store))

    def finish(self) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """(entries, missing clips).

        Raises:
            TooManyLost: more than the share is missing.
        """
        self._ledger.check()
        missing = tuple(self._ledger.lost)
        if missing:
            _log.warning(
                "%s: %d clips are not below %s, the first is %s",
                self._ledger.what, len(missing), self.clips, missing[0],
            )  # fmt: skip
        return tuple(self.entries), missing


def check_folder(folder: Path) -> Path:
    """``folder`` itself.

    Raises:
        DataSetError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataSetError(f"{folder}: expected a folder with clips, there is none")
    return folder
