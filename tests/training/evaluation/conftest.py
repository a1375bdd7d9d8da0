"""What is evaluated: clips of two kinds, and small networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import CLIPS, DENSE, SMALL, loud

from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from training.baselines import DenseViT
from training.datasets import DataSet, read_dataset
from training.moving_things.encode import encode
from training.moving_things.labels import LABELS
from training.moving_things.store import write_store


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, CLIPS, 0, workers=0)
    return path


@pytest.fixture(scope="module")
def store(clips: Path) -> DataSet:
    return read_dataset("moving-things", clips)


@pytest.fixture(scope="module")
def model() -> LookWhen:
    torch.manual_seed(0)
    model = LookWhen(SMALL).eval()
    loud(model)
    return model


@pytest.fixture(scope="module")
def checkpoint(model: LookWhen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    save_checkpoint(model, path, {})
    return path


@pytest.fixture(scope="module")
def backbone() -> DenseViT:
    torch.manual_seed(0)
    network = DenseViT(DENSE).eval()
    loud(network)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each of two classes, wider than high, and one file that is no video."""
    root = tmp_path_factory.mktemp("folder")
    random = np.random.default_rng(0)
    for label in LABELS[:2]:
        (root / label).mkdir()
        for clip in range(2):
            frames = random.integers(0, 255, (20, 6, 8, 3), dtype=np.uint8)
            frames = frames.repeat(16, axis=1).repeat(16, axis=2)
            (root / label / f"{clip}.mp4").write_bytes(encode(frames, 24, 8.0))
    (root / LABELS[1] / "torn.mp4").write_bytes(b"torn")
    return root
