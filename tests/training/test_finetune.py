"""Fine-tuning on folders of real, tiny videos."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_network import SMALL

from bundle.geometry import downscale
from bundle.reader import read_bundle
from export.__main__ import main as export_main
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from training.datasets import Augmentation, DataSet, MultiLabel, TooManyLost, TopOne, VerbNoun
from training.datasets.balance import balanced
from training.datasets.lists import read_class_folders
from training.evaluation.validation import Measured, ValidationLog
from training.finetune import (
    RECIPES,
    FineTuning,
    FineTuningRecipe,
    Rows,
    finetune,
    finetuning_step,
    run,
    with_head,
)
from training.finetune.__main__ import main
from training.loop import TrainingError
from training.mixing import Mixture, draw_mixture, mix
from training.moving_things.encode import encode
from training.processes import Processes
from training.running import Running
from training.targets import pixel_change

ALONE = Processes(0, 1, torch.device("cpu"))
SAVING = Running(save_every=2)
CONFIG = dataclasses.replace(SMALL, frames=4, extractor_depth=2, labels=("some", "thing"))
# Weights mean nothing yet, so all depths learn alike.
RECIPE = FineTuningRecipe(
    epochs=2,
    batch=4,
    learning_rate=1e-2,
    layer_decay=1.0,
    warm_up=0.0,
    mixup=0.0,
    label_smoothing=0.0,
    drop_path=0.0,
    augmentation=Augmentation(False, (1, 1), (1, 1), False, 0, 0, 0),
)
COLOURS = {"blue": (40, 40, 160), "red": (160, 40, 40)}
LABELS = tuple(COLOURS)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of each of two colours; in all of them something bright moves."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (root / label).mkdir()
        for number in range(4):
            frames = np.tile(np.array(colour, np.uint8), (8, 64, 80, 1))
            frames += rng.integers(0, 40, (64, 80, 1), dtype=np.uint8)
            for frame in range(8):
                frames[frame, 10 * number : 10 * number + 16, 8 * frame : 8 * frame + 16] = 230
            (root / label / f"{number}.mp4").write_bytes(encode(frames, 8.0))
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("start") / "checkpoint.safetensors"
    save_checkpoint(LookWhen(CONFIG), path, {"name": "a test", "clips_seen": 100})
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def go(recipe: FineTuningRecipe, start: Path, out: Path, clips: Path, **more: object) -> Path:
    data = read_class_folders(clips)
    return finetune(recipe, start, out, data, processes=ALONE, **more)  # type: ignore[arg-type]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


@pytest.mark.slow
def test_it_learns_and_leaves_the_selector_alone(start: Path, clips: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=15, batch=8)
    held = read_class_folders(clips)
    written = go(recipe, start, tmp_path, clips, held=held, validate_every=6)
    losses = [float(row["label_loss"]) for row in rows_of(tmp_path / "log.csv")]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])
    before, after = tensors(start), tensors(written)
    for name in before:
        same = torch.equal(before[name], after[name])
        assert same == name.startswith("selector."), name
    measured = rows_of(tmp_path / "validation.csv")
    assert [(row["step"], row["sparsity"]) for row in measured] == [
        (step, sparsity) for step in ("6", "12", "15") for sparsity in ("0.7", "0.9")
    ]
    assert float(measured[-2]["loss"]) < float(measured[0]["loss"])
    assert float(measured[-2]["top1"]) > 0.9
    model, facts = load_checkpoint(written)
    assert model.config.labels == LABELS
    assert facts["clips_seen"] == 100 + 15 * 8
    assert facts["continues"]["name"] == "a test"
    assert facts["recipe"]["epochs"] == 15
    assert facts["unreadable"] == 0


@pytest.mark.slow
def test_a_trained_selector_learns_by_what_it_hands_on_and_by_its_map(
    start: Path, clips: Path, tmp_path: Path
) -> None:
    before = tensors(start)
    handed = dataclasses.replace(RECIPE, train_selector=True, selector_rate=1.0)
    after = tensors(go(handed, start, tmp_path / "handed", clips))
    assert not torch.equal(before["selector.prefix"], after["selector.prefix"])
    assert torch.equal(before["selector.head.fc1.weight"], after["selector.head.fc1.weight"])
    mapped = dataclasses.replace(handed, map_weight=1.0, epochs=12, batch=8)
    after = tensors(go(mapped, start, tmp_path / "mapped", clips))
    assert not torch.equal(before["selector.head.fc1.weight"], after["selector.head.fc1.weight"])
    losses = [float(row["map_loss"]) for row in rows_of(tmp_path / "mapped" / "log.csv")]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]
    with pytest.raises(ValueError, match="needs a selector that is trained"):
        dataclasses.replace(mapped, train_selector=False)


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    start: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(
        RECIPE, epochs=3, mixup=0.5, drop_path=0.3, balance=1.0, optimizer="muon"
    )
    more = {
        "held": read_class_folders(clips),
        "validate_every": 1,
        "running": SAVING,
    }
    whole = go(recipe, start, tmp_path / "whole", clips, **more)
    real, steps = run.FineTuning.forward, []

    def killed(self: FineTuning, batch: Rows, step: int) -> object:
        steps.append(step)
        if len(steps) == 4:  # step 3: validated and logged one further than the saved state
            raise KeyboardInterrupt
        return real(self, batch, step)

    monkeypatch.setattr(FineTuning, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        go(recipe, start, tmp_path / "cut", clips, **more)
    monkeypatch.setattr(FineTuning, "forward", real)
    cut = go(recipe, start, tmp_path / "cut", clips, **more)
    for name in ("log.csv", "validation.csv"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()
    for name in ("checkpoint.safetensors", "best.safetensors"):
        one, other = (tensors(path.with_name(name)) for path in (whole, cut))
        assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(TrainingError, match="learning_rate was"):
        go(dataclasses.replace(recipe, learning_rate=1.0), start, tmp_path / "cut", clips)


def test_a_mixed_clip_is_both_before_either_network_sees_it() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8)
    mixture = Mixture(torch.tensor([1, 2, 0]), torch.tensor([0.25, 1.0, 0.5]))
    mixed = mix(torch.from_numpy(frames), mixture).numpy()
    wanted = 0.25 * frames[0].astype(float) + 0.75 * frames[1]
    assert np.abs(mixed[0] - wanted).max() <= 0.5
    assert np.array_equal(mixed[1], frames[1])
    small = mix(torch.from_numpy(downscale(frames)), mixture).numpy()
    assert np.abs(small.astype(int) - downscale(mixed)).max() <= 1
    for task, target in (
        (TopOne(3), torch.tensor([0, 1, 2])),
        (VerbNoun(2, 3), torch.tensor([[0, 1], [1, 1], [0, 2]])),
    ):
        dense = mix(task.dense(target, 0.1), mixture)
        torch.testing.assert_close(dense.sum(dim=1), torch.full((3,), float(target.ndim)))
    assert mix(TopOne(3).dense(torch.tensor([0, 1, 2])), mixture)[0].tolist() == [0.25, 0.75, 0.0]


def test_mixtures_follow_from_the_seed() -> None:
    torch.manual_seed(3)
    one = draw_mixture(1000, 0.8, 0.5)
    torch.manual_seed(3)
    assert all(map(torch.equal, one, draw_mixture(1000, 0.8, 0.5)))
    assert (one.weight >= 0).all()
    assert 0.45 < (one.weight == 1).float().mean() < 0.55
    assert not (one.partner == torch.arange(1000)).any()
    with pytest.raises(ValueError, match="alpha above 0"):
        draw_mixture(2, 0.0, 1.0)


def test_steps_take_their_sparsity_from_the_range() -> None:
    recipe = dataclasses.replace(RECIPE, levels=3, dense_share=0.25, dense_rows=0.5)
    drawn = [finetuning_step(recipe, CONFIG, step) for step in range(400)]
    assert {round(s, 3) for s, share in drawn if share == 1} == {0.7, 0.825, 0.95}
    dense = [s for s, share in drawn if share == 0.5]
    assert set(dense) == set(recipe.dense_sparsities)
    assert 70 < len(dense) < 130
    assert drawn == [finetuning_step(recipe, CONFIG, step) for step in range(400)]
    anywhere = [
        finetuning_step(dataclasses.replace(RECIPE, levels=0), CONFIG, s)[0] for s in range(100)
    ]
    assert len(set(anywhere)) > 10
    assert min(anywhere) >= 0.7 - 1 / CONFIG.tokens


def test_the_head_is_new_unless_it_is_to_be_kept(start: Path) -> None:
    parent, _ = load_checkpoint(start)
    model, _ = with_head(
        parent, ("a", "b", "c"), dataclasses.replace(RECIPE, sparsities=(0.5, 0.9))
    )
    assert model.head.weight.shape == (3, CONFIG.width)
    assert (model.config.lowest_sparsity, model.config.highest_sparsity) == (0.5, 0.9)
    kept = dataclasses.replace(RECIPE, keep_head=True)
    model, _ = with_head(parent, CONFIG.labels, kept)
    assert torch.equal(model.head.weight, parent.head.weight)
    assert not torch.equal(
        with_head(parent, CONFIG.labels, RECIPE)[0].head.weight, model.head.weight
    )
    with pytest.raises(ValueError, match="other labels"):
        with_head(parent, ("a", "b"), kept)
    with pytest.raises(ValueError, match="there are 1 classes"):
        with_head(parent, ("a",), RECIPE)


def relabelled(clips: Path, kind: str) -> DataSet:
    folders = read_class_folders(clips)
    if kind == "multi":
        entries = tuple(
            dataclasses.replace(entry, labels=labels)
            for entry, labels in zip(folders.entries, [(0,), (1,), (0, 2), ()] * 2, strict=True)
        )
        return dataclasses.replace(
            folders, entries=entries, labels=("a", "b", "c"), task=MultiLabel(3)
        )
    entries = tuple(
        dataclasses.replace(entry, labels=(entry.labels[0], number % 3))
        for number, entry in enumerate(folders.entries)
    )
    names = ("put", "take", "cup", "pan", "lid")
    return dataclasses.replace(folders, entries=entries, labels=names, task=VerbNoun(2, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "figure"), [("multi", "mAP"), ("verb and noun", "action_top1")])
def test_other_tasks(kind: str, figure: str, start: Path, clips: Path, tmp_path: Path) -> None:
    data = relabelled(clips, kind)
    recipe = dataclasses.replace(RECIPE, mixup=0.8, dense_share=0.5, accumulate=2)
    written = finetune(recipe, start, tmp_path, data, data, processes=ALONE, validate_at=(0.5,))
    (row,) = rows_of(tmp_path / "validation.csv")
    assert 0 <= float(row[figure]) <= 1
    assert load_checkpoint(written)[0].config.labels == data.labels


def test_rare_classes_are_shown_as_often_as_the_largest(clips: Path) -> None:
    data = read_class_folders(clips).subset([0, 1, 2, 3, 4])

    def count(strength: float) -> list[int]:
        shown = [entry.labels[0] for entry in balanced(data, strength, 0).entries]
        return [shown.count(0), shown.count(1)]

    assert count(0.0) == [4, 1]
    assert count(0.5) == [4, 2]
    assert count(1.0) == [4, 4]
    multi = balanced(relabelled(clips, "multi"), 1.0, 0)
    assert len(multi) == 12  # four of class 0, two of each other: those come twice
    with pytest.raises(ValueError, match="strength"):
        balanced(data, 2.0, 0)


def test_labels_that_take_longer_are_shown_more_often(clips: Path) -> None:
    data = read_class_folders(clips).subset([0, 1, 2, 3, 4])

    def count(strength: float, times: float) -> list[int]:
        shown = balanced(data, strength, 0, {data.labels[1]: times}).entries
        return [sum(entry.labels[0] == label for entry in shown) for label in (0, 1)]

    assert count(0.0, 3) == [4, 3]
    assert count(1.0, 2) == [4, 8]
    with pytest.raises(ValueError, match="no such label"):
        balanced(data, 0.0, 0, {"flying": 2})
    with pytest.raises(ValueError, match="at least 1"):
        balanced(data, 0.0, 0, {data.labels[0]: 0.5})


@pytest.mark.slow
def test_too_many_unreadable_clips_stop_the_run(start: Path, clips: Path, tmp_path: Path) -> None:
    broken = tmp_path / "clips"
    for event in LABELS:
        (broken / event).mkdir(parents=True)
        for number in range(4):
            clip = (clips / event / f"{number}.mp4").read_bytes()
            (broken / event / f"{number}.mp4").write_bytes(clip if number else b"broken")
    with pytest.raises(TooManyLost):
        go(RECIPE, start, tmp_path / "strict", broken)
    written = go(RECIPE, start, tmp_path / "lenient", broken, lost_share=0.25)
    assert load_checkpoint(written)[1]["unreadable"] == 2


def test_the_best_step_is_known_again_after_a_stop(tmp_path: Path) -> None:
    def point(top1: float, loss: float) -> list[Measured]:
        return [Measured(0.9, 6, 10, loss, {"top1": top1})]

    path = tmp_path / "validation.csv"
    log = ValidationLog(path, "top1", 0)
    assert log.add(1, point(0.5, 1.0))
    assert log.add(2, point(0.6, 1.0))
    assert log.add(3, point(0.6, 0.9))
    assert not log.add(4, point(0.6, 0.9))
    assert not log.add(5, point(0.5, 0.1))
    again = ValidationLog(path, "top1", 2)
    assert [row["step"] for row in rows_of(path)] == ["1", "2"]
    assert again.best() == 2
    assert again.add(3, point(0.6, 0.9))
    assert again.at(3) == rows_of(path)[2:]


def test_the_map_is_learnt_from_the_change_in_pixels(
    start: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = FineTuning.forward, []

    def watched(self: FineTuning, batch: Rows, step: int) -> object:
        seen.append(batch)
        return real(self, batch, step)

    monkeypatch.setattr(FineTuning, "forward", watched)
    recipe = dataclasses.replace(RECIPE, epochs=0.5, train_selector=True, map_weight=0.5)
    go(recipe, start, tmp_path, clips)
    (batch,) = seen
    wanted = pixel_change(batch.frames[1].numpy(), CONFIG.patch)
    assert np.array_equal(batch.change[1].numpy(), wanted)


@pytest.mark.long
def test_from_the_command_line_to_a_bundle(start: Path, clips: Path, tmp_path: Path) -> None:
    line = [str(start), str(tmp_path / "run"), "folders", str(clips), "--workers", "0"]
    turns = ["--epochs", "1", "--batch", "4", "--validation", "0.25", "--learning-rate", "1e-3"]
    views = ["--crop-area", "0.8", "1", "--no-flip", "--sparsities", "0.6", "0.9"]
    views += ["--size", "96"]
    result = CliRunner().invoke(main, [*line, *turns, *views, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    best = tmp_path / "run" / "best.safetensors"
    facts = load_checkpoint(best)[1]
    assert facts["recipe"]["augmentation"]["area"] == [0.8, 1]
    assert facts["mirror"] is None
    assert facts["recipe"]["mixup"] == RECIPES["own"].mixup
    assert str(tmp_path) not in str(facts)
    result = CliRunner().invoke(export_main, [str(best), str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    manifest = read_bundle(tmp_path / "bundle").manifest
    assert tuple(manifest.labels) == LABELS
    assert manifest.sparsity.lowest == 0.6
    assert (manifest.geometry.size, manifest.geometry.tokens) == (96, 4 * 6 * 6)
    assert manifest.provenance.recipe == "training.finetune"
    assert manifest.provenance.clips_seen == 100 + facts["steps"] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--map-weight", "1"], "needs a selector that is trained"),
        (["--layer-decay", "0"], "decay must lie in"),
        (["--keep-head"], "other labels"),
        (["--size", "100"], "multiple of twice the patch, got 100"),
        (["--validation", "0.5", "--validation-split", "x"], "not both"),
        (["--device", "nonsense"], "cannot be used"),
        (["--batch", "3", "--accumulate", "2"], "does not divide"),
    ],
)
def test_what_the_command_line_refuses(
    options: list[str], message: str, start: Path, clips: Path, tmp_path: Path
) -> None:
    line = [str(start), str(tmp_path), "folders", str(clips), "--workers", "0"]
    result = CliRunner().invoke(main, [*line, *options])
    assert result.exit_code == 1
    assert message in result.output


def test_a_file_that_is_no_checkpoint(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        go(RECIPE, tmp_path / "nothing", tmp_path / "out", clips)
