"""Checkpoints: what is written comes back, and nothing else is accepted."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.classifier import LookWhen


@pytest.mark.slow
def test_a_checkpoint_round_trips(tiny_model: LookWhen, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(tiny_model, path, {"seed": 4})
    model, facts = load_checkpoint(path)
    assert facts == {"seed": 4}
    assert model.config == tiny_model.config
    assert not model.training
    for name, tensor in tiny_model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    small = torch.randint(0, 256, (1, 2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(model.selector(small)[0], tiny_model.selector(small)[0])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_is_not_a_checkpoint_is_refused(tiny_model: LookWhen, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(path)
    path.write_bytes(b"\x80\x04not a pickle either")
    with pytest.raises(CheckpointError, match="safetensors"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="holds no configuration"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path, {"lookwhen_config": json.dumps({"depth": 3})})
    with pytest.raises(CheckpointError, match="configuration is not usable"):
        load_checkpoint(path)


def test_tensors_that_do_not_fit_are_named(tiny_model: LookWhen, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(tiny_model, path, {})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    head = tensors.pop("head.bias")
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=r"head\.bias is missing"):
        load_checkpoint(path)
    save_file({**tensors, "head.bias": head, "extra": torch.zeros(2)}, path, metadata)
    with pytest.raises(CheckpointError, match="extra is not one of tiny"):
        load_checkpoint(path)
    save_file({**tensors, "head.bias": torch.zeros(7)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"head\.bias is \[7\]"):
        load_checkpoint(path)
