"""Splits for sets that come without: by a share or in folds, never a group on both sides.

Groups go, the largest first, where their classes are missed most, so that every part has about the
same mixture of classes (iterative stratification, applied to groups). Our choice: a part drawn by
chance alone has too few of a rare class where there are few clips.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from training.datasets.entries import DataSet
from training.datasets.errors import DataSetError


def split_off(dataset: DataSet, share: float, seed: int) -> tuple[DataSet, DataSet]:
    """(the rest, about ``share`` of the clips), the same for the same seed.

    Raises:
        ValueError: a share outside (0, 1).
        DataSetError: fewer than two groups. Each side gets one at least.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of a split must lie between 0 and 1, got {share}")
    part = _assign(dataset, (1 - share, share), seed)
    return dataset.subset(np.flatnonzero(part == 0)), dataset.subset(np.flatnonzero(part == 1))


def k_fold(dataset: DataSet, folds: int, seed: int) -> Iterator[tuple[DataSet, DataSet]]:
    """(the rest, the fold) for each of ``folds`` folds; each clip is in one fold.

    Raises:
        ValueError: fewer than two folds.
        DataSetError: fewer groups than folds.
    """
    if folds < 2:
        raise ValueError(f"cross-validation needs at least two folds, got {folds}")
    part = _assign(dataset, (1 / folds,) * folds, seed)
    for fold in range(folds):
        held = part == fold
        yield dataset.subset(np.flatnonzero(~held)), dataset.subset(np.flatnonzero(held))


def draw(dataset: DataSet, clips: int, seed: int) -> DataSet:
    """This number of clips, in their order, with the mixture of classes that all of them have.

    Each class gives its share, rounded so that they add up; which clips it gives, chance decides:
    the same for the same seed and the same clips. For comparisons on a part of a large set. The
    paper compares on 20,000 clips of each and does not say which.

    Raises:
        DataSetError: there are fewer clips than that.
    """
    if not 0 < clips <= len(dataset):
        raise DataSetError(
            f"{dataset.name}: a subset of {clips} clips cannot be drawn from {len(dataset)}"
        )
    rng = np.random.default_rng(seed)
    classes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index in rng.permutation(len(dataset)).tolist():
        classes[dataset.entries[index].labels].append(index)
    # In the order of the permutation, so that chance decides among classes of one size.
    exact = {labels: len(members) * clips / len(dataset) for labels, members in classes.items()}
    given = {labels: int(share) for labels, share in exact.items()}
    short = clips - sum(given.values())
    for labels in sorted(exact, key=lambda labels: given[labels] - exact[labels])[:short]:
        given[labels] += 1
    chosen = [index for labels, members in classes.items() for index in members[: given[labels]]]
    return dataset.subset(sorted(chosen))


def _groups(dataset: DataSet) -> list[list[int]]:
    """The indices of each group; a clip without a group is one of its own."""
    groups: dict[str | int, list[int]] = defaultdict(list)
    for index, entry in enumerate(dataset.entries):
        groups[entry.group or index].append(index)
    return list(groups.values())


def _assign(dataset: DataSet, shares: tuple[float, ...], seed: int) -> NDArray[np.int64]:
    """The part of each entry: int64 [entries]."""
    groups = _groups(dataset)
    if len(groups) < len(shares):
        raise DataSetError(
            f"{dataset.name}: {len(groups)} groups cannot be put into {len(shares)} parts"
        )
    rng = np.random.default_rng(seed)
    order = [groups[i] for i in rng.permutation(len(groups))]
    order.sort(key=len, reverse=True)  # stable: the seed decides among equals

    total = _classes(dataset, range(len(dataset)))
    # How many clips of each class, and in all, a part still misses.
    missed = [{label: share * count for label, count in total.items()} for share in shares]
    room = [share * len(dataset) for share in shares]
    part = np.full(len(dataset), -1, np.int64)
    empty = set(range(len(shares)))
    for done, group in enumerate(order):
        held = _classes(dataset, group)
        # No part may end empty: the last groups are kept for those that still are.
        open_parts = empty if len(order) - done <= len(empty) else range(len(shares))

        def need(number: int, held: Counter[int] = held) -> tuple[float, float, int]:
            wanted = sum(count * missed[number][label] for label, count in held.items())
            return wanted, room[number], -number

        chosen = max(open_parts, key=need)
        part[group] = chosen
        empty.discard(chosen)
        room[chosen] -= len(group)
        for label, count in held.items():
            missed[chosen][label] -= count
    return part


def _classes(dataset: DataSet, indices: Iterable[int]) -> Counter[int]:
    return Counter(label for index in indices for label in dataset.entries[index].labels)
