"""Pre-training by distillation: what is learned, from where, and exact resume."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from plain_teachers import Colours, Motion
from small_network import SMALL
from small_pretraining import RECIPE, STILL

from model.checkpoint import load_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS
from model.dinov3 import WeightsError
from model.stem import StemEmbedding
from training.baselines.config import DenseConfig
from training.baselines.dense import DenseViT
from training.datasets import DataSet, training_batches, without_labels
from training.loop import TrainingError
from training.losses import LossWeights
from training.moving_things.dataset import read_store
from training.moving_things.store import write_store
from training.pretrain import (
    RECIPES,
    Heads,
    PreTraining,
    PreTrainingRecipe,
    pretrain,
    pretraining_step,
)
from training.pretrain.__main__ import main
from training.pretrain.start import Start, from_backbone
from training.processes import Processes
from training.running import Running
from training.sources import FeatureSource, OnTheFly
from training.targets import ExtractorTargets
from training.teachers.efficientnet_lite import load_efficientnet_lite
from training.teachers.local import save_video_teacher

pytestmark = pytest.mark.slow

ALONE = Processes(0, 1, torch.device("cpu"))
SAVING = Running(save_every=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, 18, 0, workers=0)
    return path


@pytest.fixture(scope="module")
def clips(store: Path) -> DataSet:
    return read_store(store)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "small", SMALL)


def run(clips: DataSet, out: Path, recipe: PreTrainingRecipe = RECIPE, **more: Any) -> Path:
    sources: dict[str, FeatureSource] = {
        "image": OnTheFly(Colours(), "colours"),
        "video": OnTheFly(Motion(), "motion"),
    }
    return pretrain(recipe, clips, out, processes=ALONE, running=SAVING, **{**sources, **more})


def log_of(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_every_loss_falls_and_the_selector_finds_what_the_target_names(
    clips: DataSet, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(
        RECIPE,
        steps=45,
        batch=9,
        learning_rate=3e-3,
        weights=LossWeights(map=5.0),
        layer_norm_targets=True,
        augmentation=STILL,
    )
    checkpoint = run(clips, tmp_path, recipe)
    rows = log_of(tmp_path)

    def mean(name: str, part: slice) -> float:
        return float(np.mean([float(row[name]) for row in rows[part]]))

    early, late = slice(0, 6), slice(-6, None)
    for name in ("map", "video", "change", "frames", "patches"):
        assert mean(f"{name}_loss", late) < 0.97 * mean(f"{name}_loss", early), name
    assert mean("overlap", late) > 1.3 * mean("overlap", early)
    model, facts = load_checkpoint(checkpoint)
    assert model.config.labels == ()
    assert facts["recipe"]["selection"] == "top1_distance"
    assert facts["clips_seen"] == 405
    assert facts["unreadable"] == []


def test_a_resumed_run_is_the_run_that_was_never_stopped(
    clips: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(RECIPE, drop_path=0.5)
    whole = run(clips, tmp_path / "whole", recipe)
    real = PreTraining.forward

    def killed(self: PreTraining, batch: Any, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return real(self, batch, step)

    monkeypatch.setattr(PreTraining, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "cut", recipe)
    monkeypatch.setattr(PreTraining, "forward", real)
    cut = run(clips, tmp_path / "cut", recipe)
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    one, other = load_checkpoint(whole)[0], load_checkpoint(cut)[0]
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    with pytest.raises(TrainingError, match="selection was 'top1_distance', now 'attention'"):
        run(clips, tmp_path / "cut", dataclasses.replace(recipe, selection="attention"))


@pytest.mark.parametrize(
    "selection",
    ["top3_distance", "attention", "attention_change", "k_center", "k_center_pixels"],
)
def test_the_papers_rivals_are_trained_alike(
    clips: DataSet, tmp_path: Path, selection: str
) -> None:
    recipe = dataclasses.replace(RECIPE, selection=selection, steps=1)
    run(clips, tmp_path, recipe)
    (row,) = log_of(tmp_path)
    assert 0 < float(row["map_loss"]) < 10


def test_chance_selects_in_every_step_and_teaches_the_selector_nothing(
    clips: DataSet, tmp_path: Path
) -> None:
    """The rival to all targets; what its selector learns, it learns through the context."""
    recipe = RECIPE.by_chance()
    torch.manual_seed(0)
    start = LookWhen(SMALL)
    model, facts = load_checkpoint(run(clips, tmp_path, recipe, start=start))
    rows = log_of(tmp_path)
    assert [row["by_target"] for row in rows] == ["1"] * 4
    assert "map_loss" not in rows[0]
    assert facts["recipe"]["weights"]["map"] == 0
    before = start.selector.state_dict()
    for name, tensor in model.selector.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("head."), name
    with pytest.raises(ValueError, match=r"'random' is noise.* must weigh 0, got 0\.5"):
        dataclasses.replace(RECIPE, selection="random")


def test_a_map_loss_of_weight_zero_is_not_computed(
    clips: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is its target, where the selector selects: then no image teacher is needed for it."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed")

    monkeypatch.setattr("training.pretrain.objective.map_loss", never)
    monkeypatch.setattr(PreTraining, "_selection_target", never)
    video = ExtractorTargets(change=False, frames=False, patches=False)
    recipe = dataclasses.replace(RECIPE, targets=video, weights=LossWeights(map=0.0))
    run(clips, tmp_path, recipe, image=None)
    rows = log_of(tmp_path)
    assert [name for name in rows[0] if name.endswith("_loss")] == ["video_loss"]
    assert "overlap" not in rows[0]
    with pytest.raises(AssertionError, match="computed"):  # the target selects at first
        run(clips, tmp_path / "handed", dataclasses.replace(recipe, hand_over=(0.5, 0.5)))


def test_targets_can_be_switched_off(clips: DataSet, tmp_path: Path) -> None:
    only = ExtractorTargets(video=True, change=False, frames=False, patches=False)
    recipe = dataclasses.replace(RECIPE, targets=only, steps=1, selection="pixel_change")
    run(clips, tmp_path, recipe, image=None)
    assert [name for name in log_of(tmp_path)[0] if name.endswith("_loss")] == [
        "map_loss",
        "video_loss",
    ]


def test_a_target_without_its_teacher_is_refused_before_the_first_step(
    clips: DataSet, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="needs the video teacher's video"):
        run(clips, tmp_path, video=None)
    with pytest.raises(ValueError, match="video target needs the video teacher's video"):
        run(clips, tmp_path, video=OnTheFly(Colours(), "colours"))
    video_only = ExtractorTargets(change=False, frames=False, patches=False)
    with pytest.raises(ValueError, match="top1_distance needs the image teacher's patches"):
        run(clips, tmp_path, dataclasses.replace(RECIPE, targets=video_only), image=None)
    of_video = dataclasses.replace(RECIPE, selection="attention", selection_teacher="video")
    with pytest.raises(ValueError, match="attention needs the video teacher's attention"):
        run(clips, tmp_path, of_video)
    with pytest.raises(KeyError, match="no selection target 'luck'"):
        run(clips, tmp_path, dataclasses.replace(RECIPE, selection="luck"))
    assert not (tmp_path / "log.csv").exists()


def test_heads_have_the_shapes_of_the_targets() -> None:
    heads = Heads(SMALL, ExtractorTargets(), video=12, image=24, patches=24)
    features = LookWhen(SMALL).extractor(
        torch.zeros(2, 5, 768, dtype=torch.uint8),
        torch.arange(5).expand(2, 5),
        torch.zeros(2, SMALL.context, 32),
    )
    shapes = {name: tuple(made.shape) for name, made in heads(features).items()}
    assert shapes == {
        "video": (2, 12),
        "change": (2, 16 * 24),
        "frames": (2, 8, 24),
        "patches": (2, 5, 24),
    }
    targets = ExtractorTargets(video=False, change=False)
    same = Heads(SMALL, targets, video=0, image=32, patches=32)
    assert sum(parameter.numel() for parameter in same.parameters()) == 0


def test_k_is_drawn_from_the_range_or_from_its_levels() -> None:
    drawn = [pretraining_step(RECIPE, SMALL, step, 500).kept for step in range(500)]
    assert min(drawn) == pytest.approx(0.05 * 256, abs=2)
    assert max(drawn) == pytest.approx(0.3 * 256, abs=2)
    assert len(set(drawn)) > 40
    levels = dataclasses.replace(RECIPE, levels=3, hand_over=(0.5, 0.5))
    plans = [pretraining_step(levels, SMALL, step, 500) for step in range(500)]
    assert {step.kept for step in plans} == {77, 45, 13}
    assert [step.by_target for step in plans] == [True] * 250 + [False] * 250


@pytest.mark.parametrize("seed", range(5))
def test_without_a_hand_over_the_selector_selects_from_the_first_step(seed: int) -> None:
    """LookWhere's way, and the paper recipe's: the target is never shown."""
    recipe = dataclasses.replace(RECIPE, seed=seed, hand_over=(0.0, 0.0))
    assert not any(pretraining_step(recipe, SMALL, step, 50).by_target for step in range(50))
    always = dataclasses.replace(RECIPE, seed=seed, hand_over=(1.0, 1.0))
    assert all(pretraining_step(always, SMALL, step, 50).by_target for step in range(50))
    between = dataclasses.replace(RECIPE, seed=seed, hand_over=(0.0, 1.0))
    drawn = [pretraining_step(between, SMALL, step, 400).by_target for step in range(400)]
    assert drawn[0]
    assert np.mean(drawn[:100]) > np.mean(drawn[300:]) + 0.4


def test_the_selector_selects_in_the_first_step_of_a_run(clips: DataSet, tmp_path: Path) -> None:
    assert PreTrainingRecipe().hand_over == (0.0, 0.0)
    run(clips, tmp_path, RECIPE)
    assert [row["by_target"] for row in log_of(tmp_path)] == ["0"] * 4


def test_it_starts_from_a_checkpoint_of_another_head(clips: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(5)
    labelled = LookWhen(dataclasses.replace(SMALL, labels=("a", "b")))
    still = dataclasses.replace(RECIPE, steps=1, learning_rate=0.0)
    model, _ = load_checkpoint(run(clips, tmp_path, still, start=labelled))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, labelled.state_dict()[name]), name


def test_several_data_sets_become_one(clips: DataSet) -> None:
    still = dataclasses.replace(clips, name="still", mirror=None)
    both = without_labels([clips, still])
    assert (both.name, len(both), both.labels) == ("moving_things + still", 36, ())
    assert both.mirror is None
    (batch,) = training_batches(both, SMALL, batch=4, seed=0, first=0, last=1, workers=0)
    assert batch.target.shape == (4, 0)


def test_plain_views_are_the_services(clips: DataSet) -> None:
    given = {"batch": 4, "seed": 0, "first": 0, "last": 2, "workers": 0}
    plain = list(training_batches(clips, SMALL, augmentation=None, **given))  # type: ignore[arg-type]
    drawn = list(training_batches(clips, SMALL, **given))  # type: ignore[arg-type]
    assert [b.entry.tolist() for b in plain] == [b.entry.tolist() for b in drawn]
    again = list(training_batches(clips, SMALL, augmentation=None, **{**given, "seed": 0}))  # type: ignore[arg-type]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(plain, again, strict=True))
    assert not torch.equal(plain[0].frames, drawn[0].frames)


def test_both_networks_can_start_as_a_video_teacher(tmp_path: Path) -> None:
    twin = dataclasses.replace(SMALL, extractor_depth=2)
    backbone = DenseViT(DenseConfig(name="dense_small", twin=twin))
    config = dataclasses.replace(SMALL, extractor_depth=2)
    model = from_backbone(config, backbone)
    for name, tensor in backbone.state_dict().items():
        if name.startswith("blocks.0.") or name.startswith(("embedding", "norm")):
            assert torch.equal(model.selector.state_dict()[name], tensor), name
        if not name.startswith(("class_token", "head")):
            assert torch.equal(model.extractor.state_dict()[name], tensor), name
    assert backbone.class_token is not None
    assert torch.equal(model.selector.prefix[:1], backbone.class_token)
    path = tmp_path / "teacher.safetensors"
    save_video_teacher(backbone, path, {})
    with pytest.raises(WeightsError, match=r"blocks\.2\..* has no such tensor"):
        from_backbone(dataclasses.replace(SMALL, extractor_depth=3), backbone)
    with pytest.raises(WeightsError, match=r"is \[64, 768\], dense_small has \[32, 768\]"):
        from_backbone(dataclasses.replace(SMALL, width=64), backbone)
    with pytest.raises(WeightsError, match="of lookwhen_mini16 is"):
        Start(backbone=path).load(dataclasses.replace(RECIPE, config="lookwhen_mini16"))
    assert Start().load(RECIPE) is None


@pytest.mark.long
def test_a_stem_starts_as_it_was_published_and_one_teacher_has_both_roles(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command, as for real clips: teacher and stem are the package's."""
    looks: list[set[str]] = []
    real = OnTheFly.features

    def features(self: OnTheFly, frames: Any, entries: Any, parts: Any) -> Any:
        looks.append(set(parts))
        return real(self, frames, entries, parts)

    monkeypatch.setattr(OnTheFly, "features", features)
    teacher = ("efficientnet_lite0", "installed")
    given = [
        str(tmp_path / "out"), "moving-things", str(store), "--recipe", "real", "--batch", "2",
        "--steps", "2", "--image", *teacher, "--video", *teacher, "--workers", "0",
    ]  # fmt: skip
    result = CliRunner().invoke(main, [*given, "--stem", "installed"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert looks == [{"video", "frames", "patches"}] * 2
    model, _ = load_checkpoint(tmp_path / "out" / "checkpoint.safetensors")
    stem = model.extractor.embedding
    assert isinstance(stem, StemEmbedding)
    published = load_efficientnet_lite(*teacher).network.state_dict()
    for name, tensor in stem.network.state_dict().items():
        assert torch.equal(tensor, published[name]), name


def test_a_stem_without_weights_and_weights_without_a_stem_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"lookwhen_lite80 has a stem, .*--stem installed gives"):
        Start().load(RECIPES["real"])
    with pytest.raises(WeightsError, match="lookwhen_mini16 has no stem"):
        Start(stem="installed").load(RECIPES["mini"])


def test_the_command_says_what_is_missing(store: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        given = [str(tmp_path / "out"), "moving-things", str(store), "--workers", "0", *arguments]
        result = CliRunner().invoke(main, given)
        assert result.exit_code != 0
        assert "Traceback" not in result.output
        return result.output

    small = ("--config", "lookwhen_mini16", "--batch", "4", "--steps", "1")
    assert "the video target needs the video teacher's video" in said(*small)
    assert "no selection target 'luck'" in said(*small, "--selection", "luck")
    assert "there is no such file" in said(*small, "--image", "dinov3_vitb16", "nowhere.pth")
    assert "is not a store of features" in said(*small, "--image-store", str(tmp_path / "none"))
    assert "both say where the weights" in said("--start", "a", "--dinov3", "b")
    noise = said(*small, "--selection", "random", "--map-weight", "0.5")
    assert "the map loss must weigh 0, got 0.5" in " ".join(noise.split())
    assert "both say what it tells" in said(
        "--image", "local_image", "a", "--image-store", str(tmp_path)
    )


@pytest.mark.long
def test_two_processes_learn_what_one_does(store: Path, clips: DataSet, tmp_path: Path) -> None:
    """Under a real torchrun: the same batches, K and teachers, so the same losses."""
    recipe = dataclasses.replace(RECIPE, steps=3, augmentation=STILL)
    run(clips, tmp_path / "one", recipe)
    script = tmp_path / "two.py"
    script.write_text(
        f"""
import dataclasses, sys
from pathlib import Path
sys.path = {sys.path!r}
from plain_teachers import Colours, Motion
from small_network import SMALL
from small_pretraining import RECIPE, STILL
from model.config import CONFIGS
from training.moving_things.dataset import read_store
from training.pretrain import pretrain
from training.processes import join_processes
from training.sources import OnTheFly

CONFIGS["small"] = SMALL
with join_processes("cpu") as processes:
    pretrain(
        dataclasses.replace(RECIPE, steps=3, augmentation=STILL),
        read_store(Path({str(store)!r})),
        Path({str(tmp_path / "two")!r}),
        processes=processes,
        image=OnTheFly(Colours(), "colours"),
        video=OnTheFly(Motion(), "motion"),
    )
"""
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        [sys.executable, *launch], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert len(two) == 3
    for ours, theirs in zip(one, two, strict=True):
        assert ours["sparsity"] == theirs["sparsity"]
        for name in ("loss", "map_loss", "video_loss", "change_loss", "patches_loss"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=0.02), name
    assert load_checkpoint(tmp_path / "two" / "checkpoint.safetensors")[1]["clips_seen"] == 12
