"""Fixtures that every suite shares.

A fixture imports what it needs when it is asked for. torch and the exporter take seconds, and the
process of pytest-xdist that hands the tests out needs neither.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lanes import holds_nothing_for

if TYPE_CHECKING:
    from model.classifier import LookWhen
    from model.config import ModelConfig

# The processes of a run and their children share the machine's cores. A thread of OpenMP waits for
# the others in a loop: where they have no core, that takes twice the CPU time of all the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Fixtures that start a service or export a model: no test with one is over at once.
COSTLY = {"server", "start_server", "tiny_graphs", "tiny_bundle", "built_in_checkpoint"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    source = collection_path.read_text(encoding="utf-8")
    return True if holds_nothing_for(str(config.option.markexpr), source) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if COSTLY & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """A LookWhen of 64 tokens with rotary embedding, layer scale and three labels."""
    from tiny_network import TINY

    return TINY


@pytest.fixture(scope="session")
def tiny_model() -> LookWhen:
    """Random weights, larger than at initialisation so that every token matters."""
    from tiny_network import tiny

    return tiny()


@pytest.fixture
def exports_once(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A test that asks for this exports no model again that such a test has exported."""
    from made_once import keep_exports

    keep_exports(monkeypatch, tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_graphs(
    tiny_model: LookWhen, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, bytes]:
    """The tiny model's selector and extractor as ONNX."""
    from tiny_network import exported

    return exported(tiny_model, tmp_path_factory)


@pytest.fixture(scope="session")
def built_in_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lookwhen bundle unpack` makes of the built-in bundle."""
    from tiny_network import unpacked

    return unpacked(tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_graphs: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle directory of the tiny model. Copy it before altering it."""
    from tiny_network import write_tiny_bundle

    out = tmp_path_factory.mktemp("bundles") / "tiny"
    write_tiny_bundle(out, tiny_graphs)
    return out
