"""Large weights in half precision inside a graph, at half the bytes.

What is computed stays float32. Only weights that half precision holds exactly are narrowed, so that
a graph says the same before and after, bit for bit. Rounding is done to the network, before it is
exported (:mod:`export.prepare`).

A narrowed weight is a float16 initializer and a ``Cast`` that has the weight's name: every runtime
reads the file. The reader of bundles widens it again, so that nothing else needs to know.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Smaller ones save less than their Cast takes.
LEAST_VALUES = 1024
_SUFFIX = "_float16"
_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def narrowed(content: bytes) -> bytes:
    """The same graph with each large float32 weight in half precision that loses nothing by it."""
    model = onnx.load_from_string(content)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != _FLOAT or tensor.external_data:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < LEAST_VALUES or not fits_half(values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + _SUFFIX))
        casts.append(helper.make_node("Cast", [name + _SUFFIX], [name], to=_FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    return model.SerializeToString()


def widened(content: bytes) -> bytes:
    """The same graph with float32 weights where half precision ones are cast; else as it was."""
    model = onnx.load_from_string(content)
    halves = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == _HALF and not tensor.external_data
    }
    casts = [node for node in model.graph.node if _widens(node) and node.input[0] in halves]
    if not casts:
        return content
    for cast in casts:
        model.graph.node.remove(cast)
    used = {name for node in model.graph.node for name in node.input}
    used |= {value.name for value in model.graph.output}
    for cast in casts:
        narrow = halves[cast.input[0]]
        values = numpy_helper.to_array(narrow).astype(np.float32)
        wide = numpy_helper.from_array(values, cast.output[0])
        # In the place of the narrow one: unpacking tells weights by their order.
        shared = cast.input[0] in used or narrow.name != cast.input[0]
        if shared:  # by another node, or by a Cast that has its place already
            model.graph.initializer.append(wide)
        else:
            narrow.CopyFrom(wide)
    return model.SerializeToString()


def fits_half(values: np.ndarray) -> bool:
    """Whether half precision holds all of these float32 values exactly."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float16)
    return bool(np.array_equal(narrow.astype(np.float32), values))


def _widens(node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "Cast"
        and node.domain in {"", "ai.onnx"}
        and any(attribute.name == "to" and attribute.i == _FLOAT for attribute in node.attribute)
    )
