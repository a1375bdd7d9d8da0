"""Counts the clips that a run has to do without, and stops it when they are too many."""

import logging
from itertools import islice

from training.datasets.errors import TooManyLost

# What a run may do without unless told otherwise: our choice, small enough not to move a score.
LOST_SHARE = 0.01

# How many lost clips an error names.
_NAMED = 5

_log = logging.getLogger(__name__)


class Ledger:
    """The clips of one data set that are missing or unreadable; each counts once.

    Args:
        what: the data set, for the log.
        total: how many clips there should be.
        share: how much of them may be lost before :meth:`check` raises.
        level: at which each lost clip is named in the log.

    Raises:
        ValueError: a share outside [0, 1].
    """

    def __init__(
        self, what: str, total: int, share: float = LOST_SHARE, level: int = logging.WARNING
    ) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"the share of lost clips must lie in [0, 1], got {share}")
        self.what, self.total, self.share, self.level = what, total, share, level
        self.lost: dict[str, str] = {}

    def add(self, clip: str, reason: str) -> None:
        """Count ``clip``, and name it in the log the first time."""
        if clip not in self.lost:
            self.lost[clip] = reason
            _log.log(self.level, "%s: skipped %s: %s", self.what, clip, reason)

    def check(self) -> None:
        """Stop if more than the share is lost.

        Raises:
            TooManyLost: names how many, the first few, and how to allow more.
        """
        if len(self.lost) <= self.share * self.total:
            return
        first = "".join(
            f"\n  {clip}: {reason}" for clip, reason in islice(self.lost.items(), _NAMED)
        )
        more = len(self.lost) - _NAMED
        raise TooManyLost(
            f"{self.what}: {len(self.lost)} of {self.total} clips are missing or unreadable, more "
            f"than the {self.share:.3g} that may be lost:{first}"
            + (f"\n  and {more} more" if more > 0 else "")
        )
