"""Bundles whose weights lie in a file of their own: onnxruntime opens no file for them."""

import asyncio
import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from bundle.schema import EXTRACTOR_WEIGHTS_FILE, SELECTOR_WEIGHTS_FILE, Manifest
from bundle.weights import put_together, take_apart
from export.pack import file_digests, write_bundle
from service.engine import Engine, EngineError, EngineOptions
from service.engine.calibration import extractor_noise
from service.engine.options import CPU, OPENVINO

pytestmark = pytest.mark.slow

OPTIONS = EngineOptions(intra_op_threads=1, warm_up_seconds=0, calibration_seconds=0)


@pytest.fixture(scope="module")
def whole() -> Bundle:
    return read_bundle(default_bundle_path())


@pytest.fixture(scope="module")
def apart(whole: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The built-in bundle with the weights of both graphs outside them, and the files gone."""
    return read_and_remove(write_apart(whole, tmp_path_factory.mktemp("apart") / "bundle"))


def write_apart(whole: Bundle, out: Path) -> Path:
    selector, scores = take_apart(onnx.load_from_string(whole.selector), SELECTOR_WEIGHTS_FILE)
    extractor, rest = take_apart(onnx.load_from_string(whole.extractor), EXTRACTOR_WEIGHTS_FILE)
    weights = {SELECTOR_WEIGHTS_FILE: scores, EXTRACTOR_WEIGHTS_FILE: rest}
    files = {"selector.onnx": selector, "extractor.onnx": extractor, **weights}
    digests = {name: digest.model_dump() for name, digest in file_digests(files).items()}
    document = whole.manifest.model_dump() | {"schema_version": 2, "files": digests}
    write_bundle(out, Manifest.model_validate(document), selector, extractor, weights)
    return out


def read_and_remove(path: Path) -> Bundle:
    found = read_bundle(path)
    shutil.rmtree(path)
    return found


def test_what_is_taken_apart_is_small_and_comes_together_again(
    whole: Bundle, apart: Bundle
) -> None:
    assert apart.extractor_weights is not None
    assert len(apart.extractor) < 0.1 * len(whole.extractor)
    assert put_together(apart.extractor, apart.extractor_weights) == onnx.load_from_string(
        whole.extractor
    )


def test_an_engine_answers_the_same_from_memory(
    whole: Bundle, apart: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are gone, and others of their names lie where onnxruntime would look for them."""
    for name in (SELECTOR_WEIGHTS_FILE, EXTRACTOR_WEIGHTS_FILE):
        (tmp_path / name).write_bytes(b"\xff" * 100_000_000)
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(1).integers(0, 256, (1, 16, 128, 128, 3), np.uint8)
    positions = np.arange(0, 1024, 10, dtype=np.int64)[None]

    async def answer(engine: Engine) -> tuple[np.ndarray, np.ndarray]:
        until = time.monotonic() + 60
        selected = await engine.select(frames, deadline=until)
        done = await engine.extract(frames, positions, selected.context, deadline=until)
        return selected.scores, done.logits

    found = []
    for bundle in (whole, apart):
        engine = Engine(bundle, OPTIONS)
        found.append(asyncio.run(answer(engine)))
        engine.close()
    for ours, theirs in zip(*found, strict=True):
        # Weights outside a graph take no constants in.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_sixteen_bits_are_made_of_weights_apart_as_of_whole_graphs(
    whole: Bundle, apart: Bundle
) -> None:
    half = dataclasses.replace(OPTIONS, precision="fp16")
    engines = [Engine(bundle, half) for bundle in (whole, apart)]
    feeds = extractor_noise(whole.manifest.geometry, [102, 60])
    ours, theirs = (engine.extractor.run(feeds)[0] for engine in engines)
    np.testing.assert_allclose(ours, theirs, rtol=0.01, atol=0.01)
    for engine in engines:
        engine.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"precision": "int8"},
            r"selector\.weights, which onnxruntime cannot quantise",
        ),
        ({"execution_providers": (OPENVINO, CPU)}, r"cannot read from memory. .*=CPUExecution"),
    ],
)
def test_what_cannot_take_weights_apart_says_so(
    apart: Bundle, options: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.engine.check_installed", lambda wanted: None)
    with pytest.raises(EngineError, match=reason):
        Engine(apart, dataclasses.replace(OPTIONS, **options))
