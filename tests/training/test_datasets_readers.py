"""Readers on tiny copies of the official formats. Clips are empty files: nothing is decoded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

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


@pytest.mark.parametrize("kind", OFFICIAL)
def test_missing_clips_are_put_aside_up_to_a_share(kind: str, tmp_path: Path) -> None:
    annotations, folder = OFFICIAL[kind](tmp_path)
    whole = read_dataset(kind, annotations, clips=folder, split="train")
    gone = whole.entries[-1].path
    gone.rename(tmp_path / gone.name)
    clips(folder, "other.mp4")
    with pytest.raises(
        TooManyLost, match=r"1 of \d clips are missing .*at most 0 may be \(a share of 0.01\)"
    ):
        read_dataset(kind, annotations, clips=folder, split="train")
    if len(whole) > 1:
        rest = read_dataset(kind, annotations, clips=folder, split="train", missing_share=0.5)
        assert rest.entries == whole.entries[:-1]
        assert rest.missing == (gone.stem,)


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
