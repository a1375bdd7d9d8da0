"""Entries in shared memory, so that worker processes need not each be sent all of them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.datasets.entries import Entry, Frames, Seconds
from training.datasets.stores import StoreOpener

# The columns of the table: where an entry's texts and labels end, its span, its number in a store
# and what opens that, -1 for none.
_PATH, _GROUP, _SPLIT, _LABELS, _KIND, _START, _END, _STORED, _STORE = range(9)
_COLUMNS = 9
_WHOLE, _SECONDS, _FRAMES = range(3)


class SharedEntries:
    """Entries of a data set, packed; an :class:`Entry` is made when it is asked for.

    Sent to another process, it is two handles on shared memory, whatever the number of entries.
    240,000 clips of Kinetics take 42 MB there, once for all workers of a process.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        table = np.empty((len(entries) + 1, _COLUMNS), np.float64)
        self._openers: list[StoreOpener] = []
        table[0] = 0
        texts = bytearray()
        labels: list[int] = []
        for row, entry in enumerate(entries, start=1):
            ends = []
            for text in (os.fspath(entry.path), entry.group, entry.split):
                # As the system spells file names, also those that are no text.
                texts += os.fsencode(text)
                ends.append(len(texts))
            labels += entry.labels
            span = entry.span
            kind = _WHOLE if span is None else _SECONDS if isinstance(span, Seconds) else _FRAMES
            start, end = (0, 0) if span is None else (span.start, span.end)
            stored = -1 if entry.stored is None else entry.stored
            table[row] = (*ends, len(labels), kind, start, end, stored, self._number(entry.store))
        self._count = len(entries)
        # One block for what is bytes and one for what is numbers: each takes a file descriptor.
        self._texts = torch.from_numpy(np.frombuffer(bytes(texts) or b"\0", np.uint8).copy())
        numbers = np.concatenate([table.reshape(-1), np.array(labels, np.float64)])
        self._numbers = torch.from_numpy(numbers)
        for block in (self._texts, self._numbers):
            block.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Entry:
        """Entry number ``index``, from 0.

        Raises:
            IndexError: no such entry.
        """
        if not 0 <= index < self._count:
            raise IndexError(f"entry {index} of {self._count}")
        rows = _COLUMNS * (self._count + 1)
        first = _COLUMNS * index
        before, mine = self._numbers[first : first + 2 * _COLUMNS].reshape(2, _COLUMNS).tolist()
        path, group, split = (
            os.fsdecode(_bytes(self._texts, start, end))
            for start, end in (
                (before[_SPLIT], mine[_PATH]),
                (mine[_PATH], mine[_GROUP]),
                (mine[_GROUP], mine[_SPLIT]),
            )
        )
        labels = self._numbers[rows + int(before[_LABELS]) : rows + int(mine[_LABELS])]
        span: Seconds | Frames | None = None
        if mine[_KIND] == _SECONDS:
            span = Seconds(mine[_START], mine[_END])
        elif mine[_KIND] == _FRAMES:
            span = Frames(int(mine[_START]), int(mine[_END]))
        return Entry(
            Path(path),
            tuple(int(label) for label in labels.tolist()),
            span,
            group,
            split,
            None if mine[_STORED] < 0 else int(mine[_STORED]),
            None if mine[_STORE] < 0 else self._openers[int(mine[_STORE])],
        )

    def _number(self, opener: StoreOpener | None) -> int:
        if opener is None:
            return -1
        if opener not in self._openers:
            self._openers.append(opener)
        return self._openers.index(opener)


def _bytes(texts: Tensor, start: float, end: float) -> bytes:
    return texts[int(start) : int(end)].numpy().tobytes()
