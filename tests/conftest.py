"""Fixtures that every suite shares."""

from pathlib import Path

import pytest
import torch

from bundle.schema import Provenance
from export.graphs import extractor_to_onnx, selector_to_onnx
from export.pack import manifest_for, write_bundle
from model.classifier import LookWhen
from model.config import ModelConfig

# Fixtures that start a service: no test with one is over at once.
SERVICES = {"server", "start_server"}

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVICES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """A LookWhen of 64 tokens with rotary embedding, layer scale and three labels."""
    return TINY


@pytest.fixture(scope="session")
def tiny_model(tiny_config: ModelConfig) -> LookWhen:
    """Random weights, larger than at initialisation so that every token matters."""
    torch.manual_seed(0)
    model = LookWhen(tiny_config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
            elif parameter.ndim > 1:
                parameter.mul_(5.0)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_graphs(tiny_model: LookWhen) -> tuple[bytes, bytes]:
    """The tiny model's selector and extractor as ONNX."""
    return selector_to_onnx(tiny_model), extractor_to_onnx(tiny_model)


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_config: ModelConfig,
    tiny_graphs: tuple[bytes, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A whole bundle directory of the tiny model. Copy it before altering it."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    manifest = manifest_for(
        tiny_config,
        *tiny_graphs,
        name="tiny",
        version="1",
        default_sparsity=0.7,
        accuracy=[],
        provenance=Provenance(recipe="random", seed=0, commit="unknown", data="none", parameters=1),
    )
    write_bundle(out, manifest, *tiny_graphs)
    return out
