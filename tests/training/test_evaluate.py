"""Evaluation: what is counted, and what the report says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.config import ModelConfig
from training import evaluate as evaluation
from training.data import Sample, eval_loader
from training.evaluate import evaluate, wilson_interval
from training.moving_things.labels import LABELS
from training.moving_things.store import write_store

SMALL = ModelConfig(
    name="small",
    size=64,
    width=32,
    heads=2,
    selector_depth=1,
    extractor_depth=1,
    rope=False,
    layer_scale=None,
    labels=LABELS,
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, 18, 0, workers=0)
    return path


@pytest.fixture(scope="module")
def model() -> LookWhen:
    torch.manual_seed(0)
    return LookWhen(SMALL).eval()


def batches_of(clips: Path) -> list[Sample]:
    return [Sample(*b) for b in eval_loader(clips, SMALL, batch=6, clips=18, workers=0)]


def test_evaluation_counts_what_it_says(clips: Path, model: LookWhen) -> None:
    batches = batches_of(clips)
    dense, sparse = evaluate(model, batches, [0.0, 0.9])
    assert dense.recall == pytest.approx(1.0)
    assert dense.kept == SMALL.tokens
    assert dense.clips == 18
    confusion = np.array(dense.confusion)
    assert confusion.sum() == 18
    assert confusion.sum(axis=1).tolist() == [1] * 18  # the store is balanced
    assert dense.top1 == confusion.trace() / 18
    assert 0 < sparse.recall < 1
    (target,) = evaluate(model, batches, [0.9], by="target")
    (chance,) = evaluate(model, batches, [0.9], by="random")
    assert target.recall > 0.6
    assert chance.recall == pytest.approx(0.1, abs=0.06)
    with pytest.raises(ValueError, match="no clips"):
        evaluate(model, [], [0.9])
    with pytest.raises(ValueError, match="select by one of"):
        evaluate(model, batches, [0.9], by="luck")


def test_the_report_names_the_checkpoint_it_measured(
    clips: Path, model: LookWhen, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_checkpoint(model, checkpoint, {})
    out = tmp_path / "evaluation.json"
    arguments = [str(checkpoint), str(clips), str(out), "--sparsity", "0.5", "--workers", "0"]
    result = CliRunner().invoke(evaluation.main, arguments, catch_exceptions=False)
    assert "18 clips" in result.output
    report = json.loads(out.read_text())
    assert report["points"][0]["sparsity"] == 0.5
    assert report["data"]["seed"] == 0
    assert len(report["checkpoint_sha256"]) == 64


def test_wilsons_interval() -> None:
    low, high = wilson_interval(0.8, 1000)
    assert (low, high) == (pytest.approx(0.774, abs=1e-3), pytest.approx(0.824, abs=1e-3))
    assert wilson_interval(1.0, 10)[1] == pytest.approx(1.0)
