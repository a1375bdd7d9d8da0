"""Whether a mirrored view keeps its label: nobody knows but whose clips they are."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_network import SMALL

from lookwhen.command_line import main as lookwhen
from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from training.datasets import Augmentation, DataSetError, evaluation_batches, training_batches
from training.datasets.command_line import Source
from training.finetune import FineTuning, Rows
from training.finetune.__main__ import main
from training.moving_things.encode import encode
from training.moving_things.render import render
from training.moving_things.scene import sample_scene

LEFT, RIGHT = "moving left", "moving right"
PAIR = f"{LEFT}={RIGHT}"
CONFIG = dataclasses.replace(SMALL, frames=4, labels=("some", "thing"))
# The same views again and again: what is left to chance is which frames, and the mirror.
SAME = Augmentation(
    jitter=False, area=(1, 1), aspect=(1, 1), brightness=0, contrast=0, saturation=0
)


def rendered(root: Path, each: int, seed: int) -> Path:
    """A folder of rendered clips: ``each`` of things that move left, as many that move right."""
    for number, label in enumerate((LEFT, RIGHT)):
        (root / label).mkdir(parents=True)
        for clip in range(each):
            scene = sample_scene(label, np.random.default_rng([seed, number, clip]))
            video = encode(render(scene, 128).frames, scene.fps)
            (root / label / f"{clip}.mp4").write_bytes(video)
    return root


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("clips") / "clips", 4, 0)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("start") / "checkpoint.safetensors"
    save_checkpoint(LookWhen(CONFIG), path, {})
    return path


def shown(views: np.ndarray, targets: np.ndarray, clips: Path) -> list[tuple[bool, bool]]:
    """Whether each training view is mirrored, and whether it has its clip's label.

    Which clip it is of, and which way round, is found by comparing it with the plain views."""
    source = Source("folders", clips).read()
    (plain,) = evaluation_batches(source, CONFIG, batch=len(source), workers=0)
    frames = plain.frames.numpy().astype(int)
    candidates = np.concatenate([frames, frames[:, :, :, ::-1]])
    found = []
    for view, label in zip(views.astype(int), targets.tolist(), strict=True):
        nearest = int(np.abs(candidates - view).mean(axis=(1, 2, 3, 4)).argmin())
        clip = nearest % len(source)
        found.append((nearest >= len(source), source.entries[clip].labels == (label,)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "mirrored", "labels"),
    [
        ([], 0.0, True),
        (["--no-flip"], 0.0, True),
        (["--mirror", PAIR], 0.5, False),
        (["--mirror", f"{RIGHT} = {LEFT}", "--mirror", PAIR, "--flip"], 0.5, False),
        (["--flip"], 0.5, True),
    ],
    ids=["by default", "no flip", "mirror", "mirror, said twice", "flip"],
)
def test_what_a_fine_tuning_is_shown(
    options: list[str],
    mirrored: float,
    labels: bool,
    start: Path,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through the documented command, on real clips of things that go left or right."""
    real, seen = FineTuning.forward, []

    def watched(self: FineTuning, batch: Rows, step: int) -> object:
        seen.append((batch.frames.numpy().copy(), batch.target.numpy().copy()))
        return real(self, batch, step)

    monkeypatch.setattr(FineTuning, "forward", watched)
    line = [str(start), str(tmp_path / "run"), "folders", str(clips), *options]
    line += ["--epochs", "8", "--batch", "16", "--crop-area", "1", "1", "--colours", "0"]
    result = CliRunner().invoke(main, [*line, "--workers", "0", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    views, targets = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    assert len(views) == 64
    found = shown(views, targets, clips)
    share = np.mean([flipped for flipped, _ in found])
    assert share == 0 if mirrored == 0 else 0.3 < share < 0.7
    assert all(same for flipped, same in found if not flipped)
    assert all(same == labels for flipped, same in found if flipped)
    facts = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")[1]
    wanted = {LEFT: RIGHT, RIGHT: LEFT} if "--mirror" in options else {}
    assert facts["mirror"] == (wanted if mirrored else None)


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_mirror(start: Path, clips: Path, tmp_path: Path) -> None:
    line = [str(start), str(tmp_path / "run"), "folders", str(clips), "--epochs", "1"]
    line += ["--batch", "4", "--workers", "0"]
    assert CliRunner().invoke(main, line).exit_code == 0
    result = CliRunner().invoke(main, [*line, "--mirror", PAIR])
    assert result.exit_code == 1
    assert "belongs to another recipe (mirror was 'never', now" in result.output


@pytest.mark.long
def test_left_and_right_are_learnt_by_the_documented_command(
    built_in_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the built-in model's weights, as README says; a mirror with its labels kept would leave
    no way to tell them apart."""
    monkeypatch.chdir(tmp_path)
    rendered(tmp_path / "clips", 12, 1)
    rendered(tmp_path / "held_out", 12, 2)
    for line in (
        # Of one sparsity: a CPU compiles its kernels for each.
        ["finetune", str(built_in_checkpoint), "run", "folders", "clips", "--epochs", "7",
         "--batch", "8", "--sparsities", "0.9", "0.9"],
        ["evaluate", "run/checkpoint.safetensors", "folders", "held_out", "out.json",
         "--sparsity", "0.9"],
    ):  # fmt: skip
        done = CliRunner().invoke(lookwhen, ["train", *line, "--workers", "0", "--device", "cpu"])
        assert done.exit_code == 0, done.output
    (point,) = json.loads((tmp_path / "out.json").read_text())["points"]
    assert point["top1"] > 0.9, done.output


@pytest.mark.parametrize("kind", ["folders", "list", "index"])
def test_clips_of_ones_own_are_mirrored_only_when_asked(kind: str, tmp_path: Path) -> None:
    path = own(kind, tmp_path)
    assert Source(kind, path).read().mirror is None
    assert Source(kind, path, flip=True).read().mirror == {}
    pair = ("0=1",) if kind == "list" else ("a b=c",)
    assert Source(kind, path, mirror=pair).read().mirror == {0: 1, 1: 0}
    with pytest.raises(DataSetError, match="leave one of them out"):
        Source(kind, path, mirror=pair, flip=False).read()


def own(kind: str, root: Path) -> Path:
    for name in ("a b", "c", "left = west", "right = east"):
        (root / "set" / name).mkdir(parents=True)
        (root / "set" / name / "1.mp4").touch()
    if kind == "folders":
        return root / "set"
    rows = [("a b/1.mp4", "a b", 0), ("c/1.mp4", "c", 1), ("c/1.mp4", "c", 1)]
    file = root / "set" / "rows"
    if kind == "list":
        file.write_text("".join(f"{path} {number}\n" for path, _, number in rows))
    else:
        file.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label, _ in rows))
    return file


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        (["a b"], r"two labels with an equals sign between them.*got 'a b'"),
        (["a b=d"], "'d' is to be mirrored, but there is no such label; there are 'a b', 'c'"),
        (["a  b=c"], "'a  b' is to be mirrored, but there is no such label; nearest to it: 'a b'"),
        (["c=c"], "'c' is to become itself"),
        (["a b=c", "c=left = west"], "mirror image of 'c' is to be both 'a b' and 'left = west'"),
        (["=c"], "'' is to be mirrored"),
    ],
)
def test_pairs_that_cannot_be(mirror: list[str], message: str, start: Path, tmp_path: Path) -> None:
    path = own("folders", tmp_path)
    with pytest.raises(DataSetError, match=message):
        Source("folders", path, mirror=tuple(mirror)).read()
    options = [part for pair in mirror for part in ("--mirror", pair)]
    line = [str(start), str(tmp_path / "run"), "folders", str(path), *options]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_a_label_may_hold_an_equals_sign(tmp_path: Path) -> None:
    path = own("folders", tmp_path)
    dataset = Source("folders", path, mirror=("left = west=right = east",)).read()
    assert dataset.mirror_by_label == {
        "left = west": "right = east",
        "right = east": "left = west",
    }


def test_published_sets_keep_their_rule(tmp_path: Path) -> None:
    annotations, folder = tmp_path / "annotations", tmp_path / "clips"
    annotations.mkdir()
    (annotations / "jester-v1-labels.csv").write_text("Swiping Left\nSwiping Right\n")
    (annotations / "jester-v1-train.csv").write_text("1;Swiping Left\n")
    (folder / "1").mkdir(parents=True)
    assert Source("jester", annotations, folder, "train").read().mirror is None
    for more, message in (
        ({"flip": True}, "jester is never mirrored"),
        ({"mirror": ("Swiping Left=Swiping Right",)}, "jester has a rule of its own"),
    ):
        with pytest.raises(DataSetError, match=message):
            Source("jester", annotations, folder, "train", **more).read()  # type: ignore[arg-type]
    (annotations / "train.csv").write_text("label,youtube_id,time_start,time_end\nx,v,0,1\n")
    (folder / "v_000000_000001.mp4").touch()
    kinetics = Source("kinetics", annotations, folder, "train")
    assert kinetics.read().mirror == {}
    assert dataclasses.replace(kinetics, flip=True).read().mirror == {}
    assert dataclasses.replace(kinetics, flip=False).read().mirror is None


@pytest.mark.slow
def test_views_and_labels_from_python(clips: Path) -> None:
    """The readers' own arguments, without a command line."""
    for mirror, flipped in (((), False), ((PAIR,), True)):
        dataset = Source("folders", clips, mirror=mirror).read()
        batches = training_batches(
            dataset, CONFIG, batch=16, seed=0, first=0, last=2, workers=0, augmentation=SAME
        )
        for batch in batches:
            found = shown(batch.frames.numpy(), batch.target.numpy(), clips)
            assert any(one for one, _ in found) == flipped
            assert all(same != one for one, same in found)
