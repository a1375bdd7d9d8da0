"""What readers can do, asked for on a real command line: segments, subsets, layouts of lists."""

import contextlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from training.datasets import DataSet, DataSetError, Entry, Seconds, TopOne
from training.datasets.__main__ import main
from training.datasets.command_line import Source
from training.datasets.splits import draw
from training.moving_things.clip import render_clip

ROOT = Path(__file__).parents[2]


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The documented command, in a folder of one's own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "lookwhen", "train", "data", "check", *map(str, arguments)],
        cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def run(*arguments: object, cwd: Path | None = None) -> tuple[int, str]:
    """The command within this process, which takes a tenth of the time."""
    with contextlib.chdir(cwd or Path.cwd()):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    """Four videos with eight actions of three classes; two of the videos are the test split."""
    (tmp_path / "Charades_v1_classes.txt").write_text("c000 Holding\nc001 Opening\nc002 Sitting\n")
    actions = {
        "A": "c002 11.90 21.20;c000 0.00 12.60;c001 5 5",
        "B": "c001 0 3",
        "C": "c000 0 9;c001 1 2;c002 3 4",
        "D": "c000 0 1",
    }
    (tmp_path / "clips").mkdir()
    for split, videos in (("train", "AB"), ("test", "CD")):
        rows = [f"{video},person {video},{actions[video]}\n" for video in videos]
        (tmp_path / f"Charades_v1_{split}.csv").write_text("id,subject,actions\n" + "".join(rows))
        for video in videos:
            (tmp_path / "clips" / f"{video}.mp4").touch()
    return tmp_path


@pytest.mark.long
def test_segments_of_charades(charades: Path) -> None:
    _, output = run("charades", ".", "clips", "--split", "train", cwd=charades)
    assert "Charades: 2 clips, 0 missing" in output
    cut = command("charades", ".", "clips", "--split", "train", "--segments", cwd=charades)
    assert "Charades: 3 clips, 0 missing" in cut.stdout, cut.stderr
    source = Source("charades", charades, charades / "clips", "train", segments=True)
    assert [entry.span for entry in source.read().entries] == [
        Seconds(11.9, 21.2), Seconds(0, 12.6), Seconds(0, 3),
    ]  # fmt: skip
    assert str(source) == f"charades {charades.name}, split train, by segments"


def test_what_is_held_out_of_segments_is_whole_videos(charades: Path) -> None:
    """The measure of Charades is over whole videos."""
    source = Source("charades", charades, charades / "clips", "train", segments=True)
    train, held = source.read_with_held_out(split="test")
    assert held is not None
    assert [entry.span for entry in held.entries] == [None, None]
    assert len(train) == 3
    train, held = source.read_with_held_out(share=0.5, seed=0)
    assert held is not None
    assert [entry.span for entry in held.entries] == [None]
    assert held.entries[0].path not in {entry.path for entry in train.entries}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """60 clips of one class, 30 of another, 10 of a third."""
    for label, clips in (("often", 60), ("seldom", 30), ("rare", 10)):
        (tmp_path / "set" / label).mkdir(parents=True)
        for clip in range(clips):
            (tmp_path / "set" / label / f"{clip}.mp4").touch()
    return tmp_path


def test_a_subset_has_the_mixture_of_the_whole(folders: Path) -> None:
    _, output = run("folders", "set", "--subset", 20, cwd=folders)
    assert "set: 20 clips, 0 missing" in output
    assert "clips of a class: 12 (often) to 2 (rare); 0 have none" in output
    source = Source("folders", folders / "set", subset=20)
    again, other = source.read(), Source("folders", folders / "set", subset=20, subset_seed=1)
    assert again.entries == source.read().entries
    assert again.entries != other.read().entries
    assert str(other) == "folders set, 20 clips drawn by seed 1"
    assert list(again.entries) == sorted(again.entries, key=lambda entry: entry.labels)
    code, output = run("folders", folders / "set", "--subset", 101)
    assert code == 1
    assert "set: a subset of 101 clips cannot be drawn from 100" in output


def test_what_is_held_out_is_not_of_the_subset(folders: Path) -> None:
    (folders / "set").rename(folders / "train")
    (folders / "val" / "rare").mkdir(parents=True)
    for clip in range(30):
        (folders / "val" / "rare" / f"{clip}.mp4").touch()
    source = Source("folders", folders, split="train", subset=20)
    train, held = source.read_with_held_out(split="val")
    assert held is not None
    assert (len(train), len(held)) == (20, 30)
    train, held = source.read_with_held_out(share=0.2)
    assert held is not None
    assert len(train) + len(held) == 20
    assert 2 <= len(held) <= 6


def test_subsets_of_any_size_are_whole_and_mixed() -> None:
    entries = tuple(Entry(Path(f"{n}.mp4"), (n % 7 // 3,)) for n in range(50))
    whole = DataSet("set", entries, ("a", "b", "c"), TopOne(3))
    counts = Counter(entry.labels for entry in entries)
    for clips in range(1, 51):
        drawn = draw(whole, clips, 3)
        assert len(drawn) == clips
        for labels, count in Counter(entry.labels for entry in drawn.entries).items():
            assert abs(count - counts[labels] * clips / 50) < 1
    with pytest.raises(DataSetError, match="cannot be drawn"):
        draw(whole, 0, 3)


@pytest.mark.parametrize(
    ("layout", "text", "said"),
    [
        (None, "a.mp4 0\nb.mp4 1\n", "2 classes, measured by top1"),
        ("path frames label", "a.mp4 30 0\nb.mp4 9 1\n", "2 classes, measured by top1"),
        ("path labels", "a.mp4,0,2\nb.mp4,1\n", "3 classes, measured by mAP"),
    ],
)
def test_layouts_of_a_list(layout: str | None, text: str, said: str, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text(text)
    options = [] if layout is None else ["--layout", layout]
    code, output = run("list", "list.txt", *options, cwd=tmp_path)
    assert code == 0, output
    assert said in output
    assert "clips of a class: 1 (0) to 1 (" in output


def test_names_of_a_lists_classes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.csv").write_text("a.mp4,going left\na.mp4,1\n")
    names = tmp_path / "names.txt"
    names.write_text("going left\ngoing right\n\nstanding\n")
    code, output = run("list", tmp_path / "list.csv", "--labels", names)
    assert code == 0, output
    assert "3 classes" in output
    assert "1 (going left) to 1 (going right); 1 have none" in output
    for text, message in (
        ("a\nb\na\n", "names.txt, line 3: expected different names, 'a' is line 1 too"),
        ("\n", "names.txt: expected the name of a class per row, there is none"),
    ):
        names.write_text(text)
        code, output = run("list", tmp_path / "list.csv", "--labels", names)
        assert code == 1
        assert message in output
    names.unlink()
    code, output = run("list", tmp_path / "list.csv", "--labels", names)
    assert "expected an annotation file here" in output


def test_options_of_other_kinds_are_refused(folders: Path) -> None:
    for option, message in (
        (("--segments",), "--segments is for charades; folders has none"),
        (("--layout", "path labels"), "--layout and --labels are for a list; folders has neither"),
        (("--labels", "x"), "folders has neither"),
        (("--subset", 0), "0 is not in the range x>=1"),
    ):
        code, output = run("folders", folders / "set", *option)
        assert code
        assert message in output
        assert "Traceback" not in output


def test_an_empty_class_is_a_sentence(folders: Path) -> None:
    (folders / "set" / "unseen").mkdir()
    code, output = run("folders", "set", cwd=folders)
    assert code == 1
    assert output.startswith("Error: set/unseen: there is no video of the class 'unseen'")
    (folders / "set" / "unseen" / "clip.gif").touch()
    (folders / "set" / "unseen" / "notes.txt").touch()
    assert "2 other files, such as clip.gif" in run("folders", "set", cwd=folders)[1]


@pytest.mark.long
def test_a_bad_file_of_a_small_folder(tmp_path: Path) -> None:
    """One is passed over and named; two stop the run, which says what to type."""
    video = render_clip(0, 0).video
    for number in range(40):
        folder = tmp_path / "set" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.mp4").write_bytes(video)
    (tmp_path / "set" / "a" / "0.mp4").write_bytes(b"broken")
    decode = ("folders", "set", "--decode", "--workers", "0")
    done = command(*decode, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "39 of 40 clips decode" in done.stdout
    assert "skipped set/a/0.mp4" in done.stderr
    code, output = run(*decode, "--lost-share", "0", cwd=tmp_path)
    assert code == 1, output
    (tmp_path / "set" / "b" / "1.mp4").write_bytes(b"broken")
    (tmp_path / "set" / "b" / "39.mp4").write_bytes(b"broken")
    code, output = run(*decode, cwd=tmp_path)
    assert code == 1
    assert "37 of 40 clips decode" in output, "all are counted before the run gives up"
    assert "3 of 40 clips are missing or unreadable, at most 1 may be" in output
    assert "--lost-share 0.075" in output
    code, output = run(*decode, "--lost-share", "0.075", cwd=tmp_path)
    assert code == 0, output
