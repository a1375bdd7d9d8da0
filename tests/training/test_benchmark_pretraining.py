"""The experiments on pre-training: every variant runs, and what is finished is not run again."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from plain_teachers import Colours, Motion
from small_network import SMALL

from benchmarks import pretraining
from benchmarks.pretraining import EXPERIMENTS, Budget, run_variant
from model.checkpoint import load_checkpoint
from model.config import CONFIGS
from training.baselines.config import DenseConfig
from training.baselines.dense import DenseViT
from training.datasets import DataSet
from training.loop import TrainingError
from training.moving_things.dataset import read_store
from training.moving_things.store import write_store
from training.pretrain import RECIPES
from training.processes import Processes
from training.sources import FeatureSource, OnTheFly
from training.teachers.local import save_video_teacher

pytestmark = pytest.mark.slow

ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, 18, 0, workers=0)
    return read_store(path)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "small", SMALL)
    small = dataclasses.replace(RECIPES["mini"], config="small", batch=4)
    monkeypatch.setitem(RECIPES, "mini", small)


@pytest.mark.long
@pytest.mark.parametrize(
    ("experiment", "variant"),
    [
        ("selection", "top1_distance"),
        ("selection", "random"),
        ("selection", "random, quarter rates"),
        ("targets", "frames"),
    ],
)
def test_a_variant_gives_a_curve(
    clips: DataSet, tmp_path: Path, experiment: str, variant: str
) -> None:
    sources: dict[str, FeatureSource] = {
        "image": OnTheFly(Colours(), "colours"),
        "video": OnTheFly(Motion(), "motion"),
    }
    fields = EXPERIMENTS[experiment][variant]
    backbone = tmp_path / "backbone.safetensors"
    save_video_teacher(DenseViT(DenseConfig(name="dense_small", twin=SMALL)), backbone, {})
    given = (fields, 3, Budget(1, 1, 1, 0), tmp_path, clips, clips, sources, ALONE, backbone)
    curve = run_variant(*given)
    assert curve["seed"] == 3
    points = curve["points"]
    assert [point["sparsity"] for point in points] == list(pretraining.SPARSITIES)
    assert points[0]["recall"] == 1.0
    assert points[-1]["recall"] < 0.5
    assert all(0 <= point["top1"] <= 1 and point["clips"] == 18 for point in points)
    by = "random" if variant.startswith("random") else "selector"
    _, facts = load_checkpoint(tmp_path / "finetuned" / "checkpoint.safetensors")
    assert facts["recipe"]["select_by"] == by
    rates = 0.25 if variant.endswith("quarter rates") else 1.0
    assert facts["recipe"]["learning_rate"] == rates * 1e-3
    _, before = load_checkpoint(tmp_path / "pretrained" / "checkpoint.safetensors")
    assert before["recipe"]["weights"]["map"] == (0 if by == "random" else 0.5)
    assert before["recipe"]["hand_over"] == ([1, 1] if by == "random" else [0.1, 0.35])
    assert before["recipe"]["matrix_learning_rate"] == rates * RECIPES["mini"].matrix_learning_rate
    assert facts["continues"]["name"] == "training.pretrain"
    assert json.loads((tmp_path / "points.json").read_text()) == curve
    stamp = (tmp_path / "finetuned" / "checkpoint.safetensors").stat().st_mtime_ns
    assert run_variant(*given) == curve
    assert (tmp_path / "finetuned" / "checkpoint.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(TrainingError, match="another budget"):
        run_variant(fields, 3, Budget(2, 1, 1, 0), *given[3:])


def test_an_unknown_variant_is_named(tmp_path: Path) -> None:
    arguments = ["selection", str(tmp_path), str(tmp_path), str(tmp_path / "work")]
    more = ["--image", "a", "--video", "b", "--variant", "luck"]
    result = CliRunner().invoke(pretraining.main, arguments + more)
    assert "no variant 'luck'; known: top1_distance" in result.output
