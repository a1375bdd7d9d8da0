"""Graphs in 16 bits, for hardware that is made for it."""

import sys

import numpy as np
import onnx

from service.engine.errors import EngineError
from service.engine.graphs import Graph
from service.engine.jobs import Arrays

# Of the logits, in units of their spread: rounding of the built-in bundle stays below a fiftieth.
TOLERANCE = 0.1


def to_half(graph: bytes) -> bytes:
    """The same graph computing in fp16; inputs and outputs keep their types.

    onnxruntime's own converter: values that 16 bits cannot hold are clipped to those they can, and
    operators that need 32 bits keep them.
    """
    path = list(sys.path)
    # Importing it puts the folder of a hundred scripts on the path of modules.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    sys.path[:] = path
    model = convert_float_to_float16(onnx.load_from_string(graph), keep_io_types=True)
    converted: bytes = model.SerializeToString()
    return converted


def check_half(half: Graph, single: Graph, feeds: Arrays) -> float:
    """Compare the extractors on one view.

    Args:
        half, single: the same extractor in 16 and in 32 bits.
        feeds: inputs of both.

    Returns:
        The largest difference of the logits, in units of their standard deviation.

    Raises:
        EngineError: it is too large; this network does not fit into 16 bits.
    """
    ours, _ = half.run(feeds)
    expected, _ = single.run(feeds)
    difference = float(np.abs(ours - expected).max() / max(float(expected.std()), 1e-6))
    if not difference <= TOLERANCE:  # also catches NaN
        raise EngineError(
            f"this bundle's extractor answers differently in 16 bits: by {difference:.2g} standard "
            f"deviations of its logits, allowed are {TOLERANCE:g}. Set LOOKWHEN_PRECISION=fp32"
        )
    return difference
