"""Readers of one's own sets: lists, folders, an index, rendered clips. Videos are empty files."""

from pathlib import Path

import pytest

from training.datasets import (
    AnnotationError,
    DataSetError,
    Frames,
    MultiLabel,
    TopOne,
    read_dataset,
)
from training.datasets.lists import read_class_folders, read_index, read_list
from training.moving_things.dataset import read_store
from training.moving_things.labels import LABELS, MIRROR
from training.moving_things.store import write_store

SHARED = Path(__file__).parents[3] / "shared" / "data" / "survfight"


def clips(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_text_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.mp4 0\n\xff\xfe 1\n")
    with pytest.raises(AnnotationError, match=r"list.txt, line 2: expected text in UTF-8"):
        read_list(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("layout", "text", "expected"),
    [
        ("path label", "# a list\na.mp4 2\n\nb c.mp4  0\n", [("a.mp4", (2,)), ("b c.mp4", (0,))]),
        ("path label", "b c.mp4,2\na.mp4, 0\n", [("b c.mp4", (2,)), ("a.mp4", (0,))]),
        ("path label", "a,b.mp4 1\r\n", [("a,b.mp4", (1,))]),
        ("path frames label", "b c.mp4 30 2\na.mp4,9,0\n", [("b c.mp4", (2,)), ("a.mp4", (0,))]),
        ("path labels", "a.mp4 2 0\nb c.mp4,1\n", [("a.mp4", (2, 0)), ("b c.mp4", (1,))]),
    ],
)
def test_lists(
    layout: str, text: str, expected: list[tuple[str, tuple[int, ...]]], tmp_path: Path
) -> None:
    clips(tmp_path / "videos", "a.mp4", "b c.mp4", "a,b.mp4")
    (tmp_path / "list.txt").write_text(text)
    dataset = read_list(tmp_path / "list.txt", root=tmp_path / "videos", layout=layout)  # type: ignore[arg-type]
    assert [(entry.path.name, entry.labels) for entry in dataset.entries] == expected
    assert dataset.labels == tuple(str(c) for c in range(1 + max(max(y) for _, y in expected)))
    assert isinstance(dataset.task, MultiLabel if layout == "path labels" else TopOne)
    if layout == "path frames label":
        assert [entry.span for entry in dataset.entries] == [Frames(0, 30), Frames(0, 9)]


def test_names_of_labels_may_hold_spaces_and_commas(tmp_path: Path) -> None:
    names = ("something", "Holding something", "Lifting it, then something", "7")
    (tmp_path / "a b").mkdir()
    for number in range(4):
        (tmp_path / "a b" / f"{number}.mp4").write_bytes(b"")
    rows = [
        "a b/0.mp4 Holding something", "a b/1.mp4, Lifting it, then something",
        "a b/2.mp4\tsomething", "a b/3.mp4 3",
    ]  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(rows))
    found = read_list(tmp_path / "list.csv", labels=names)
    assert [entry.labels for entry in found.entries] == [(1,), (2,), (0,), (3,)]
    assert all(entry.path.is_file() for entry in found.entries)


def test_a_list_with_names_of_labels(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4")
    file = tmp_path / "list.csv"
    file.write_text("a.mp4,going left\na.mp4,2\n")
    labels = ("going left", "going right", "standing")
    dataset = read_list(file, labels=labels, mirror={"going left": "going right"})
    assert [entry.labels for entry in dataset.entries] == [(0,), (2,)]
    assert dataset.mirror == {0: 1, 1: 0}
    assert read_list(file, labels=labels).mirror is None
    assert read_list(file, labels=labels, mirror={}).mirror == {}
    with pytest.raises(DataSetError, match="'up' is to be mirrored, but there is no such label"):
        read_list(file, labels=labels, mirror={"up": "standing"})
    with pytest.raises(AnnotationError, match=r"line 2: expected labels from 0 to 1, got 'a.mp4,2"):
        read_list(file, labels=labels[:2])


@pytest.mark.parametrize(
    ("layout", "row"),
    [("path label", "a.mp4"), ("path label", "a.mp4 walking"), ("path label", "a.mp4 -1"),
     ("path frames label", "a.mp4 1"), ("path frames label", "a.mp4 0 1"),
     ("path labels", "a.mp4 1 1")],
)  # fmt: skip
def test_a_row_that_is_not_in_the_layout(layout: str, row: str, tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4")
    (tmp_path / "list.txt").write_text(f"\n{row}\n")
    with pytest.raises(AnnotationError, match=r"list.txt, line 2: expected .*, got 'a.mp4"):
        read_list(tmp_path / "list.txt", layout=layout)  # type: ignore[arg-type]


def test_class_folders(tmp_path: Path) -> None:
    clips(tmp_path, "train/run/deep/b.MP4", "train/run/a.mov", "train/jump/c.mp4",
          "train/jump/notes.txt", "train/.hidden/d.mp4", "val/run/e.mp4")  # fmt: skip
    train = read_dataset("folders", tmp_path, split="train")
    assert train.labels == ("jump", "run")
    named = [(entry.path.name, entry.labels) for entry in train.entries]
    assert named == [("c.mp4", (0,)), ("a.mov", (1,)), ("b.MP4", (1,))]
    val = read_dataset("folders", tmp_path, split="val")
    assert [entry.labels for entry in val.entries] == [(1,)]
    with pytest.raises(DataSetError, match="'run' is not among the labels"):
        read_class_folders(tmp_path / "val", labels=("jump",))
    (tmp_path / "val" / "swim").mkdir()
    with pytest.raises(DataSetError, match=r"no video of the class 'swim' \(the folder is empty\)"):
        read_class_folders(tmp_path / "val", labels=("run", "swim"))
    with pytest.raises(DataSetError, match="expected one sub-folder per class"):
        read_class_folders(tmp_path / "val" / "run")


def test_videos_without_labels(tmp_path: Path) -> None:
    clips(tmp_path, "b.mp4", "deep/a.webm", "notes.txt")
    dataset = read_dataset("unlabelled", tmp_path)
    assert [entry.path.name for entry in dataset.entries] == ["b.mp4", "a.webm"]
    assert dataset.labels == ()
    assert dataset.task.target(()).shape == (0,)
    with pytest.raises(DataSetError, match="deep/none: expected a folder with clips"):
        read_dataset("unlabelled", tmp_path / "deep" / "none")


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    clips(tmp_path / "disk" / "run", "a.mp4")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "run").symlink_to(tmp_path / "disk" / "run")
    (tmp_path / "disk" / "run" / "loop").symlink_to(tmp_path / "disk" / "run")
    assert [entry.path for entry in read_class_folders(tmp_path / "set").entries] == [
        tmp_path / "set" / "run" / "a.mp4"
    ]


def test_an_index_with_splits_and_folds(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    file = tmp_path / "index.csv"
    file.write_text(
        "path,label,group,part,fold\na.mp4,x,g,train,0\nb.mp4,w,,test,1\nc.mp4,x,,train,1\n"
    )
    dataset = read_index(file, split="fold")
    assert dataset.labels == ("w", "x")
    assert [entry.group for entry in dataset.entries] == ["g", "", ""]
    assert dataset.splits() == {"0": 1, "1": 2}
    assert [(len(rest), len(fold)) for rest, fold in dataset.folds()] == [(2, 1), (1, 2)]
    train = read_dataset("index", file, split="train", column="part")
    assert [entry.path.name for entry in train.entries] == ["a.mp4", "c.mp4"]
    assert train.labels == dataset.labels
    with pytest.raises(DataSetError, match="no clip of split '7'; there are '0', '1'"):
        dataset.split("7")
    with pytest.raises(AnnotationError, match="split is not among path, label, group"):
        read_index(file)


def test_a_store_of_rendered_clips(tmp_path: Path) -> None:
    write_store(tmp_path / "store", 3, 0, workers=0)
    dataset = read_store(tmp_path / "store")
    assert [entry.stored for entry in dataset.entries] == [0, 1, 2]
    assert dataset.labels == LABELS
    left, right = LABELS.index("moving left"), LABELS.index("moving right")
    assert dataset.mirror is not None
    assert (dataset.mirror[left], dataset.mirror[right]) == (right, left)
    assert len(dataset.mirror) == sum(label != other for label, other in enumerate(MIRROR))
    with pytest.raises(DataSetError, match="is not a store"):
        read_dataset("moving-things", tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the clips are not part of the project")
def test_survfight_is_read_whole() -> None:
    dataset = read_index(SHARED / "index.csv", split="fold5_source")
    assert len(dataset) == 300
    assert dataset.labels == ("fight", "noFight")
    folds = list(dataset.folds())
    assert [len(fold) for _, fold in folds] == [60] * 5
    for rest, fold in folds:
        groups = {entry.group for entry in fold.entries}
        assert not groups & {entry.group for entry in rest.entries}
