"""``python answers.py WHAT``: what the engine does on a CUDA without a device, as JSON.

A program, because the onnxruntime with CUDA takes the place of the other one.
"""

import ctypes
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from bundle.schema import Geometry
from service.engine import Engine, EngineOptions
from service.engine.calibration import extractor_noise, selector_noise
from service.engine.cuda import UNWANTED_FUSIONS, preload
from service.engine.errors import EngineError
from service.engine.graphs import EXTRACTOR_OUTPUTS, Content, Graph
from service.engine.options import CPU, CUDA, Precision
from service.engine.precision import to_half
from service.engine.restructured import restructure

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


def engine(bundle: Bundle, precision: Precision = "fp32", kind: type[Engine] = Engine) -> Engine:
    return kind(bundle, EngineOptions(execution_providers=(CUDA, CPU), precision=precision))


class Unchecked(Engine):
    """Takes 16 bits from a device that computes nothing."""

    def _check_precision(self, selector: Content, extractor: Content) -> None:
        pass


def prepared(graph: bytes, tokens: int, precision: str) -> bytes:
    """As the engine gives it to onnxruntime on a GPU."""
    arranged = restructure(graph, tokens, on_gpu=True)
    return to_half(arranged) if precision == "fp16" else arranged


def placement(bundle: Bundle) -> dict[str, Any]:
    """Operators by provider of both graphs, and those that copy between devices."""
    preload()
    found: dict[str, Any] = {}
    for name, precision in itertools.product(("selector", "extractor"), ("fp32", "fp16")):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = f"{name}.placed.onnx"
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = ort.InferenceSession(
            prepared(getattr(bundle, name), bundle.manifest.geometry.tokens, precision),
            options, providers=[CUDA, CPU], disabled_optimizers=UNWANTED_FUSIONS,
        )  # fmt: skip
        placed: dict[str, Counter[str]] = {CUDA: Counter(), CPU: Counter()}
        for part in session.get_provider_graph_assignment_info():
            placed[part.ep_name].update(node.op_type for node in part.get_nodes())
        operators = Counter(
            node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node
        )
        found[f"{name}, {precision}"] = {
            "cpu": placed[CPU], "cuda": placed[CUDA],
            "copies": [operator for operator in operators if operator.startswith("Memcpy")],
            "operators": operators,
        }  # fmt: skip
    return found


def runs(bundle: Bundle, precision: Precision = "fp32") -> list[dict[str, Any]]:
    """What one run of each shape does, after a first one; of an engine with its own settings."""
    made, geometry = engine(bundle, precision, Unchecked), bundle.manifest.geometry
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


def attention(bundle: Bundle, graph: str) -> list[dict[str, int]]:
    """What runs of an extractor do at every length. onnxruntime says which kernels attend.

    Args:
        graph: a file with the extractor of a LookWhen of 3136 tokens.
    """
    preload()
    geometry = Geometry(frames=16, size=224, patch=16, context=9, width=128)
    options = EngineOptions(execution_providers=(CUDA, CPU))
    content = prepared(Path(graph).read_bytes(), geometry.tokens, "fp16")
    made = Graph("extractor", content, EXTRACTOR_OUTPUTS, options, 1)
    shapes = [[kept] for kept in range(1, geometry.tokens + 1)]
    shapes += [[kept] * rows for kept in (1, 100, 314, 941) for rows in (2, 4, 13, 32)]
    shapes += [[941, 314, 1], [3136, 1]]
    found = []
    for lengths in shapes:
        before = counts()
        made.run(extractor_noise(geometry, lengths))
        after = counts()
        found.append({name: after[name] - before[name] for name in after})
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
    "placement": placement, "runs": runs, "runs in fp16": partial(runs, precision="fp16"),
    "start": start, "start in fp16": partial(start, precision="fp16"), "attention": attention,
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]](read_bundle(default_bundle_path()), *sys.argv[2:])))
