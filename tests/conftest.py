"""Fixtures that every suite shares."""

import re
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

# Fixtures that start a service or export a model: no test with one is over at once.
COSTLY = {"server", "start_server", "tiny_graphs", "tiny_bundle", "built_in_checkpoint"}

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


# What a lane asks for, as the Makefile spells it: "long and not real".
_TERM = re.compile(r"(not )?(slow|long|real)")
_OF_THE_WHOLE_FILE = re.compile(r"^pytestmark = (.+)$", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files of which a lane takes nothing: to import all takes longer than the fast lane.

    Whether a test is `slow` may follow from its fixtures; `long` and `real` are always written."""
    terms = [_TERM.fullmatch(term) for term in str(config.option.markexpr).split(" and ")]
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    whole = _OF_THE_WHOLE_FILE.search(text)
    for term in terms:
        if term is None:  # no lane's
            return None
        mark = f"mark.{term[2]}"
        if term[1]:
            if whole is not None and mark in whole[1]:
                return True
        elif term[2] != "slow" and mark not in text:
            return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if COSTLY & set(getattr(item, "fixturenames", ())):
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


@pytest.fixture
def exports_once(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A test that asks for this exports no model again that such a test has exported."""
    keep_exports(monkeypatch, tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_graphs(
    tiny_model: LookWhen, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, bytes]:
    """The tiny model's selector and extractor as ONNX."""
    with pytest.MonkeyPatch.context() as patch:
        keep_exports(patch, tmp_path_factory)
        return bundling.selector_to_onnx(tiny_model), bundling.extractor_to_onnx(tiny_model)


@pytest.fixture(scope="session")
def built_in_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lookwhen bundle unpack` makes of the built-in bundle."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            keep_exports(patch, tmp_path_factory)
            result = CliRunner().invoke(unpack_command, [str(folder / "start.safetensors")])
        assert result.exit_code == 0, result.output

    return made_once(tmp_path_factory, "built_in", make) / "start.safetensors"


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
