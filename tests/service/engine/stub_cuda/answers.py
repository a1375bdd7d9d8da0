"""``python answers.py WHAT``: what the engine does on a CUDA without a device, as JSON.

A program, because the onnxruntime with CUDA takes the place of the other one.
"""

import ctypes
import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from bundle.reader import Bundle, default_bundle_path, read_bundle
from service.engine import Engine, EngineOptions
from service.engine.calibration import extractor_noise, selector_noise
from service.engine.cuda import WITHOUT_CUDNN, preload
from service.engine.errors import EngineError
from service.engine.options import CPU, CUDA, Precision

_COUNTED = {
    "libcudart.so.13": ("launches", "to_device", "to_host", "waits", "out_of_memory"),
    "libcublas.so.13": ("products",),
}


def counts() -> dict[str, int]:
    return {
        name: ctypes.c_long.in_dll(ctypes.CDLL(library), f"stub_{name}").value
        for library, names in _COUNTED.items()
        for name in names
    }


def engine(bundle: Bundle, precision: Precision = "fp32") -> Engine:
    return Engine(bundle, EngineOptions(execution_providers=(CUDA, CPU), precision=precision))


def placement(bundle: Bundle) -> dict[str, Any]:
    """Operators by provider of both graphs, and those that copy between devices."""
    preload()
    found: dict[str, Any] = {}
    for name in ("selector", "extractor"):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = f"{name}.placed.onnx"
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = ort.InferenceSession(
            getattr(bundle, name), options, providers=[CUDA, CPU], disabled_optimizers=WITHOUT_CUDNN
        )
        placed: dict[str, Counter[str]] = {CUDA: Counter(), CPU: Counter()}
        for part in session.get_provider_graph_assignment_info():
            placed[part.ep_name].update(node.op_type for node in part.get_nodes())
        operators = Counter(
            node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node
        )
        found[name] = {
            "cpu": placed[CPU], "cuda": placed[CUDA],
            "copies": [operator for operator in operators if operator.startswith("Memcpy")],
            "operators": operators,
        }  # fmt: skip
    return found


def runs(bundle: Bundle) -> list[dict[str, Any]]:
    """What one run of each shape does, after a first one; of an engine with its own settings."""
    made, geometry = engine(bundle), bundle.manifest.geometry
    downscale = bundle.manifest.selector.downscale
    shapes: list[tuple[str, int, int]] = [("select", rows, 0) for rows in (1, 3, 8)]
    lengths = sorted({1, 7, 102, geometry.tokens // 2, geometry.tokens - 1, geometry.tokens})
    shapes += [("extract", rows, kept) for kept in lengths for rows in (1, 4)]
    found = []
    for stage, rows, kept in shapes:
        graph = made.selector if stage == "select" else made.extractor
        feeds = (
            selector_noise(geometry, downscale, rows)
            if stage == "select"
            else extractor_noise(geometry, [kept] * rows)
        )
        graph.run(feeds)
        before = counts()
        outputs = graph.run(feeds)
        after = counts()
        found.append(
            {"stage": stage, "rows": rows, "kept": kept,
             "finite": all(bool(np.isfinite(output).all()) for output in outputs)}
            | {name: after[name] - before[name] for name in after}
        )  # fmt: skip
    made.close()
    return found


def start(bundle: Bundle, precision: Precision = "fp32") -> dict[str, Any]:
    """Whether an engine starts and calibrates."""
    try:
        made = engine(bundle, precision)
        made.calibrate([bundle.manifest.geometry.tokens, 102], 102)
    except EngineError as error:
        return {"error": str(error)}
    said = {"providers": made.providers, "precision": made.precision, **counts()}
    made.close()
    return said


QUESTIONS: dict[str, Callable[[Bundle], Any]] = {
    "placement": placement, "runs": runs, "start": start,
    "start in fp16": partial(start, precision="fp16"),
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]](read_bundle(default_bundle_path()))))
