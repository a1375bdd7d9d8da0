"""OpenVINO for real, where onnxruntime has it or `make openvino` has laid it beside."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort
import pytest
from service_server import ROOT, Server

from bundle.built_in import default_bundle_path
from service.decoding.worker import WARM_UP_CLIP
from service.engine.options import OPENVINO

pytestmark = pytest.mark.real

BESIDE = ROOT / "build" / "openvino"
PROVIDERS = f"{OPENVINO},CPUExecutionProvider"


@pytest.fixture(scope="module")
def environment() -> Mapping[str, str]:
    """Variables with which a process gets an onnxruntime with OpenVINO."""
    if OPENVINO in ort.get_available_providers():
        return {}
    if not (BESIDE / "onnxruntime").is_dir():
        pytest.skip("needs OpenVINO: make openvino")
    return {"PYTHONPATH": str(BESIDE)}


@pytest.mark.parametrize(("precision", "allowed"), [("auto", 1e-3), ("bf16", 0.1), ("int8", 0.1)])
def test_an_engine_on_openvino_answers_nearly_the_same(
    environment: Mapping[str, str], precision: str, allowed: float
) -> None:
    program = Path(__file__).with_name("openvino_answers.py")
    done = subprocess.run(
        [sys.executable, str(program), precision],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["provider"] == OPENVINO
    assert answer["widest"] < allowed


def test_a_service_on_openvino_answers(environment: Mapping[str, str], tmp_path: Path) -> None:
    server = Server(
        default_bundle_path(),
        tmp_path / "log",
        environment=environment,
        execution_providers=PROVIDERS,
    )
    try:
        server.wait_until_ready()
        engine = server.client.get("/model").json()["engine"]
        assert engine["execution_providers"][0] == OPENVINO
        answer = server.classify(WARM_UP_CLIP, sparsity=0.9)
        assert answer.status_code == 200, answer.text
        assert answer.json()["tokens"]["kept"] == 102
    finally:
        server.stop()
