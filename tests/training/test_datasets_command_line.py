"""Naming a data set on a command line, and what is held out of it."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from training.datasets import DataSetError
from training.datasets.command_line import Source, source_arguments


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Twelve clips of two classes in three folds, two clips to a group."""
    rows = ["path,label,fold,group"]
    for number in range(12):
        name = f"{number}.mp4"
        (tmp_path / name).touch()
        rows.append(f"{name},{'walk' if number % 2 else 'run'},{number // 4},{number // 2}")
    path = tmp_path / "index.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("train/a/1.mp4", "train/b/2.mp4", "val/b/3.mp4"):
        path = tmp_path / "folders" / name
        path.parent.mkdir(parents=True)
        path.touch()
    return tmp_path / "folders"


def names(dataset: object) -> list[str]:
    return [entry.path.stem for entry in dataset.entries]  # type: ignore[attr-defined]


def test_folds_of_an_index(index: Path) -> None:
    assert len(Source("index", index).read()) == 12
    rest = Source("index", index, column="fold", without=("1",)).read()
    assert names(rest) == ["0", "1", "2", "3", "8", "9", "10", "11"]
    train, held = Source("index", index, column="fold", without=("1",)).read_with_held_out(
        split="2"
    )
    assert held is not None
    assert names(train) == ["0", "1", "2", "3"]
    assert names(held) == ["8", "9", "10", "11"]
    with pytest.raises(DataSetError, match="no clip of split '7'"):
        Source("index", index, column="fold", without=("7",)).read()


def test_a_share_keeps_groups_together(index: Path) -> None:
    train, held = Source("index", index).read_with_held_out(share=0.34, seed=1)
    assert held is not None
    assert len(train) + len(held) == 12
    assert len(held) == 4
    assert not {entry.group for entry in train.entries} & {entry.group for entry in held.entries}
    assert Source("index", index).read_with_held_out()[1] is None


def test_official_splits(folders: Path) -> None:
    train, held = Source("folders", folders, split="train").read_with_held_out(split="val")
    assert held is not None
    assert (names(train), names(held)) == (["1", "2"], ["3"])
    assert held.labels == train.labels == ("a", "b")


@pytest.mark.parametrize(
    ("source", "held", "message"),
    [
        ({"split": "train"}, {"split": "train"}, "both learnt from and held out"),
        ({"split": "train"}, {"split": "val", "share": 0.5}, "not both"),
        ({"without": ("val",)}, {}, "--without is for an index"),
    ],
)
def test_what_cannot_be_held_out(
    folders: Path, source: dict[str, object], held: dict[str, object], message: str
) -> None:
    with pytest.raises(DataSetError, match=message):
        Source("folders", folders, **source).read_with_held_out(**held)  # type: ignore[arg-type]


def test_a_command_gets_the_source(index: Path) -> None:
    seen: list[Source] = []

    @click.command()
    @click.argument("first")
    @source_arguments
    @click.option("--more", type=int)
    def command(first: str, source: Source, more: int) -> None:
        assert (first, more) == ("x", 3)
        seen.append(source)

    line = ["x", "index", str(index), "--column", "fold", "--without", "0", "--without", "1"]
    result = CliRunner().invoke(command, [*line, "--more", "3"])
    assert result.exit_code == 0, result.output
    assert seen == [Source("index", index, column="fold", without=("0", "1"))]
    assert str(seen[0]) == "index index.csv, without fold 0, 1"
