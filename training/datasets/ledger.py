"""Counts the clips that a run has to do without, and stops it when they are too many."""

import logging
import math
from itertools import islice

from training.datasets.errors import TooManyLost

# What a run may do without unless told otherwise: our choice, small enough not to move a score.
LOST_SHARE = 0.01

# From this number of clips on one may be lost, whatever the share: it is at most a twentieth.
_SMALL = 20

# How many lost clips an error names.
_NAMED = 5

_log = logging.getLogger(__name__)


class Ledger:
    """The clips of one data set that are missing or unreadable; each counts once.

    Args:
        what: the data set, for the log.
        total: how many clips there should be.
        share: how much of them may be lost before :meth:`check` raises; see :attr:`allowed`.
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

    @property
    def allowed(self) -> int:
        """How many clips may be lost: the share of them; and of 20 or more one in any case, because
        a single bad file must not stop a small folder, unless the share is 0."""
        least = int(self.share > 0 and self.total >= _SMALL)
        return max(least, int(self.share * self.total + 1e-9))

    def add(self, clip: str, reason: str) -> None:
        """Count ``clip``, and name it in the log the first time."""
        if clip not in self.lost:
            self.lost[clip] = reason
            _log.log(self.level, "%s: skipped %s: %s", self.what, clip, reason)

    def check(self) -> None:
        """Stop if more than the share is lost.

        Raises:
            TooManyLost: says how many, names the first few, and what to type to allow as many.
        """
        if len(self.lost) <= self.allowed:
            return
        first = "".join(
            f"\n  {clip}: {reason}" for clip, reason in islice(self.lost.items(), _NAMED)
        )
        more = len(self.lost) - _NAMED
        share = math.ceil(1000 * len(self.lost) / self.total) / 1000
        raise TooManyLost(
            f"{self.what}: {len(self.lost)} of {self.total} clips are missing or unreadable, "
            f"at most {self.allowed} may be (a share of {self.share:.3g}):{first}"
            + (f"\n  and {more} more" if more > 0 else "")
            + "\nMend or remove them, or do without them: --lost-share "
            f"{share:g} (in Python lost_share={share:g}). `lookwhen train data check ... "
            "--decode` finds all that do not decode."
        )
