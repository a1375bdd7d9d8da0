"""A network of 64 tokens, its graphs and its bundle; weights are random."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from made_once import keep_exports, made_once

from bundle.schema import Provenance
from export import bundling
from export.pack import manifest_for, write_bundle
from export.unpack import main as unpack_command
from model.classifier import LookWhen
from model.config import ModelConfig

TINY = ModelConfig(
    name="tiny",
    frames=4,
    size=64,
    patch=16,
    width=32,
    heads=2,
    selector_depth=1,
    extractor_depth=2,
    rope=True,
    labels=("walk", "run", "jump"),
)


def tiny() -> LookWhen:
    """Random weights, larger than at initialisation so that every token matters."""
    torch.manual_seed(0)
    model = LookWhen(TINY)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
            elif parameter.ndim > 1:
                parameter.mul_(5.0)
    return model.eval()


def exported(model: LookWhen, factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The selector and the extractor as ONNX."""
    with pytest.MonkeyPatch.context() as patch:
        keep_exports(patch, factory)
        return bundling.selector_to_onnx(model), bundling.extractor_to_onnx(model)


def write_tiny_bundle(out: Path, graphs: tuple[bytes, bytes]) -> None:
    manifest = manifest_for(
        TINY,
        *graphs,
        name="tiny",
        version="1",
        default_sparsity=0.7,
        accuracy=[],
        provenance=Provenance(recipe="random", seed=0, commit="unknown", data="none", parameters=1),
    )
    write_bundle(out, manifest, *graphs)


def unpacked(factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that `lookwhen bundle unpack` makes of the built-in bundle."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            keep_exports(patch, factory)
            result = CliRunner().invoke(unpack_command, [str(folder / "start.safetensors")])
        assert result.exit_code == 0, result.output

    return made_once(factory, "built_in", make) / "start.safetensors"
