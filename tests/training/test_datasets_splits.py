"""Splits keep groups together, and are what they say."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.datasets import DataSet, DataSetError, Entry, MultiLabel, TopOne, k_fold, split_off

LABELS = ("a", "b", "c")


def dataset(facts: list[tuple[int, str]]) -> DataSet:
    entries = tuple(
        Entry(Path(f"{number}.mp4"), (label,), group=group)
        for number, (label, group) in enumerate(facts)
    )
    return DataSet("set", entries, LABELS, TopOne(3))


clips = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["", "g1", "g2", "g3", "g4"])),
    min_size=8,
    max_size=60,
).filter(lambda facts: len({group or number for number, (_, group) in enumerate(facts)}) >= 5)


def groups(part: DataSet) -> set[str]:
    return {entry.group for entry in part.entries if entry.group}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(facts=clips, folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_folds_are_disjoint_and_whole(facts: list[tuple[int, str]], folds: int, seed: int) -> None:
    whole = dataset(facts)
    held_paths = []
    for rest, held in k_fold(whole, folds, seed):
        assert not groups(rest) & groups(held)
        assert len(rest) + len(held) == len(whole)
        assert not {entry.path for entry in rest.entries} & {entry.path for entry in held.entries}
        held_paths += [entry.path for entry in held.entries]
    assert sorted(held_paths) == sorted(entry.path for entry in whole.entries)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(facts=clips, share=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_a_split_is_disjoint_and_whole(
    facts: list[tuple[int, str]], share: float, seed: int
) -> None:
    whole = dataset(facts)
    rest, held = split_off(whole, share, seed)
    assert not groups(rest) & groups(held)
    assert len(rest) + len(held) == len(whole)
    largest = max(Counter(group or str(n) for n, (_, group) in enumerate(facts)).values())
    # Neither side misses its size by more than a group of each class, one clip at least.
    assert abs(len(held) - share * len(whole)) <= 3 * largest


def test_classes_and_sizes_are_even_and_the_seed_decides() -> None:
    whole = dataset([(number % 10 // 5, "") for number in range(100)])
    for _, held in k_fold(whole, 5, 0):
        assert Counter(entry.labels[0] for entry in held.entries) == {0: 10, 1: 10}
    rest, held = split_off(whole, 0.2, 3)
    assert (len(rest), len(held)) == (80, 20)
    assert Counter(entry.labels[0] for entry in held.entries) == {0: 10, 1: 10}
    again, other = split_off(whole, 0.2, 3)[1], split_off(whole, 0.2, 4)[1]
    assert held.entries == again.entries
    assert held.entries != other.entries


def test_large_groups_are_spread() -> None:
    facts = [(0, f"g{number // 6}") for number in range(30)] + [(1, "")] * 30
    for _, held in k_fold(dataset(facts), 5, 0):
        assert Counter(entry.labels[0] for entry in held.entries) == {0: 6, 1: 6}


def test_clips_of_many_and_no_classes_are_split_too() -> None:
    labels: list[tuple[int, ...]] = [(0, 1), (), (2,), (0, 2), ()] * 4
    entries = tuple(Entry(Path(str(n)), label) for n, label in enumerate(labels))
    whole = DataSet("set", entries, LABELS, MultiLabel(3))
    sizes = [len(held) for _, held in k_fold(whole, 4, 0)]
    assert sum(sizes) == 20
    assert max(sizes) - min(sizes) <= 2


def test_what_cannot_be_split_is_said() -> None:
    same = dataset([(0, "g")] * 9 + [(1, "h")])
    with pytest.raises(DataSetError, match="2 groups cannot be put into 3 parts"):
        list(k_fold(same, 3, 0))
    with pytest.raises(ValueError, match="at least two folds"):
        list(k_fold(same, 1, 0))
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_off(same, 1.0, 0)
    with pytest.raises(DataSetError, match="cross-validation needs two splits"):
        list(same.folds())


def test_a_data_set_that_cannot_be_is_refused() -> None:
    with pytest.raises(DataSetError, match="there are no clips"):
        DataSet("set", (), LABELS, TopOne(3))
    with pytest.raises(DataSetError, match=r"1.mp4: expected one class from 0 to 2, got \[3\]"):
        dataset([(0, ""), (3, "")])
    with pytest.raises(DataSetError, match="2 label names for 3 outputs"):
        DataSet("set", (Entry(Path("a"), (0,)),), LABELS[:2], TopOne(3))
