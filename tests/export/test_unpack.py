"""From a bundle back to the checkpoint that it was exported from."""

import dataclasses
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from export.__main__ import main as export
from export.unpack import UnpackError, main, unpack
from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _named(tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch, exports_once: None) -> None:
    monkeypatch.setitem(CONFIGS, "tiny", dataclasses.replace(tiny_config, labels=()))


@pytest.fixture
def model(tiny_config: ModelConfig) -> LookWhen:
    """Weights of which no two are alike, as after training."""
    torch.manual_seed(3)
    model = LookWhen(tiny_config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def bundle(model: LookWhen, tmp_path: Path) -> Path:
    facts = {"name": "test recipe", "recipe": {"seed": 5}, "clips_seen": 7}
    save_checkpoint(model, tmp_path / "before.safetensors", facts)
    result = CliRunner().invoke(
        export, [str(tmp_path / "before.safetensors"), str(tmp_path / "bundle"), "--name", "mine"]
    )
    assert result.exit_code == 0, result.output
    return tmp_path / "bundle"


@pytest.mark.long
def test_every_weight_comes_back_bit_for_bit(model: LookWhen, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "after.safetensors"
    result = CliRunner().invoke(main, [str(out), str(bundle)])
    assert result.exit_code == 0, result.output
    assert "comparisons with the bundle agree" in result.output
    after, facts = load_checkpoint(out)
    assert after.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]), name
    assert facts["name"] == "test recipe"
    assert facts["unpacked_from"] == "bundle mine 1"
    assert facts["clips_seen"] == 7


@pytest.mark.long
def test_the_built_in_bundle_can_be_trained_on(built_in_checkpoint: Path) -> None:
    model, facts = load_checkpoint(built_in_checkpoint)
    assert model.config.labels == tuple(read_bundle(default_bundle_path()).manifest.labels)
    assert facts["unpacked_from"].startswith("bundle moving_things")


def test_a_shape_without_a_name_is_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(CONFIGS, "tiny")
    result = CliRunner().invoke(main, [str(tmp_path / "out.safetensors"), str(bundle)])
    assert result.exit_code == 1
    assert "none of the configurations lookwhen_b16" in result.output
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.long
def test_graphs_of_another_arrangement_are_refused(tiny_bundle: Path, model: LookWhen) -> None:
    """Weights that are all alike share one constant, so there are fewer of them."""
    read = read_bundle(tiny_bundle)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    provenance = read.manifest.provenance.model_copy(update={"parameters": parameters})
    manifest = read.manifest.model_copy(update={"provenance": provenance})
    with pytest.raises(UnpackError, match="arranged otherwise"):
        unpack(dataclasses.replace(read, manifest=manifest))
