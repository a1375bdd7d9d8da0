"""From folders of real, tiny videos to a measured network, and to a bundle."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_network import SMALL

from bundle.reader import read_bundle
from lookwhen.command_line import main
from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from training.loop import OutOfTime
from training.moving_things.encode import encode
from training.own import OwnClips, OwnSettings, probing, read_own, train_own
from training.own.figures import predict_clips
from training.own.probing import (
    cross_validated,
    frozen_features,
    learn_head,
    with_probe,
)
from training.own.tuning import FEWEST_EPOCHS, RECIPE, epochs_within
from training.processes import Processes
from training.progress import uncounted

pytestmark = pytest.mark.slow

ALONE = Processes(0, 1, torch.device("cpu"))
CONFIG = dataclasses.replace(SMALL, frames=4, labels=("some", "thing"))
QUICK = dataclasses.replace(probing._SETTINGS, weight_decays=(0.1,), least_steps=60)
COLOURS = {"blue": (40, 40, 160), "red": (160, 40, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of each of two colours, two of each source."""
    root = tmp_path_factory.mktemp("own") / "Colours (mine)"
    rng = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for number in range(8):
            frames = np.tile(np.array(colour, np.uint8), (8, 64, 80, 1))
            frames += rng.integers(0, 40, (*frames.shape[:3], 1), dtype=np.uint8)
            name = f"tape{number // 2}_{number % 2}.mp4"
            (root / label / name).write_bytes(encode(frames, 8.0))
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(LookWhen(CONFIG), path, {"name": "a test", "clips_seen": 100})
    return path


def run(own: OwnClips, start: Path, out: Path, settings: OwnSettings, seconds: float = 60):  # type: ignore[no-untyped-def]
    import time

    said: list[str] = []
    result = train_own(
        own, start, out, settings, until=time.monotonic() + 60 + seconds, processes=ALONE,
        mirroring="no view is mirrored", data="a test", say=said.append,
    )  # fmt: skip
    return result, said


def test_the_head_in_the_network_says_what_the_probe_says(
    folder: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_SETTINGS", QUICK)
    clips = read_own(folder, lost_share=0).clips
    parent, _ = load_checkpoint(start)
    features = frozen_features(
        parent, clips, tmp_path, weights="a", device=ALONE.device, count=uncounted
    )
    head = learn_head(features, range(len(clips)), seed=0)
    model = with_probe(parent, head, clips.labels)
    (predicted,) = predict_clips([model], clips, "crop", ALONE)
    for sparsity, video in features.video.items():
        with torch.inference_mode():
            expected = head(video)
        torch.testing.assert_close(predicted.logits[sparsity], expected, atol=1e-3, rtol=1e-3)
    assert predicted.right(0.9).all()
    assert cross_validated(features, seed=0).right(0.9).mean() > 0.9


def test_epochs_follow_from_the_time() -> None:
    steps = 100 / 0.5 * 0.9
    assert epochs_within(100, 0.5, 320, RECIPE) == pytest.approx(steps * 16 / 320)
    assert epochs_within(1e9, 0.5, 320, RECIPE) == RECIPE.epochs == 100
    assert epochs_within(1.0, 0.5, 320, RECIPE) == 0.0 < FEWEST_EPOCHS


@pytest.mark.long
def test_probe_then_fine_tuning_then_the_better_one(
    folder: Path, start: Path, tmp_path: Path
) -> None:
    whole = read_own(folder, lost_share=0)
    test = whole.clips.where(lambda entry: entry.group == "tape3")
    own = OwnClips(whole.clips.where(lambda entry: entry.group != "tape3"), test, whole.grouping)
    out = tmp_path / "out"
    settings = OwnSettings(workers=0, minutes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.own.run.FEWEST_TUNED", 6)
        patch.setattr("training.own.probing._SETTINGS", QUICK)
        result, said = run(own, start, out, settings)
        report = json.loads((out / "report.json").read_text())
        # The same command again finds everything done, and says the same.
        again, said_again = run(own, start, out, settings)
    assert said[0] == "12 clips of 2 classes: 6 each"
    assert any("epochs of fine-tuning" in line for line in said)
    assert any(line.startswith("fine-tuned, held out") for line in said)
    probe, of_probe = load_checkpoint(out / "probe.safetensors")
    assert probe.config.labels == ("blue", "red")
    assert of_probe["framing"] == report["framing"]
    assert report["test"]["clips"] == 4
    assert report["test"]["top1"]["0.9"]["value"] >= 0.75
    assert said_again[-1] == said[-1]
    assert again.tuned == result.tuned
    model, facts = load_checkpoint(result.checkpoint)
    assert model.config.labels == ("blue", "red")
    assert facts["framing"] in ("crop", "squash")
    assert facts["temperature"] == report["temperature"]
    kept = {name: tensor.clone() for name, tensor in result.model.state_dict().items()}
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, kept[name]), name


def test_when_time_is_over_the_best_so_far_is_taken(
    folder: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before anything was measured the run says how it goes on."""
    from training.own import tuning

    clips = read_own(folder, lost_share=0).clips
    # More than any machine has time for: a second is what a run is given at least.
    recipe = dataclasses.replace(RECIPE, epochs=4000, batch=4, keep_head=False)

    def tune(seconds: float) -> tuning.Tuned:
        return tuning.tune(
            recipe, start, tmp_path, clips, clips, processes=ALONE, data="a test",
            seconds=seconds, looking=0.0, workers=0,
        )  # fmt: skip

    with pytest.raises(OutOfTime, match="the same command goes on"):
        tune(1e-3)
    assert (tmp_path / "state.safetensors").exists()
    monkeypatch.setattr(tuning, "_VALIDATIONS", 10**6)  # after each step
    stopped = tune(1e-3)
    assert (stopped.whole, stopped.checkpoint.name) == (False, "best.safetensors")


@pytest.mark.long
def test_one_command_from_a_folder_to_a_bundle(
    folder: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short form of `lookwhen train own`, with few clips of each class."""
    few = tmp_path / "Few Clips"
    for label in COLOURS:
        shutil.copytree(
            folder / label, few / label, ignore=lambda _, names: [n for n in names if n > "tape2"]
        )
    monkeypatch.setattr("training.own.run.FEWEST_THRESHOLD", 8)
    done = CliRunner().invoke(
        main,
        ["train", str(few), str(tmp_path / "out"), "--probe-only", "--start", str(start),
         "--workers", "0", "--framing", "squash", "--flip"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"LOOKWHEN_BUNDLE={tmp_path}/out/bundle lookwhen serve" in done.output
    manifest = read_bundle(tmp_path / "out" / "bundle").manifest
    assert (manifest.name, manifest.labels) == ("few_clips", ["blue", "red"])
    assert manifest.sampling.framing == "squash"
    assert manifest.answer.temperature_at(0.9) != 1.0
    threshold = manifest.answer.unknown_below(0.9)
    assert threshold is not None
    assert f"unknown is what scores below {threshold:.2f}" in done.output
    assert manifest.sparsity.default == 0.9
    assert [point.sparsity for point in manifest.accuracy] == [0.7, 0.9, 0.95]
    assert manifest.accuracy[0].clips == 8


def test_few_clips_tell_no_threshold(folder: Path, start: Path, tmp_path: Path) -> None:
    own = read_own(folder, lost_share=0)
    result, said = run(own, start, tmp_path, OwnSettings(workers=0, probe_only=True))
    assert "no threshold for what is unknown: it takes 20 clips held out" in said
    assert "unknown" not in result.facts["answer"]


def test_what_cannot_be_learnt_from_is_refused_in_a_sentence(
    folder: Path, start: Path, tmp_path: Path
) -> None:
    turns = tmp_path / "turns"
    for name in ("turn left", "turn right"):
        shutil.copytree(folder / "red", turns / name)

    def refused(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["train", *arguments])
        assert done.exit_code != 0
        return str(done.output)

    assert "--mirror 'turn left=turn right'" in refused(str(turns), "--start", str(start))
    assert "there is one class" in refused(str(_one(turns, tmp_path)))
    assert "does not exist" in refused(f"{tmp_path}/nothing/here")
    assert "No such command 'nothing'" in refused("nothing")


def _one(turns: Path, tmp_path: Path) -> Path:
    shutil.copytree(turns / "turn left", tmp_path / "one" / "turning")
    return tmp_path / "one"
