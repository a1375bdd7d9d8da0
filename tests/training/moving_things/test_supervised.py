"""The training of the built-in bundle: resume, hand-over, divergence."""

import csv
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rendered import decode_view
from safetensors import safe_open
from small_network import SMALL

from bundle.geometry import downscale
from bundle.sampling import Views
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS
from training.datasets.loading import Steps
from training.datasets.views import EntryViews, evaluation_batches
from training.evaluation.truth import MovingTokens
from training.loop import TrainingError
from training.losses import map_loss
from training.moving_things.dataset import read_store
from training.moving_things.labels import BACKWARDS, LABELS, MIRROR, TURNING
from training.moving_things.store import ClipStore, write_store
from training.moving_things.supervised import (
    CloseUps,
    RenderedAugmentation,
    Sample,
    Supervised,
    SupervisedRecipe,
    build,
    supervised_batches,
    supervised_step,
    train,
)
from training.optimizers import set_rate
from training.processes import Processes
from training.running import Running
from training.targets import pixel_change

pytestmark = pytest.mark.slow

RECIPE = SupervisedRecipe(config="small", batch=4, steps=4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, 18, 0, workers=0)
    return path


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "small", SMALL)


def losses_of(out: Path) -> list[str]:
    with (out / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def run(
    clips: Path, out: Path, recipe: SupervisedRecipe = RECIPE, start: Path | None = None
) -> Path:
    alone = Processes(0, 1, torch.device("cpu"))
    return train(recipe, clips, out, processes=alone, running=Running(save_every=2), start=start)


@pytest.mark.long
def test_a_resumed_run_is_the_run_that_was_never_stopped(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(clips, tmp_path / "whole")
    real = Supervised.forward

    def killed(self: Supervised, batch: Sample, step: int) -> object:
        if step == 3:  # a step after the saved state was already logged
            raise KeyboardInterrupt
        return real(self, batch, step)

    monkeypatch.setattr(Supervised, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "cut")
    monkeypatch.setattr(Supervised, "forward", real)
    cut = run(clips, tmp_path / "cut")
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")
    one, other = load_checkpoint(whole)[0], load_checkpoint(cut)[0]
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], msg=name)


@pytest.mark.long
def test_a_signal_to_the_whole_group_saves_the_state(clips: Path, tmp_path: Path) -> None:
    """As a cluster or torchrun sends it: to the processes that decode as well."""
    command = [sys.executable, "-m", "lookwhen", "train", "builtin"]
    command += [str(clips), str(tmp_path / "out")]
    options = ["--steps", "10000", "--batch", "2", "--workers", "1", "--device", "cpu"]
    run = subprocess.Popen(
        [*command, *options],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "out" / "log.csv"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) > 3):
        assert run.poll() is None, run.stderr and run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "Traceback" not in said
    stopped = re.search(r"stopped after step (\d+)", said)
    assert stopped, said
    with safe_open(tmp_path / "out" / "state.safetensors", framework="pt") as file:
        assert int(file.metadata()["step"]) == int(stopped[1]) + 1


def test_a_finished_run_leaves_its_checkpoint_alone(clips: Path, tmp_path: Path) -> None:
    first = run(clips, tmp_path)
    before = first.stat().st_mtime_ns
    assert run(clips, tmp_path) == first
    assert first.stat().st_mtime_ns == before
    first.unlink()
    assert load_checkpoint(run(clips, tmp_path))[1]["clips_seen"] == 16


def test_another_recipe_does_not_go_on_in_the_same_folder(clips: Path, tmp_path: Path) -> None:
    run(clips, tmp_path, dataclasses.replace(RECIPE, steps=1))
    with pytest.raises(TrainingError, match=r"another recipe .steps was 1, now 4"):
        run(clips, tmp_path)


def test_processes_share_a_batch(clips: Path) -> None:
    dataset = read_store(clips)
    both = [
        next(
            iter(
                supervised_batches(
                    dataset,
                    SMALL,
                    batch=4,
                    seed=0,
                    first=2,
                    last=3,
                    workers=0,
                    rank=r,
                    world=2,
                    pin=False,
                )
            )
        )
        for r in range(2)
    ]
    (whole,) = supervised_batches(
        dataset, SMALL, batch=4, seed=0, first=2, last=3, workers=0, rank=0, world=1, pin=False
    )
    assert whole.lost == []
    for mine, all_of_them in zip(zip(*both, strict=True), whole[:-1], strict=False):
        assert torch.equal(torch.stack(mine, dim=1).flatten(0, 1), all_of_them)


@pytest.mark.long
def test_a_run_goes_on_from_a_checkpoint(clips: Path, tmp_path: Path) -> None:
    first = run(clips, tmp_path / "first")
    still = dataclasses.replace(RECIPE, steps=1, learning_rate=0.0, matrix_learning_rate=0.0)
    second = run(clips, tmp_path / "second", still, start=first)
    (one, _), (other, facts) = load_checkpoint(first), load_checkpoint(second)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert facts["clips_seen"] == (4 + 1) * RECIPE.batch
    assert facts["continues"]["recipe"]["steps"] == 4
    pretrained = LookWhen(dataclasses.replace(load_checkpoint(first)[0].config, labels=()))
    save_checkpoint(pretrained, tmp_path / "pretrained.safetensors", {})
    third = run(clips, tmp_path / "third", still, start=tmp_path / "pretrained.safetensors")
    continued, _ = load_checkpoint(third)
    assert continued.config == load_checkpoint(first)[0].config, "its labels are the clips'"
    for name, tensor in pretrained.state_dict().items():
        assert torch.equal(tensor, continued.state_dict()[name]), name
    wider = dataclasses.replace(RECIPE, config="lookwhen_mini16")
    with pytest.raises(CheckpointError, match="not of the shape"):
        run(clips, tmp_path / "fourth", wider, start=first)


@pytest.mark.long
def test_training_learns(clips: Path, tmp_path: Path) -> None:
    """Eighteen clips by heart: both losses fall far below where they start."""
    recipe = dataclasses.replace(
        RECIPE, steps=60, batch=9, learning_rate=3e-3, map_weight=1.0, hand_over=(2.0, 3.0)
    )
    run(clips, tmp_path, recipe)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    early, late = rows[:5], rows[-5:]
    for name in ("label_loss", "map_loss"):
        first = np.mean([float(row[name]) for row in early])
        last = np.mean([float(row[name]) for row in late])
        assert last < 0.85 * first, name


def test_the_target_hands_over_to_the_selector() -> None:
    recipe = SupervisedRecipe(steps=1000, hand_over=(0.1, 0.5))
    plans = [supervised_step(recipe, SMALL, step) for step in range(1000)]
    assert all(drawn.by_target for drawn in plans[:100])
    assert not any(drawn.by_target for drawn in plans[500:])
    middle = [drawn.by_target for drawn in plans[250:350]]
    assert 0.3 < np.mean(middle) < 0.7
    assert plans == [supervised_step(recipe, SMALL, step) for step in range(1000)]


@pytest.mark.parametrize("seed", range(5))
def test_without_a_hand_over_the_selector_selects_from_the_first_step(seed: int) -> None:
    recipe = SupervisedRecipe(seed=seed, steps=50, hand_over=(0.0, 0.0))
    assert not any(supervised_step(recipe, SMALL, step).by_target for step in range(50))


def test_the_map_loss_can_be_switched_off(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> object:
        raise AssertionError("computed")

    monkeypatch.setattr("training.moving_things.supervised.objective.map_loss", never)
    recipe = dataclasses.replace(RECIPE, map_weight=0.0)
    before = build(recipe)[0].selector.state_dict()
    model, _ = load_checkpoint(run(clips, tmp_path, recipe))
    for name, tensor in model.selector.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("head."), name


def test_sparsities_cover_the_trained_range_and_sometimes_less() -> None:
    recipe = SupervisedRecipe(steps=2000, dense_share=0.1, sparse_until=0.5, levels=5)
    plans = [supervised_step(recipe, SMALL, step) for step in range(2000)]
    drawn = np.array([step.sparsity for step in plans])
    share = np.array([step.share for step in plans])
    inside = drawn >= SMALL.lowest_sparsity
    assert inside[:1000].all()
    assert 0.87 < inside[1000:].mean() < 0.93
    assert set(drawn[~inside]) == set(recipe.dense_sparsities)
    assert set(share[~inside]) == {recipe.dense_batch}
    assert set(share[inside]) == {1.0}
    grid = [0.7, 0.7625, 0.825, 0.8875, 0.95]  # the trained range in five levels
    early, late = drawn[:1000], drawn[1000:][inside[1000:]]
    assert np.unique(early.round(6)).tolist() == grid[2:]
    assert np.unique(late.round(6)).tolist() == grid


def test_each_parameter_has_one_optimiser_and_decay_spares_biases_norms_and_tables() -> None:
    model, (muon, adamw) = build(RECIPE)
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def named(optimizer: torch.optim.Optimizer, decays: bool) -> list[str]:
        groups = [g for g in optimizer.param_groups if (g["weight_decay"] > 0) == decays]
        return [names[id(parameter)] for group in groups for parameter in group["params"]]

    matrices, decayed, spared = named(muon, True), named(adamw, True), named(adamw, False)
    assert sorted(matrices + decayed + spared) == sorted(names.values())
    assert "selector.blocks.0.attn.qkv.weight" in matrices
    assert "head.weight" in decayed
    assert {"selector.prefix", "extractor.position.time", "selector.norm.weight"} <= set(spared)
    set_rate([muon, adamw], 0.5)
    assert muon.param_groups[0]["lr"] == 0.5 * RECIPE.matrix_learning_rate
    assert adamw.param_groups[0]["lr"] == 0.5 * RECIPE.learning_rate


def test_batches_are_a_pure_function_of_the_step() -> None:
    whole = list(Steps(clips=10, batch=4, seed=1, first=0, last=10))
    assert list(Steps(clips=10, batch=4, seed=1, first=6, last=10)) == whole[6:]
    first_epoch = [index for batch in whole[:3] for index, epoch in batch if epoch == 0]
    assert sorted(first_epoch) == list(range(10))


@pytest.mark.long
def test_a_mirrored_or_reversed_view_has_the_label_of_what_it_shows(clips: Path) -> None:
    dataset, truth = read_store(clips), MovingTokens(SMALL, Views(1, 1))
    views = EntryViews(dataset, SMALL, augmentation=RenderedAugmentation())
    seen = set()
    for index in range(18):
        plain = dataset.entries[index]
        theirs = truth.of(plain).reshape(SMALL.grid).float()
        for draw in range(8):
            drawn = views[index, draw]
            assert drawn.moving is not None
            ours = torch.from_numpy(drawn.moving).reshape(SMALL.grid).float()
            # Which of the four it is, by what moves where; a clip alike in two ways tells nothing.
            distance = {
                (flip, backwards): (ours - shown).abs().mean().item()
                for flip, mirrored in ((False, theirs), (True, theirs.flip(2)))
                for backwards, shown in ((False, mirrored), (True, mirrored.flip(0)))
            }
            nearest, second = sorted(distance, key=distance.__getitem__)[:2]
            if distance[second] < 2 * distance[nearest] + 0.02:
                continue
            flip, backwards = nearest
            (label,) = plain.labels
            label = MIRROR[label] if flip else label
            label = BACKWARDS[label] if backwards else label
            assert drawn.target == label, (index, draw)
            seen.add(nearest)
            assert not (backwards and LABELS[plain.labels[0]] in ("falling", "bouncing"))
    assert len(seen) == 4
    for table in (MIRROR, BACKWARDS):
        assert [LABELS[i] for i in table[table]] == list(LABELS)


def test_turning_things_are_shown_more_often_and_from_nearer(clips: Path) -> None:
    dataset = read_store(clips)
    labels = np.array([entry.labels[0] for entry in dataset.entries])
    turning = np.flatnonzero(np.isin(labels, sorted(TURNING)))
    assert len(turning) == 2

    close_ups = CloseUps(repeat=3, share=1.0)
    shown = close_ups.shown(labels)
    assert list(shown[np.isin(shown, turning)]) == sorted([*turning] * 3)
    assert len(shown) == 16 + 2 * 3
    assert list(CloseUps(others=False).shown(labels)) == list(turning)
    often = dataset.subset(shown.tolist())
    views = EntryViews(often, SMALL, augmentation=RenderedAugmentation(close_ups))
    # A repeated clip is augmented anew, and what is turned by a quarter turns the same way.
    items = [int(item) for item in np.flatnonzero(shown == turning[0])]
    one, other = (views[item, 0].frames for item in items[:2])
    assert one is not None
    assert other is not None
    assert not np.array_equal(one, other)
    assert {int(views[item, draw].target) for item in items for draw in range(4)} <= set(TURNING)
    assert one.shape == (1, SMALL.frames, SMALL.size, SMALL.size, 3)


def test_a_selector_may_stay_as_it_is() -> None:
    model, optimizers = build(dataclasses.replace(RECIPE, train_selector=False))
    theirs = {id(parameter) for parameter in model.selector.parameters()}
    learnt = {
        id(parameter)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert not theirs & learnt
    assert len(learnt) == len(list(model.parameters())) - len(theirs)
    size, frames = model.config.size, model.config.frames
    view = torch.randint(0, 256, (1, frames, size, size, 3), dtype=torch.uint8)
    small = torch.from_numpy(downscale(view.numpy()))
    model(view, small, 8).logits.sum().backward()
    assert all(parameter.grad is None for parameter in model.selector.parameters())
    assert model.head.weight.grad is not None


def test_which_way_is_a_question_of_its_own() -> None:
    cw, ccw = sorted(TURNING)
    recipe = dataclasses.replace(RECIPE, label_weight=0.0, turning_weight=1.0)
    objective = Supervised(build(recipe)[0], recipe)
    logits = torch.randn(4, len(LABELS), requires_grad=True)
    label = torch.tensor([cw, ccw, 0, 1])
    loss = objective._label_loss(logits, label)
    expected = torch.nn.functional.cross_entropy(logits[:2, [cw, ccw]], torch.tensor([0, 1]))
    assert torch.isclose(loss, expected)
    loss.backward()
    assert logits.grad is not None
    other = torch.ones(4, len(LABELS), dtype=torch.bool)
    other[:2, [cw, ccw]] = False
    assert not logits.grad[other].any(), "no other label is touched"
    assert objective._label_loss(logits.detach(), torch.tensor([0, 1, 2, 3])) == 0


def test_an_evaluated_view_is_the_services(clips: Path) -> None:
    batch = next(iter(evaluation_batches(read_store(clips), SMALL, batch=1, workers=0)))
    clip = ClipStore(clips)[0]
    frames = decode_view(clip.video, np.arange(16) * clip.frames // 16, SMALL.size)
    assert batch.frames[0].shape == frames.shape
    assert np.array_equal(batch.clip_small.numpy(), downscale(batch.frames.numpy()))


def test_pixel_change_finds_a_moving_square_under_a_shaking_camera() -> None:
    generator = np.random.default_rng(0)
    wall = generator.integers(60, 200, (20, 20, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.empty((8, 128, 128, 3), np.uint8)
    for t in range(8):
        dy, dx = generator.integers(8, 14, 2)
        frames[t] = wall[dy : dy + 128, dx : dx + 128]
        frames[t, 48:64, 16 + 8 * t : 32 + 8 * t] = 255
    before = frames.copy()
    change = pixel_change(frames, 16).reshape(8, 8, 8)
    assert np.array_equal(frames, before)
    assert (change.max(axis=2).argmax(axis=1) == 3).all()  # row 3 is where the square moves
    rest = np.delete(change, 3, axis=1)
    assert change[:, 3].max(axis=1).min() > 3 * np.median(rest)


def test_the_map_loss_is_zero_only_for_the_target() -> None:
    target = torch.randn(3, 50)
    scaled = (target - target.mean(1, keepdim=True)) / target.std(1, keepdim=True) / 0.5
    assert map_loss(scaled, target, 0.5).item() == pytest.approx(0, abs=1e-4)
    assert map_loss(torch.randn(3, 50), target, 0.5).item() > 0.5
    assert torch.isfinite(map_loss(torch.randn(1, 50), torch.zeros(1, 50), 0.5))
