"""onnxruntime's own build for CUDA, on a CUDA whose memory is real and whose kernels do nothing.

Placement, fusion, choice of kernels, copies, launches and what happens when memory runs out are
onnxruntime's decisions here; which numbers come out of a GPU, and how fast, is not to be seen.
`make test-gpu-stub` lays that build and the headers aside and runs these.
"""

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from service_server import ROOT, Server

from bundle.built_in import default_bundle_path
from export.graphs import extractor_to_onnx
from model.classifier import LookWhen
from model.config import get_config
from service.decoding.worker import WARM_UP_CLIP
from service.engine.options import CPU, CUDA

pytestmark = pytest.mark.real

BESIDE = ROOT / "build" / "gpu-stub"
STUB = Path(__file__).parent / "stub_cuda"
# What the extractor and the selector of the built-in bundle take.
MOST_LAUNCHES = {"select": 33, "extract": 59}
MOST_PRODUCTS = {"select": 15, "extract": 26}
MOST_COPIES = {"select": 1, "extract": 4}
# The same of the extractor of lookwhen_b16, of which only the width is another here.
B16_LAUNCHES, B16_PRODUCTS = 134, 50


@pytest.fixture(scope="module")
def libraries() -> Path:
    """Where onnxruntime's build for CUDA lies, with the stubs in the place of NVIDIA's packages."""
    if not (BESIDE / "onnxruntime").is_dir() or platform.machine() != "x86_64":
        pytest.skip("needs onnxruntime's build for CUDA: make test-gpu-stub")
    subprocess.run([sys.executable, STUB / "build.py", BESIDE], check=True)
    return BESIDE


@pytest.fixture
def answers(libraries: Path, tmp_path: Path) -> Callable[..., Any]:
    def ask(question: str, *, driver: bool = True, **stub: object) -> Any:
        more = {f"LOOKWHEN_STUB_{name.upper()}": str(value) for name, value in stub.items()}
        said = told(libraries, tmp_path, question, driver=driver, more=more)
        assert len(said) == 1, "onnxruntime says nothing on standard output"
        return json.loads(said[0])

    return ask


def told(
    libraries: Path, folder: Path, *asked: object, driver: bool = True, more: dict[str, str]
) -> list[str]:
    """The lines that a program prints which uses the stubs; its answer is the last."""
    done = subprocess.run(
        [sys.executable, STUB / "answers.py", *map(str, asked)],
        env=variables(libraries, driver=driver) | more,
        capture_output=True, text=True, check=False, timeout=300, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def variables(libraries: Path, *, driver: bool = True) -> dict[str, str]:
    """CUDA's libraries are not on the loader's path: they are where pip puts them."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join([str(libraries), str(ROOT)])}
    if driver:
        found["LD_LIBRARY_PATH"] = str(libraries / "driver")
    return found


def test_an_engine_starts_without_cudnn(answers: Callable[..., Any]) -> None:
    started = answers("start")
    assert started["providers"] == [CUDA, CPU]
    assert started["launches"] > 0
    assert started["products"] > 0


def test_a_device_that_computes_nothing_does_not_pass_for_one_of_16_bits(
    answers: Callable[..., Any],
) -> None:
    assert "fewer bits" in answers("start in fp16")["error"]


def test_all_that_computes_is_on_the_device(answers: Callable[..., Any]) -> None:
    """Shapes alone are the CPU's, which copies nothing for them."""
    for name, found in answers("placement").items():
        assert not found["copies"], name
        assert set(found["cpu"]) <= {"Add", "Concat", "Reshape", "Squeeze"}, name
        assert sum(found["cpu"].values()) <= 5, name
        assert found["cuda"]["MatMul"] > 10, name
        assert "BiasSoftmax" not in found["operators"], name


@pytest.mark.parametrize("question", ["runs", "runs in fp16"])
def test_a_run_is_few_launches_and_few_copies(answers: Callable[..., Any], question: str) -> None:
    for run in answers(question):
        stage = run["stage"]
        assert 0 < run["launches"] <= MOST_LAUNCHES[stage], run
        assert 0 < run["products"] <= MOST_PRODUCTS[stage], run
        assert run["to_device"] <= MOST_COPIES[stage], run
        assert run["to_host"] == 2, run
        assert run["waits"] <= 2, run
        assert run["out_of_memory"] == 0, run


@pytest.fixture(scope="module")
def b16_extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = dataclasses.replace(
        get_config("lookwhen_b16"), width=128, heads=2, selector_depth=1, labels=("a", "b")
    )
    out = tmp_path_factory.mktemp("b16") / "extractor.onnx"
    out.write_bytes(extractor_to_onnx(LookWhen(config).eval()))
    return out


def test_flash_attention_at_every_length(
    libraries: Path, b16_extractor: Path, tmp_path: Path
) -> None:
    """From 1 token to 3136, for one row and for several, padded or not."""
    tell = {"ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO": "1"}
    *said, answer = told(libraries, tmp_path, "attention", b16_extractor, more=tell)
    runs = json.loads(answer)
    assert len(runs) > 3136
    kernels = Counter(re.findall(r"Operator=(\w+) .*SdpaKernel=(\w+)", "\n".join(said)))
    assert kernels == {("Attention", "FLASH_ATTENTION"): len(runs) * 12}
    for run in runs:
        assert 0 < run["launches"] <= B16_LAUNCHES, run
        assert 0 < run["products"] <= B16_PRODUCTS, run
        assert (run["to_device"], run["to_host"]) == (4, 2), run
        assert run["waits"] <= 2, run


@pytest.mark.parametrize(
    ("stub", "told"),
    [
        ({"driver": False}, "libcuda.so.1, the driver's library, is not there. Install NVIDIA's"),
        (
            {"devices": 0},
            "no CUDA-capable device is detected (CUDA's error 100). See whether",
        ),
        ({"device_bytes": 1_000_000}, "the device has no room for"),
    ],
    ids=["driver", "device", "memory"],
)
def test_what_keeps_it_from_starting_is_told(
    answers: Callable[..., Any], stub: dict[str, Any], told: str
) -> None:
    assert told in answers("start", **stub)["error"]


def test_a_library_that_is_missing_is_named(answers: Callable[..., Any], libraries: Path) -> None:
    library = libraries / "nvidia/cu13/lib/libcublas.so.13"
    aside = library.rename(library.with_suffix(".aside"))
    try:
        error = answers("start")["error"]
    finally:
        aside.rename(library)
    assert "libcublas.so.13 is not found. Install CUDA 13, or its libraries by pip install" in error


@pytest.fixture
def server(libraries: Path, tmp_path: Path) -> Iterator[Server]:
    made = Server(
        default_bundle_path(), tmp_path / "log", environment=variables(libraries),
        execution_providers=f"{CUDA},{CPU}", precision="fp32", calibration_seconds=0.1,
    )  # fmt: skip
    try:
        yield made.wait_until_ready()
    finally:
        made.stop()


def test_a_service_on_the_stub_takes_a_clip_all_the_way(server: Server) -> None:
    """Memory that no kernel has written holds anything, so that the numbers may be none."""
    for sparsity in (0.9, 0.5, 0.0):
        answer = server.classify(WARM_UP_CLIP, sparsity=sparsity)
        if answer.status_code == 200:
            assert answer.json()["sparsity"]["used"] == sparsity
        else:
            assert (answer.status_code, answer.json()["code"]) == (500, "model_failed")
    assert server.client.get("/model").json()["engine"]["execution_providers"] == [CUDA, CPU]
