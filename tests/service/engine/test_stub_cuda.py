"""onnxruntime's own build for CUDA, on a CUDA whose memory is real and whose kernels do nothing.

Placement, fusion, choice of kernels, copies, launches and what happens when memory runs out are
onnxruntime's decisions here; which numbers come out of a GPU, and how fast, is not to be seen.
`make test-gpu-stub` lays that build and the headers aside and runs these.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from service_server import ROOT, Server

from bundle.reader import default_bundle_path
from service.decoding.worker import WARM_UP_CLIP
from service.engine.options import CPU, CUDA

pytestmark = pytest.mark.real

BESIDE = ROOT / "build" / "gpu-stub"
STUB = Path(__file__).parent / "stub_cuda"
# What the extractor and the selector of the built-in bundle take, as exported today.
MOST_LAUNCHES = {"select": 53, "extract": 114}
MOST_PRODUCTS = {"select": 21, "extract": 38}
MOST_COPIES = {"select": 5, "extract": 4}


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
        done = subprocess.run(
            [sys.executable, STUB / "answers.py", question],
            env=variables(libraries, driver=driver)
            | {f"LOOKWHEN_STUB_{name.upper()}": str(value) for name, value in stub.items()},
            capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1, "onnxruntime says nothing on standard output"
        return json.loads(done.stdout)

    return ask


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
        assert found["cuda"]["MatMul"] > 20, name
        assert "BiasSoftmax" not in found["operators"], name


def test_a_run_is_few_launches_and_few_copies(answers: Callable[..., Any]) -> None:
    for run in answers("runs"):
        stage = run["stage"]
        assert 0 < run["launches"] <= MOST_LAUNCHES[stage], run
        assert 0 < run["products"] <= MOST_PRODUCTS[stage], run
        assert run["to_device"] <= MOST_COPIES[stage], run
        assert run["to_host"] == 2, run
        assert run["waits"] <= 2, run
        assert run["out_of_memory"] == 0, run


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
