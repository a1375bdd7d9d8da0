"""Which rows go into one run: by when they are due, by token cost, and with little padding.

A run of the extractor costs rows times its longest row, because shorter rows are padded to it. So
rows of equal length are put together first, wherever they stand in the queue, and other lengths
only as far as the padding stays small. The job that is due first is in every batch, so that
none is passed over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.engine.jobs import Job, Part


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What a batch may be.

    Attributes:
        max_tokens: rows times the longest row, padding included; a single row may exceed it.
        max_padding_ratio: share of these tokens that may be padding.
        max_rows: by tokens of a row, how many such rows are worth running together.
    """

    max_tokens: int
    max_padding_ratio: float
    max_rows: Callable[[int], int]

    def room(self, longest: int) -> int:
        """How many rows fit when the longest has this number of tokens; at least one."""
        return max(1, min(self.max_rows(longest), self.max_tokens // longest))


def form_batch(queue: Sequence[Job], rules: BatchRules) -> list[Part]:
    """Take the next batch's rows out of the jobs; the queue itself is left as it is.

    Args:
        queue: jobs with rows left, what is due first in front; not empty.
        rules: what the batch may be.

    Returns:
        Parts with at least one row of the first job; ``taken`` of their jobs has moved on.
    """
    batch = _Batch(rules, longest=queue[0].tokens)
    for job in queue:
        if job.tokens == queue[0].tokens and not batch.add(job):
            break
    for job in queue:
        if job.tokens != queue[0].tokens:
            batch.add(job)
    return batch.parts


class _Batch:
    def __init__(self, rules: BatchRules, longest: int) -> None:
        self.parts: list[Part] = []
        self._rules, self._longest = rules, longest
        self._rows = self._tokens = 0

    def add(self, job: Job) -> bool:
        """Take as many rows of the job as there is room for; False if there was none for all."""
        rows = self._most_rows(job)
        if rows:
            self.parts.append(Part(job, job.taken, job.taken + rows))
            job.taken += rows
            self._rows += rows
            self._tokens += rows * job.tokens
            self._longest = max(self._longest, job.tokens)
        return job.left == 0

    def _most_rows(self, job: Job) -> int:
        longest = max(self._longest, job.tokens)
        room = min(job.left, self._rules.room(longest) - self._rows)
        # Many long rows may be worth padding a short one for, where one is not.
        for rows in range(room, 0, -1):
            cost = (self._rows + rows) * longest
            padding = cost - self._tokens - rows * job.tokens
            if padding <= self._rules.max_padding_ratio * cost:
                return rows
        return 0
