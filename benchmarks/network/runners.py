"""One contender in a process of its own, so that its peak of memory is its own.

The parent asks the processes in turns; a process that is not asked sleeps.
"""

import contextlib
import ctypes
import functools
import gc
import hashlib
import multiprocessing.connection
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.network.contenders import FAMILIES, SparseClassifier, contenders, macs_of
from bundle.geometry import downscale, gather_patches
from bundle.tokens import select_top_k
from export.graphs import extractor_to_onnx, selector_to_onnx
from startup.path import spawn_context

EngineName = Literal["torch", "onnxruntime"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# The ceiling's product: large enough to be bound by arithmetic on anything there is.
CEILING = "matrix product"


class RunnerError(Exception):
    """A contender could not be built or run; the text says which, and why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a child must know.

    Attributes:
        device: ``cpu`` or ``cuda``.
        dtype: a key of :data:`DTYPES`; onnxruntime's graphs are exported in it.
        threads: of one run on the CPU.
        cache: folder of the exported graphs.
        side: of the square matrices of the ceiling.
    """

    family: str
    engine: EngineName
    device: str
    dtype: str
    batch: int
    threads: int
    cache: Path
    side: int


class Runner:
    """A contender, or the ceiling, in a child process."""

    def __init__(self, plan: Plan, contender: str, frames: NDArray[np.uint8]) -> None:
        """Start the child; :meth:`facts` waits until it is ready."""
        context = spawn_context()  # threads of torch do not survive a fork
        self.contender = contender
        self._facts: dict[str, Any] | None = None
        self._parent, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, plan, contender), daemon=True)
        self._process.start()
        child.close()
        # Not as an argument: start() would wait for ever for a child that ends before it has read.
        with contextlib.suppress(BrokenPipeError):
            self._parent.send(frames)

    def facts(self) -> dict[str, Any]:
        """What it is, once it is warm: ``macs``, multiply-accumulates of one clip."""
        if self._facts is None:
            self._facts = self._receive()
        return self._facts

    def run(self) -> float:
        """Run once; seconds."""
        self._parent.send("run")
        seconds: float = self._receive()
        return seconds

    def peak_bytes(self) -> int | None:
        """The child's peak until now: of the device's memory, or of the process on a CPU."""
        self._parent.send("peak")
        peak: int | None = self._receive()
        return peak

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._parent.send("stop")
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._parent.close()

    def _receive(self) -> Any:
        try:
            kind, value = self._parent.recv()
        except EOFError:
            self._process.join()
            raise RunnerError(
                f"{self.contender} ended with exit code {self._process.exitcode} (out of memory?)"
            ) from None
        if kind == "failed":
            raise RunnerError(f"{self.contender} cannot be run:\n{value}")
        return value


@contextlib.contextmanager
def running(
    plan: Plan, names: Sequence[str], clips: dict[tuple[int, int, int], NDArray[np.uint8]]
) -> Iterator[dict[str, Runner]]:
    """Runners of the ceiling and of all names, ready and warm; one is built at a time.

    Args:
        clips: frames uint8 [B, T, H, W, 3] by (T, H, W).
    """
    found = contenders(FAMILIES[plan.family])
    anything = next(iter(clips.values()))
    runners: dict[str, Runner] = {}
    try:
        for name in (CEILING, *names):
            frames = clips[found[name].view] if name in found else anything
            runners[name] = Runner(plan, name, frames)
            # Before the next one starts: exporting takes several times a network's memory.
            runners[name].facts()
        yield runners
    finally:
        for runner in runners.values():
            runner.close()


def _serve(
    connection: multiprocessing.connection.Connection,
    plan: Plan,
    contender: str,
) -> None:
    try:
        frames: NDArray[np.uint8] = connection.recv()
        torch.set_num_threads(plan.threads)
        torch.manual_seed(0)
        with torch.inference_mode():
            run, facts = _build(plan, contender, frames)
            _forget_building()
            run()
            connection.send(("facts", facts))
            while (request := connection.recv()) != "stop":
                connection.send((request, _timed(run, plan) if request == "run" else _peak(plan)))
    except EOFError:
        pass
    except Exception:
        connection.send(("failed", traceback.format_exc(limit=-4)))


def _build(
    plan: Plan, name: str, frames: NDArray[np.uint8]
) -> tuple[Callable[[], object], dict[str, Any]]:
    if name == CEILING:
        return _ceiling(plan), {"macs": plan.side**3}
    family = FAMILIES[plan.family]
    contender = contenders(family)[name]
    module = contender.build().eval().to(DTYPES[plan.dtype])
    pixels = torch.from_numpy(frames)
    facts = {"macs": macs_of(contender, family, module, pixels[:1])}
    if plan.engine == "torch":
        module.to(plan.device)
        on_device = pixels.to(plan.device)
        return lambda: module(on_device), facts
    if isinstance(module, SparseClassifier):
        return _sparse_sessions(plan, module, frames), facts
    return _dense_session(plan, name, module, frames), facts


def _dense_session(
    plan: Plan, name: str, module: nn.Module, frames: NDArray[np.uint8]
) -> Callable[[], object]:
    pixels = torch.from_numpy(frames)
    graph = _cached(plan, name.replace(" ", "_"), lambda path: _export(module, pixels, path))
    session = _session(graph, plan)
    return lambda: session.run(["logits"], {"frames": frames})


def _sparse_sessions(
    plan: Plan, module: SparseClassifier, frames: NDArray[np.uint8]
) -> Callable[[], object]:
    """The service's way: two sessions, and top-K and gathering on numpy between them."""
    model, kept = module.model, module.kept
    selector = _session(
        _cached(plan, "selector", lambda path: path.write_bytes(selector_to_onnx(model))), plan
    )
    extractor = _session(
        _cached(plan, "extractor", lambda path: path.write_bytes(extractor_to_onnx(model))), plan
    )
    patch = model.config.patch
    lengths = np.full(len(frames), kept, np.int64)

    def run() -> object:
        scores, context = selector.run(["scores", "context"], {"clip_small": downscale(frames)})
        positions = select_top_k(scores.astype(np.float32, copy=False), kept)
        feeds = {
            "patches": gather_patches(frames, positions, patch),
            "positions": positions,
            "lengths": lengths,
            "context": context.astype(np.float32, copy=False),
        }
        return extractor.run(["logits"], feeds)

    return run


def _export(module: nn.Module, frames: Tensor, path: Path) -> None:
    program = torch.onnx.export(
        module,
        (frames,),
        input_names=["frames"],
        output_names=["logits"],
        opset_version=20,  # the bundles'
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None  # dynamo=True always gives a program
    program.save(str(path))


def _cached(plan: Plan, name: str, write: Callable[[Path], object]) -> Path:
    """The path of a graph, made unless it is there; weights are random, so any will do."""
    path = plan.cache / f"{plan.family}-{name}-{plan.dtype}-batch{plan.batch}-{_sources()}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.stem}.{os.getpid()}.part")
        with torch.no_grad():
            write(part)
        part.replace(path)
    return path


@functools.cache
def _sources() -> str:
    """A digest of the code that graphs are made from, so that none is used that is out of date."""
    root = Path(__file__).parents[2]
    folders = ("model", "export", "training/baselines", "training/teachers", "benchmarks/network")
    files = [path for folder in folders for path in sorted((root / folder).glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _session(graph: Path, plan: Plan) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.threads
    options.log_severity_level = 3
    # As in the service: an idle session must not take the next one's CPUs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = "CUDAExecutionProvider" if plan.device == "cuda" else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(str(graph), options, providers=[wanted])
    if session.get_providers()[0] != wanted:
        raise RunnerError(f"onnxruntime runs on {session.get_providers()}, not on {wanted}")
    return session


def _ceiling(plan: Plan) -> Callable[[], object]:
    """A product of two square matrices, by the engine that runs the networks."""
    if plan.engine == "torch":
        a, b = torch.randn(
            2, plan.side, plan.side, device=plan.device, dtype=DTYPES[plan.dtype]
        ).unbind()
        return lambda: a @ b
    from onnx import TensorProto, helper

    kind = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}[plan.dtype]
    shape = [plan.side, plan.side]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "ceiling",
        [helper.make_tensor_value_info(name, kind, shape) for name in "ab"],
        [helper.make_tensor_value_info("c", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = plan.cache / f"ceiling-{plan.side}-{plan.dtype}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    session = _session(path, plan)
    values = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
    a, b = (
        onnxruntime.OrtValue.ortvalue_from_numpy(half, plan.device, 0)
        for half in values.astype(np.float16 if plan.dtype == "fp16" else np.float32)
    )
    binding = session.io_binding()
    binding.bind_ortvalue_input("a", a)
    binding.bind_ortvalue_input("b", b)
    binding.bind_output("c", plan.device)
    return lambda: session.run_with_iobinding(binding)


def _timed(run: Callable[[], object], plan: Plan) -> float:
    began = time.perf_counter()
    run()
    if plan.engine == "torch" and plan.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _forget_building() -> None:
    """Have the peak of memory count from here: building and exporting are no part of it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # Linux with glibc alone
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def _peak(plan: Plan) -> int | None:
    if plan.device == "cuda":
        # onnxruntime does not tell what its arena took of the device.
        return torch.cuda.max_memory_allocated() if plan.engine == "torch" else None
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
