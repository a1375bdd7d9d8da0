"""Readers on tiny copies of the official formats. Clips are empty files: nothing is decoded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from training.data import MIRROR
from training.datasets import (
    KINDS,
    AnnotationError,
    DataSet,
    DataSetError,
    Frames,
    MultiLabel,
    Seconds,
    TooManyLost,
    TopOne,
    VerbNoun,
    read_dataset,
)
from training.datasets.__main__ import main
from training.datasets.charades import read_charades
from training.datasets.lists import read_class_folders, read_index, read_list, read_store
from training.moving_things.labels import LABELS
from training.moving_things.store import write_store

SHARED = Path(__file__).parents[3] / "shared" / "data" / "survfight"

EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)
EPIC_ROW = (
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,01:02:03.37,8,202,open door,open,1,door,2,"
    "\"['door', 'cup']\",\"[2, 0]\"\n"
)
CHARADES_HEADER = (
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
)


def files(root: Path, **contents: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (root / name.replace("__", ".")).write_text(content)
    return root


def clips(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def kinetics(tmp: Path) -> tuple[Path, Path]:
    annotations = files(
        tmp / "annotations",
        kinetics_train__csv="label,youtube_id,time_start,time_end,split,is_cc\n"
        "zumba,-aB_1,5,15,train,0\nabseiling,bbbb,0,10,train,1\n",
        kinetics_val__csv='label,youtube_id,time_start,time_end,split\n"zumba",cccc,100,110,val\n',
    )
    return annotations, clips(
        tmp / "clips",
        "train/zumba/-aB_1_000005_000015.mp4",
        "train/abseiling/bbbb_000000_000010.mkv",
        "val/cccc_000100_000110.mp4",
    )


def ssv2(tmp: Path) -> tuple[Path, Path]:
    labels = {"Holding something": "1", "Approaching something with your camera": "0"}
    train = [
        {"id": "78687", "label": "holding a bottle", "template": "Holding [something]",
         "placeholders": ["a bottle"]},
        {"id": 7, "template": "Approaching [something] with your camera"},
    ]  # fmt: skip
    annotations = files(
        tmp / "annotations",
        **{
            "something-something-v2-labels__json": json.dumps(labels),
            "something-something-v2-train__json": json.dumps(train),
            "validation__json": json.dumps(train[:1]),
        },
    )
    return annotations, clips(tmp / "clips", "78687.webm", "7.webm")


def diving48(tmp: Path) -> tuple[Path, Path]:
    rows = [
        {"vid_name": "_8Vy3dlHg2w_00000", "label": 1, "start_frame": 0, "end_frame": 20},
        {"vid_name": "_8Vy3dlHg2w_00001", "label": 0, "start_frame": 3, "end_frame": 9},
    ]
    vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Back", "15som", "15Twis", "FREE"]]
    annotations = files(
        tmp / "annotations",
        Diving48_V2_train__json=json.dumps(rows),
        Diving48_vocab__json=json.dumps(vocabulary),
    )
    return annotations, clips(tmp / "clips", *(f"rgb/{row['vid_name']}.mp4" for row in rows))


def epic(tmp: Path) -> tuple[Path, Path]:
    annotations = files(
        tmp / "annotations",
        EPIC_100_train__csv=EPIC_HEADER + EPIC_ROW,
        EPIC_100_verb_classes__csv="id,key,instances,category\n0,take,[],x\n1,open,[],x\n",
        EPIC_100_noun_classes__csv="id,key,instances,category\n0,cup,[],x\n1,tap,[],x\n2,door,[],x\n",
    )
    return annotations, clips(tmp / "clips", "P01/videos/P01_01.MP4")


def jester(tmp: Path) -> tuple[Path, Path]:
    annotations = files(
        tmp / "annotations",
        **{
            "jester-v1-labels__csv": "Swiping Left\nSwiping Right\nDoing other things\n",
            "jester-v1-train__csv": "34870;Swiping Right\n9;Swiping Left\n",
        },
    )
    return annotations, clips(tmp / "clips", "34870/00001.jpg", "9/00001.jpg")


def charades(tmp: Path) -> tuple[Path, Path]:
    annotations = files(
        tmp / "annotations",
        Charades_v1_classes__txt="c000 Holding some clothes\nc001 Opening a door\nc002 Sitting\n",
        Charades_v1_train__csv=CHARADES_HEADER
        + '46GP8,HR43,Kitchen,6,7,Yes,"He says, ""hm"".",a;b,x,'
        "c002 11.90 21.20;c000 0.00 12.60;c001 5 5,24.83\n"
        "N11GT,0KZ7,Stairs,6,7,No,x,y,z,,18.33\n",
    )
    return annotations, clips(tmp / "clips", "46GP8.mp4", "N11GT.mp4")


OFFICIAL: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "kinetics": kinetics,
    "ssv2": ssv2,
    "diving48": diving48,
    "epic-kitchens": epic,
    "jester": jester,
    "charades": charades,
}


def official(kind: str, tmp: Path, split: str = "train") -> DataSet:
    annotations, folder = OFFICIAL[kind](tmp)
    return read_dataset(kind, annotations, clips=folder, split=split)


def test_kinetics_in_any_layout_with_classes_in_alphabetical_order(tmp_path: Path) -> None:
    train, val = official("kinetics", tmp_path), official("kinetics", tmp_path, "val")
    assert train.labels == val.labels == ("abseiling", "zumba")
    assert [entry.labels for entry in train.entries] == [(1,), (0,)]
    assert train.entries[0].path == tmp_path / "clips/train/zumba/-aB_1_000005_000015.mp4"
    assert (val.entries[0].labels, val.entries[0].group) == ((1,), "cccc")
    assert val.task == TopOne(2)
    assert val.mirror == {}


def test_ssv2_strips_brackets_and_never_flips(tmp_path: Path) -> None:
    train = official("ssv2", tmp_path)
    assert train.labels == ("Approaching something with your camera", "Holding something")
    assert [entry.labels for entry in train.entries] == [(1,), (0,)]
    assert train.mirror is None
    assert len(official("ssv2", tmp_path, "validation")) == 1


def test_diving48_has_frames_and_competitions(tmp_path: Path) -> None:
    train = official("diving48", tmp_path)
    assert train.labels[1] == "Back 15som 15Twis FREE"
    assert [entry.span for entry in train.entries] == [Frames(0, 20), Frames(3, 9)]
    assert {entry.group for entry in train.entries} == {"_8Vy3dlHg2w"}


def test_epic_kitchens_has_verbs_nouns_and_seconds(tmp_path: Path) -> None:
    train = official("epic-kitchens", tmp_path)
    assert train.labels == ("take", "open", "cup", "tap", "door")
    assert train.task == VerbNoun(2, 3)
    (entry,) = train.entries
    assert entry.labels == (1, 2)
    assert entry.span == Seconds(0.14, 3723.37)
    assert entry.group == "P01"


def test_jester_has_folders_and_never_flips(tmp_path: Path) -> None:
    train = official("jester", tmp_path)
    assert train.labels == ("Swiping Left", "Swiping Right", "Doing other things")
    assert [(entry.path.name, entry.labels) for entry in train.entries] == [
        ("34870", (1,)),
        ("9", (0,)),
    ]
    assert train.mirror is None


def test_charades_has_any_number_of_classes(tmp_path: Path) -> None:
    train = official("charades", tmp_path)
    assert [entry.labels for entry in train.entries] == [(0, 1, 2), ()]
    assert train.task == MultiLabel(3)
    assert train.entries[0].group == "HR43"
    segments = read_charades(tmp_path / "annotations", tmp_path / "clips", "train", segments=True)
    # c000 and c002 overlap by 0.7 s; c001 has no extent, but lies within c000.
    assert [(entry.span, entry.labels) for entry in segments.entries] == [
        (Seconds(11.9, 21.2), (0, 2)),
        (Seconds(0.0, 12.6), (0, 1, 2)),
    ]


WRONG = [
    ("kinetics", "kinetics_val.csv", "label,youtube_id\n", "line 1: expected the columns label"),
    ("kinetics", "kinetics_val.csv", "label,youtube_id,time_start,time_end\nzumba,a,1\n",
     "line 2: expected 4 fields separated by ','"),
    ("kinetics", "kinetics_val.csv", "label,youtube_id,time_start,time_end\n\nzumba,a,x,2\n",
     "line 3: expected 'time_start' to be an integer from 0, got 'x'"),
    ("kinetics", "kinetics_val.csv", "label,youtube_id,time_start,time_end\nwalking,a,1,2\n",
     "line 2: expected 'label' to be one of the 2 classes of kinetics_train.csv, got 'walking'"),
    ("ssv2", "validation.json", "{", "line 1: expected JSON"),
    ("ssv2", "validation.json", "{}", "line 1: expected a list of objects with id, template"),
    ("ssv2", "validation.json", '[{"id": "78687"}]', "item 1: expected an object with id, templ"),
    ("ssv2", "validation.json", '[{"id": "7", "template": "Eating [food]"}]',
     "item 1: expected the template to be one of the 2 of .*, got 'Eating food'"),
    ("ssv2", "something-something-v2-labels.json", '{"a": "0", "b": "2"}', "1 is not there"),
    ("diving48", "Diving48_V2_train.json",
     '[{"vid_name": "a_0", "label": 2, "start_frame": 0, "end_frame": 2}]',
     "item 1: expected 'label' to be an integer from 0 to 1, got 2"),
    ("diving48", "Diving48_V2_train.json",
     '[{"vid_name": "a_0", "label": 1, "start_frame": 2, "end_frame": 2}]',
     "item 1: expected end_frame after start_frame"),
    ("diving48", "Diving48_vocab.json", '["Back"]', "item 1: expected a list of words, got Back"),
    ("epic-kitchens", "EPIC_100_train.csv", EPIC_HEADER + EPIC_ROW.replace("01:02:03", "62:03"),
     "line 2: expected 'stop_timestamp' as HH:MM:SS.ss, got '62:03.37'"),
    ("epic-kitchens", "EPIC_100_train.csv", EPIC_HEADER + EPIC_ROW.replace("01:02:03", "0:0:0"),
     "line 2: expected 'stop_timestamp' as"),
    ("epic-kitchens", "EPIC_100_train.csv", EPIC_HEADER + EPIC_ROW.replace(",door,2", ",door,3"),
     "line 2: expected 'noun_class' to be an integer from 0 to 2, got '3'"),
    ("epic-kitchens", "EPIC_100_verb_classes.csv", "id,key\n1,take\n", "line 2: expected id 0"),
    ("jester", "jester-v1-train.csv", "34870,Swiping Left\n", "line 1: expected 2 fields sep"),
    ("jester", "jester-v1-train.csv", "9;Swiping Left\n34870;Waving\n", "line 2: .* 'Waving'"),
    ("charades", "Charades_v1_train.csv", CHARADES_HEADER + "a,b,c,d,e,f,g,h,i,c000 1,9\n",
     "line 2: expected actions such as 'c092 11.90 21.20', got 'c000 1'"),
    ("charades", "Charades_v1_train.csv", CHARADES_HEADER + "a,b,c,d,e,f,g,h,i,c003 1 2,9\n",
     "line 2: expected classes from c000 to c002, got 'c003 1 2'"),
    ("charades", "Charades_v1_train.csv", CHARADES_HEADER + '"a,b\n', "expected a row of CSV"),
    ("charades", "Charades_v1_classes.txt", "c000 a\nc002 b\n", "line 2: expected 'c001 NAME'"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "file", "content", "message"), WRONG)
def test_what_is_wrong_is_said_with_file_and_line(
    kind: str, file: str, content: str, message: str, tmp_path: Path
) -> None:
    annotations, folder = OFFICIAL[kind](tmp_path)
    (annotations / file).write_text(content)
    split = "val" if "val.csv" in file else "validation" if "validation" in file else "train"
    with pytest.raises(AnnotationError, match=message) as raised:
        read_dataset(kind, annotations, clips=folder, split=split)
    assert raised.value.file == annotations / file


@pytest.mark.parametrize("kind", OFFICIAL)
def test_missing_files_and_folders_are_named(kind: str, tmp_path: Path) -> None:
    annotations, folder = OFFICIAL[kind](tmp_path)
    with pytest.raises(AnnotationError, match="expected an annotation file here"):
        read_dataset(kind, annotations, clips=folder, split="nonsense")
    with pytest.raises(DataSetError, match="expected a folder with clips, there is none"):
        read_dataset(kind, annotations, clips=tmp_path / "none", split="train")
    with pytest.raises(DataSetError, match="needs the folder of its clips and a split"):
        read_dataset(kind, annotations)


def test_text_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.mp4 0\n\xff\xfe 1\n")
    with pytest.raises(AnnotationError, match=r"list.txt, line 2: expected text in UTF-8"):
        read_list(tmp_path / "list.txt")


@pytest.mark.parametrize("kind", OFFICIAL)
def test_missing_clips_are_put_aside_up_to_a_share(kind: str, tmp_path: Path) -> None:
    annotations, folder = OFFICIAL[kind](tmp_path)
    whole = read_dataset(kind, annotations, clips=folder, split="train")
    gone = whole.entries[-1].path
    gone.rename(tmp_path / gone.name)
    clips(folder, "other.mp4")
    with pytest.raises(TooManyLost, match=r"1 of \d clips are missing .*more than the 0.01"):
        read_dataset(kind, annotations, clips=folder, split="train")
    if len(whole) > 1:
        rest = read_dataset(kind, annotations, clips=folder, split="train", missing_share=0.5)
        assert rest.entries == whole.entries[:-1]
        assert rest.missing == (gone.stem,)


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


def test_a_list_with_names_of_labels(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4")
    file = tmp_path / "list.csv"
    file.write_text("a.mp4,going left\na.mp4,2\n")
    labels = ("going left", "going right", "standing")
    dataset = read_list(file, labels=labels, mirror={"going left": "going right"})
    assert [entry.labels for entry in dataset.entries] == [(0,), (2,)]
    assert dataset.mirror == {0: 1, 1: 0}
    assert read_list(file, labels=labels, flip=False).mirror is None
    with pytest.raises(DataSetError, match="'up' is flipped, but it is no label"):
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
    with pytest.raises(DataSetError, match="expected videos of class 'swim', found none"):
        read_class_folders(tmp_path / "val", labels=("run", "swim"))
    with pytest.raises(DataSetError, match="expected one sub-folder per class"):
        read_class_folders(tmp_path / "val" / "run")


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


def test_kinds_that_are_not_known_or_have_no_splits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known: kinetics, ssv2"):
        read_dataset("imagenet", tmp_path)
    with pytest.raises(DataSetError, match="has no splits of its own"):
        read_dataset("list", tmp_path, split="train")
    assert set(OFFICIAL) < set(KINDS)


def test_the_command_line_says_what_there_is(tmp_path: Path) -> None:
    annotations, folder = charades(tmp_path)
    run = CliRunner().invoke
    result = run(main, ["charades", str(annotations), str(folder), "--split", "train"])
    assert result.exit_code == 0
    assert "Charades: 2 clips, 0 missing" in result.output
    assert "3 classes, measured by mAP" in result.output
    (annotations / "Charades_v1_train.csv").write_text("id\n")
    result = run(main, ["charades", str(annotations), str(folder), "--split", "train"])
    assert result.exit_code == 1
    assert (
        "Charades_v1_train.csv, line 1: expected the columns id, subject, actions" in result.output
    )


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
