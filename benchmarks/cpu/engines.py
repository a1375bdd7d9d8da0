"""The ways to run the two graphs on a CPU, one factor changed at a time."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.graphs import (
    OPSET,
    ExtractorGraph,
    SelectorGraph,
    extractor_to_onnx,
    selector_to_onnx,
)
from model.classifier import LookWhen
from service.engine.precision import to_int8
from service.engine.restructured import restructure

Array = NDArray[Any]
Arrays = dict[str, Array]
# Inputs by name -> outputs in the graph's order.
Run = Callable[[Arrays], list[Array]]

SELECTOR_OUTPUTS = ("scores", "context")
EXTRACTOR_OUTPUTS = ("logits", "video")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a model; the defaults are what the service does.

    Attributes:
        restructured: whether onnxruntime gets the graphs as the engine arranges them.
        threads: of one run; 0 is one for each CPU.
    """

    name: str
    runtime: Literal["onnxruntime", "torch", "openvino"] = "onnxruntime"
    restructured: bool = True
    precision: Literal["fp32", "int8", "bf16"] = "fp32"
    threads: int = 0
    spinning: bool = False
    arena: bool = True


BASE = Way("onnxruntime fp32")


def ways(cpus: int) -> dict[str, Way]:
    """All of them by name, the base first. Fewer threads than CPUs: powers of two."""
    fewer = [2**power for power in range(cpus.bit_length()) if 2**power < cpus]
    found = [
        BASE,
        Way("graphs as in the bundle", restructured=False),
        Way("int8", precision="int8"),
        Way("int8, graphs as in the bundle", restructured=False, precision="int8"),
        *(Way(f"{count} thread{'s' * (count > 1)}", threads=count) for count in fewer),
        Way("spinning", spinning=True),
        Way("no arena", arena=False),
        Way("torch fp32", runtime="torch"),
        Way("torch bf16", runtime="torch", precision="bf16"),
        Way("OpenVINO fp32", runtime="openvino"),
        Way("OpenVINO bf16", runtime="openvino", precision="bf16"),
    ]
    return {way.name: way for way in found}


def has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


class Graphs:
    """A model's graphs, exported and quantised once, in a folder.

    Attributes:
        model: the same in torch.
    """

    def __init__(self, model: LookWhen, folder: Path) -> None:
        self.model = model.eval()
        self._folder = folder

    def path(self, part: str, restructured: bool, precision: str, threads: int = 1) -> Path:
        """``part`` is ``selector`` or ``extractor``, for runs of that many threads; made unless it
        is there."""
        plain = self._folder / f"{part}-opset{OPSET}.onnx"
        if not plain.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            export = selector_to_onnx if part == "selector" else extractor_to_onnx
            plain.write_bytes(export(self.model))
        if restructured:
            arrange = partial(
                restructure, tokens=self.model.config.tokens, on_gpu=False, threads=threads
            )
            plain = self._made(plain, f"{part}-restructured-{threads}.onnx", arrange)
        if precision != "int8":
            return plain
        return self._made(plain, f"{plain.stem}-int8.onnx", to_int8)

    def _made(self, source: Path, name: str, make: Callable[[bytes], bytes]) -> Path:
        made = self._folder / name
        if not made.exists():
            made.write_bytes(make(source.read_bytes()))
        return made


@dataclass(frozen=True, slots=True)
class Engine:
    """Both graphs, ready to run."""

    way: Way
    selector: Run
    extractor: Run


def build(way: Way, graphs: Graphs, cpus: int) -> Engine:
    """Load both graphs. The caller sets torch's threads, for the whole process."""
    threads = way.threads or cpus
    if way.runtime == "torch":
        return Engine(
            way,
            _torch_run(SelectorGraph(graphs.model), way.precision),
            _torch_run(ExtractorGraph(graphs.model), way.precision),
        )
    runs: list[Run] = []
    for part, outputs in (("selector", SELECTOR_OUTPUTS), ("extractor", EXTRACTOR_OUTPUTS)):
        on_onnxruntime = way.runtime == "onnxruntime"
        path = graphs.path(part, way.restructured and on_onnxruntime, way.precision, threads)
        if way.runtime == "openvino":
            runs.append(_openvino_run(path, outputs, threads, way.precision))
        else:
            runs.append(_onnxruntime_run(path, outputs, threads, way))
    return Engine(way, *runs)


def _onnxruntime_run(path: Path, outputs: tuple[str, ...], threads: int, way: Way) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = way.arena
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "1" if way.spinning else "0"
    )
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(feeds: Arrays) -> list[Array]:
        found: list[Array] = session.run(list(outputs), feeds)
        return found

    return run


def _torch_run(module: torch.nn.Module, precision: str) -> Run:
    def run(feeds: Arrays) -> list[Array]:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        ):
            found: tuple[Tensor, ...] = module(*(torch.from_numpy(x) for x in feeds.values()))
        return [tensor.float().numpy() for tensor in found]

    return run


def _openvino_run(path: Path, outputs: tuple[str, ...], threads: int, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(str(path)),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Left alone, it takes bf16 wherever the CPU has it, unasked.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        },
    )
    request = compiled.create_infer_request()

    def run(feeds: Arrays) -> list[Array]:
        request.infer(feeds)
        return [np.array(request.get_tensor(name).data) for name in outputs]

    return run
