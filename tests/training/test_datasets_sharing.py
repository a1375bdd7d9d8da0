"""Entries in shared memory: what arrives is what was put there, and little is sent."""

import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from small_network import SMALL
from torch.utils.data import DataLoader

from training.datasets import DataSet, Entry, Frames, MultiLabel, Seconds, TopOne
from training.datasets.sharing import SharedEntries
from training.datasets.views import EntryViews
from training.moving_things.store import ClipStore
from training.teachers.crops import Crops, FrameCrops

pytestmark = pytest.mark.slow

_NAMES = st.text(st.characters(blacklist_characters="\0/", blacklist_categories=["Cs"]), max_size=9)
_SPANS = st.one_of(
    st.none(),
    st.tuples(st.floats(0, 9), st.floats(9, 1e6)).map(lambda both: Seconds(*both)),
    st.tuples(st.integers(0, 9), st.integers(10, 1 << 40)).map(lambda both: Frames(*both)),
)
_ENTRIES = st.builds(
    Entry,
    path=_NAMES.map(lambda name: Path("/clips", name)),
    labels=st.lists(st.integers(0, 5), max_size=3).map(tuple),
    span=_SPANS,
    group=_NAMES,
    split=_NAMES,
    stored=st.one_of(st.none(), st.integers(0, 1 << 40)),
    store=st.one_of(st.none(), st.just(ClipStore)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_ENTRIES, max_size=6))
def test_entries_are_what_was_put_there(entries: list[Entry]) -> None:
    shared = SharedEntries(entries)
    assert [shared[number] for number in range(len(shared))] == entries
    for beyond in (-1, len(entries)):
        with pytest.raises(IndexError, match=r"entry -?\d+ of \d+"):
            shared[beyond]


def test_a_file_name_that_is_no_text_arrives() -> None:
    entry = Entry(Path("clips/b\udcff.mp4"), (0,))
    assert SharedEntries([entry])[0] == entry


def kinetics(clips: int) -> DataSet:
    """As many clips as the training split has, with names as long."""
    entries = tuple(
        Entry(
            Path(
                f"/data/kinetics400/train/some_class_{n % 400:03d}/video{n:06d}_000010_000020.mp4"
            ),
            (n % 400,),
            group=f"video{n:06d}",
            split="train",
        )
        for n in range(clips)
    )
    return DataSet("Kinetics", entries, tuple(map(str, range(400))), TopOne(400))


@pytest.mark.long
def test_a_worker_is_sent_kilobytes_whatever_the_number_of_clips() -> None:
    """240,000 clips used to be 29 MB, pickled anew for each worker."""
    dataset = kinetics(240_000)
    assert len(pickle.dumps(dataset.entries)) > 15e6
    for views in (EntryViews(dataset, SMALL), FrameCrops(dataset, Crops(), 16, 0)):
        assert len(ForkingPickler.dumps(views)) < 20_000
    assert views.entries[239_999] == dataset.entries[-1]


class _Names(torch.utils.data.Dataset[str]):
    def __init__(self, entries: SharedEntries) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> str:
        return self.entries[index].name


@pytest.mark.long
def test_workers_read_the_entries_of_the_process_that_made_them() -> None:
    entries = [Entry(Path(f"{n}.mp4"), (n,), Seconds(n, n + 1)) for n in range(9)]
    loader = DataLoader(
        _Names(SharedEntries(entries)),
        batch_size=3,
        num_workers=2,
        multiprocessing_context="spawn",
        collate_fn=list,
    )
    assert [name for names in loader for name in names] == [entry.name for entry in entries]


def test_no_entries_and_no_labels() -> None:
    assert len(SharedEntries([])) == 0
    unlabelled = DataSet("u", (Entry(Path("a.mp4"), ()),), (), MultiLabel(0))
    assert EntryViews(unlabelled, SMALL).entries[0].labels == ()
