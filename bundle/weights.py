"""A graph's weights in a file of their own, for networks over the 2 GiB at which protobuf ends.

The file is the tensors' raw bytes one after the other. The graph says of each tensor where in the
file it begins and how long it is, in ONNX's own terms for external data.
"""

import onnx
from onnx import numpy_helper

# Smaller tensors stay in the graph: shapes and axes are read there before any weight is.
_LEAST_BYTES = 1024
# Tensors begin at such multiples, which any instruction may read from.
_ALIGNMENT = 64
# Where a tensor may hold its values, in itself.

_CONTENTS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data")

VALUE_BYTES = {
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.BFLOAT16: 2,
    onnx.TensorProto.DOUBLE: 8,
    onnx.TensorProto.INT64: 8,
    onnx.TensorProto.INT32: 4,
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT8: 1,
    onnx.TensorProto.BOOL: 1,
}
"""Bytes of one value, of the types that a file of weights may hold."""


def take_apart(model: onnx.ModelProto, file: str) -> tuple[bytes, bytes]:
    """Move a graph's large initializers out of it; the model is altered.

    Args:
        model: a whole model, of any size.
        file: what the file of weights is called (:data:`bundle.schema.WEIGHTS_FILES`).

    Returns:
        The graph as a bundle holds it, and the content of its file of weights.
    """
    pieces: list[bytes] = []
    offset = 0
    for tensor in model.graph.initializer:
        if tensor.data_type not in VALUE_BYTES:
            continue
        raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        if len(raw) < _LEAST_BYTES:
            continue
        padding = -offset % _ALIGNMENT
        pieces += [b"\0" * padding, raw]
        offset += padding
        for field in _CONTENTS:
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", file), ("offset", offset), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        offset += len(raw)
    return model.SerializeToString(), b"".join(pieces)


def put_together(graph: bytes, weights: bytes) -> onnx.ModelProto:
    """The whole model again; it may be larger than can be written as one message.

    Args:
        graph, weights: of a verified bundle.
    """
    model = onnx.load_model_from_string(graph)
    content = memoryview(weights)
    for tensor in model.graph.initializer:
        told = {entry.key: entry.value for entry in tensor.external_data}
        if told:
            offset = int(told["offset"])
            tensor.raw_data = bytes(content[offset : offset + int(told["length"])])
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
    return model
