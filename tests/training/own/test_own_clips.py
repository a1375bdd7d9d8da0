"""What is found out about a person's clips before anything is decoded."""

from pathlib import Path

import pytest

from training.datasets import DataSet, DataSetError, Entry, TopOne
from training.own import read_own, with_mirror
from training.own.clips import check_classes, counts, with_groups
from training.own.mirroring import naming_directions, opposites


def clips(*names: str, labels: tuple[str, ...] = ("Jump", "Run")) -> DataSet:
    entries = tuple(
        Entry(Path("clips", name), (labels.index(name.split("/")[0]),)) for name in names
    )
    return DataSet("clips", entries, labels, TopOne(len(labels)), mirror=None)


def groups(dataset: DataSet) -> list[str]:
    return [entry.group for entry in with_groups(dataset, Path("clips"))[0].entries]


def test_ucfs_names_tell_the_group_in_every_class() -> None:
    names = [f"{label}/v_{label}_g0{g}_c0{c}.mp4" for label in ("Jump", "Run")
             for g in range(1, 5) for c in (1, 2)]  # fmt: skip
    found, said = with_groups(clips(*names), Path("clips"))
    assert [entry.group for entry in found.entries] == [name.split("_")[2] for name in names]
    assert said == "4 groups found in names, such as g01 of 4 clips"


def test_a_common_beginning_is_a_group_whatever_the_class() -> None:
    names = [f"{label}/match{m}_{label.lower()}_{c}.mp4" for label in ("Jump", "Run")
             for m in "abcd" for c in (1, 2)]  # fmt: skip
    assert groups(clips(*names)) == [f"match{m}" for _ in range(2) for m in "abcd" for _ in (1, 2)]


def test_clips_that_are_merely_numbered_stand_for_themselves() -> None:
    names = [f"{label}/{label.lower()}_{n:03d}.mp4" for label in ("Jump", "Run") for n in range(6)]
    found, said = with_groups(clips(*names), Path("clips"))
    assert {entry.group for entry in found.entries} == {""}
    assert said.startswith("no groups")


def test_sub_folders_are_groups() -> None:
    names = [f"{label}/tape{t}/{c}.mp4" for label in ("Jump", "Run") for t in range(4)
             for c in range(2)]  # fmt: skip
    assert groups(clips(*names))[:3] == ["tape0", "tape0", "tape1"]


def test_an_index_goes_before_names(tmp_path: Path) -> None:
    rows = [f"{label}{n}.mp4,{label},source{n // 2},{n % 2}" for label in "ab" for n in range(6)]
    (tmp_path / "index.csv").write_text("path,label,group,fold\n" + "\n".join(rows) + "\n")
    for row in rows:
        (tmp_path / row.split(",")[0]).write_bytes(b"clip")
    own = read_own(tmp_path / "index.csv", column="fold", test="1", lost_share=0)
    assert own.grouping == "3 groups, as the index says"
    assert own.test is not None
    assert (len(own.clips), len(own.test)) == (6, 6)
    assert {entry.split for entry in own.test.entries} == {"1"}
    with pytest.raises(DataSetError, match="give it"):
        read_own(tmp_path / "index.csv", column="fold", lost_share=0)
    with pytest.raises(DataSetError, match=r"no clip of split '7'; there are '0', '1'"):
        read_own(tmp_path / "index.csv", column="fold", test="7", lost_share=0)


def test_a_list_may_name_its_labels(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(b"clip")
    (tmp_path / "list.txt").write_text("a.mp4 run\nb.mp4 jump\nc.mp4 run\n# d.mp4 sit\n")
    own = read_own(tmp_path / "list.txt", lost_share=0)
    assert own.clips.labels == ("jump", "run")
    assert [entry.labels for entry in own.clips.entries] == [(1,), (0,), (1,)]
    with pytest.raises(DataSetError, match="--column and --test are for an index"):
        read_own(tmp_path / "list.txt", column="fold", lost_share=0)


def test_too_little_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.mp4").write_bytes(b"clip")
    with pytest.raises(DataSetError, match=r"there is one class, run; it takes two"):
        read_own(tmp_path, lost_share=0)
    few = clips("Jump/a.mp4", "Jump/b.mp4", "Jump/c.mp4", "Run/d.mp4")
    assert counts(few) == "4 clips of 2 classes: 1 (Run) to 3 (Jump) a class"
    with pytest.raises(DataSetError, match=r"takes 3 clips of each class; .* fewer of Run \(1\)"):
        check_classes(few, 3)


@pytest.mark.parametrize("label", ["moving left", "turnRight", "ANTI-CLOCKWISE", "go_leftwards"])
def test_labels_that_name_a_direction_are_found(label: str) -> None:
    assert naming_directions([label, "leftover", "bright", "copyright"]) == [label]


LEFT_RIGHT = ("move left", "move right", "stand")


def test_pairs_of_directions_are_found() -> None:
    assert opposites(LEFT_RIGHT) == [("move left", "move right")]
    assert opposites(("anticlockwise", "clockwise")) == [("anticlockwise", "clockwise")]


def test_directions_are_asked_about_or_refused() -> None:
    entries = tuple(Entry(Path(str(n)), (n,)) for n in range(3))
    dataset = DataSet("clips", entries, LEFT_RIGHT, TopOne(3), mirror=None)
    asked = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    mirrored, said = with_mirror(dataset, (), None, yes)
    assert mirrored.mirror_by_label == {"move left": "move right", "move right": "move left"}
    assert "exchanges move left and move right" in said
    assert "'move left' with 'move right'" in asked[0]
    assert with_mirror(dataset, (), None, lambda _: False)[0].mirror is None
    with pytest.raises(DataSetError, match=r"--mirror 'move left=move right' .*--no-flip"):
        with_mirror(dataset, (), None, None)
    assert with_mirror(dataset, (), False, None)[0].mirror is None
    given, _ = with_mirror(dataset, ("move left=move right",), None, None)
    assert given.mirror == {0: 1, 1: 0}


def test_other_labels_are_not_mirrored_until_someone_says_so() -> None:
    dataset = clips("Jump/a.mp4", "Run/b.mp4")
    plain, said = with_mirror(dataset, (), None, None)
    assert plain.mirror is None
    assert "--flip doubles" in said
    assert with_mirror(dataset, (), True, None)[0].mirror == {}
