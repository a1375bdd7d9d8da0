"""What several tests need and what takes seconds to make: made once in a run of the tests.

The processes of pytest-xdist share it: the first that asks makes it, and the others wait.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from export import bundling, unpack
from export.graphs import OPSET
from model.classifier import LookWhen


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``name``, which ``make`` fills. Copy what is in it before altering it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers of this run
    folder = base / "made_once" / name
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


def keep_exports(patch: pytest.MonkeyPatch, factory: pytest.TempPathFactory) -> None:
    """Let the commands export each model once: a graph is a function of weights, shape and opset.

    The graphs are the exporter's own. Only a test that exports what it made before saves time."""
    for module in (bundling, unpack):
        for name in ("selector_to_onnx", "extractor_to_onnx"):
            patch.setattr(module, name, partial(_kept, factory, name, getattr(module, name)))


def _kept(
    factory: pytest.TempPathFactory,
    name: str,
    export: Callable[..., bytes],
    model: LookWhen,
    *,
    opset: int = OPSET,
) -> bytes:
    digest = hashlib.sha256(repr((name, opset, model.config)).encode())
    for key, tensor in model.state_dict().items():
        digest.update(key.encode() + tensor.numpy().tobytes())

    def make(folder: Path) -> None:
        (folder / "graph.onnx").write_bytes(export(model, opset=opset))

    made = made_once(factory, f"{name}-{digest.hexdigest()}", make)
    return (made / "graph.onnx").read_bytes()
