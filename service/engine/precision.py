"""Graphs in fewer bits, for hardware that is made for them."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bundle.schema import Geometry
from bundle.tokens import rank
from bundle.weights import put_together, take_apart
from service.engine.errors import EngineError
from service.engine.graphs import Graph
from service.engine.jobs import Arrays, Outputs

# Of the logits, in units of their spread: for the built-in bundle it is about a twelfth in 8 bits.
TOLERANCE = 0.1
# Of the kept tokens, the share that has to be the same: for the built-in bundle 0.99 in 8 bits.
SAME_TOKENS = 0.9
_ADVICE = "Set LOOKWHEN_PRECISION=fp32"


def to_half(graph: bytes) -> bytes:
    """The same graph computing in fp16; inputs and outputs keep their types.

    onnxruntime's own converter: values that 16 bits cannot hold are clipped to those they can, and
    operators that need 32 bits keep them.
    """
    with _onnxruntimes_scripts():
        from onnxruntime.transformers.float16 import convert_float_to_float16
    model = convert_float_to_float16(onnx.load_from_string(graph), keep_io_types=True)
    converted: bytes = model.SerializeToString()
    return converted


def to_half_apart(graph: bytes, weights: bytes, file: str) -> tuple[bytes, bytes]:
    """:func:`to_half` of a graph that keeps its weights outside itself.

    Args:
        graph, weights: of a verified bundle.
        file: what the graph calls the file of its weights.

    Returns:
        The same of the converted graph.
    """
    with _onnxruntimes_scripts():
        from onnxruntime.transformers.float16 import convert_float_to_float16
    # Types are inferred while the weights are outside: with them it is too large to be written,
    # which is how a model reaches the inference.
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    model = convert_float_to_float16(
        put_together(inferred.SerializeToString(), weights),
        keep_io_types=True,
        disable_shape_infer=True,
    )
    return take_apart(model, file)


def to_int8(graph: bytes) -> bytes:
    """The same graph with matrix products in 8 bits; inputs and outputs keep their types.

    onnxruntime's own dynamic quantisation: weights by output channel, activations while running,
    with one scale for a whole tensor. A result therefore depends on what else is in the run.

    CPUs without VNNI add products of 8 bits up in 16, which overflow: there weights get 7 bits.
    """
    with _onnxruntimes_scripts():
        from onnxruntime.quantization import QuantType, quantize_dynamic
    model = onnx.load_from_string(graph)
    # The exporter notes shapes of weights from before it transposed them, which is refused.
    del model.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder:  # it writes nothing but files
        quantised = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            quantised,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=not _has_vnni(),
            weight_type=QuantType.QInt8,
        )
        return quantised.read_bytes()


def check_selection(reduced: Graph, single: Graph, feeds: Arrays, kept: int) -> Outputs:
    """Compare a selector in fewer bits with itself on one view, by the tokens that it keeps.

    Args:
        reduced, single: the same graph in fewer and in 32 bits.
        feeds: inputs of both.
        kept: number of tokens.

    Returns:
        What it says in 32 bits.

    Raises:
        EngineError: fewer than ``SAME_TOKENS`` of them are the same.
    """
    ours, expected = reduced.run(feeds), single.run(feeds)
    chosen = [set(rank(scores[0])[0, :kept].tolist()) for scores in (ours, expected)]
    same = len(chosen[0] & chosen[1]) / kept
    if same < SAME_TOKENS or not np.isfinite(ours[0]).all():
        raise EngineError(
            f"this bundle's selector keeps other tokens in fewer bits: {same:.0%} of {kept} are "
            f"the same, and {SAME_TOKENS:.0%} have to be. {_ADVICE}"
        )
    return expected


def check_precision(reduced: Graph, single: Graph, feeds: Arrays) -> None:
    """Compare an extractor in fewer bits with itself on one view, by its logits.

    Args:
        reduced, single: the same graph in fewer and in 32 bits.
        feeds: inputs of both.

    Raises:
        EngineError: they differ by more than ``TOLERANCE`` of their standard deviation.
    """
    ours, expected = reduced.run(feeds)[0], single.run(feeds)[0]
    difference = float(np.abs(ours - expected).max() / max(float(expected.std()), 1e-6))
    if not difference <= TOLERANCE:  # also catches NaN
        raise EngineError(
            f"this bundle's extractor answers differently in fewer bits: by {difference:.2g} "
            f"standard deviations of its logits, allowed are {TOLERANCE:g}. {_ADVICE}"
        )


def moving_square(geometry: Geometry) -> NDArray[np.uint8]:
    """A view, uint8 [1, T, H, W, 3]: a bright square crosses a picture that gets lighter."""
    T, S = geometry.frames, geometry.size
    still = np.linspace(20, 160, S, dtype=np.float32)
    view = np.repeat(still[None, None, :, None], T, 0).repeat(S, 1).repeat(3, 3)
    side = S // 4
    for frame in range(T):
        left = round(frame * (S - side) / max(1, T - 1))
        view[frame, S // 3 : S // 3 + side, left : left + side] = (240, 80, 40)
    return view[None].astype(np.uint8)


@contextlib.contextmanager
def _onnxruntimes_scripts() -> Iterator[None]:
    """A folder of a hundred scripts, which import each other from the path of modules.

    Importing the package puts the folder there, for good, and does so only the first time.
    """
    path = list(sys.path)
    import onnxruntime.transformers as scripts

    sys.path[:] = [*path, *scripts.__path__]
    try:
        yield
    finally:
        sys.path[:] = path


def _has_vnni() -> bool:
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
