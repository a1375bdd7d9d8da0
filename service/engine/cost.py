"""How long the two graphs are expected to take."""

from collections.abc import Callable

from bundle.schema import Macs

# Weight of the newest measurement in the correction of a stage's predictions.
_NEWEST = 0.1


class CostModel:
    """Predicts seconds on this machine, and corrects itself by what was measured.

    A prediction is for work that runs alone, as soon as it is its turn; what stands before it is
    :meth:`backlog_seconds`.

    Args:
        macs: the bundle's multiply-accumulates, which give predictions their shape.
        backlog: seconds of predicted work that a new job would wait for.
    """

    def __init__(self, macs: Macs, backlog: Callable[[], float]) -> None:
        self._macs, self._backlog = macs, backlog
        self._seconds_per_mac = {"select": 0.0, "extract": 0.0}

    def select_seconds(self, views: int) -> float:
        """Downscaled views through the selector."""
        return self._seconds_per_mac["select"] * self._macs.selector * views

    def extract_seconds(self, kept: int, views: int) -> float:
        """``views`` views of ``kept`` tokens each through the extractor."""
        return self._seconds_per_mac["extract"] * self._extractor_macs(kept) * views

    def backlog_seconds(self) -> float:
        """Work that is queued and running ahead of a new job, on all turns together."""
        return self._backlog()

    def measured_select(self, views: int, seconds: float) -> None:
        """Learn from a run."""
        self._measured("select", self._macs.selector * views, seconds)

    def measured_extract(self, kept: int, views: int, seconds: float) -> None:
        """Learn from a run."""
        self._measured("extract", self._extractor_macs(kept) * views, seconds)

    def _measured(self, stage: str, macs: int, seconds: float) -> None:
        rate, known = seconds / max(1, macs), self._seconds_per_mac[stage]
        self._seconds_per_mac[stage] = known + _NEWEST * (rate - known) if known else rate

    def _extractor_macs(self, kept: int) -> int:
        return self._macs.at(kept) - self._macs.selector
