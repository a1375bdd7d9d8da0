"""What depends on a token's place alone: looked up in a table, instead of computed in every run."""

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.engine.restructured.edits import Edits, Node

POSITIONS = "positions"


def look_up_places(edits: Edits, tokens: int) -> dict[str, NDArray[np.float32]]:
    """Let one gather give each float value that is a function of a token's place.

    Args:
        edits: of a graph with an input ``positions``, int64 [B, K].
        tokens: N, how many places there are.

    Returns:
        the tables, float32 [N, width], by the names of the values that are looked up in them.
    """
    parts = _depend_on_places(edits)
    inside = {id(node) for node in parts}
    wanted = [
        name
        for node in parts
        for name in node.output
        if any(id(reader) not in inside for reader in edits.readers(name))
    ]
    if not wanted:
        return {}
    session = _session(edits, parts, wanted)
    # Shapes come along, such as that of a mask: what is no float is not looked up.
    floats = [out.name for out in session.get_outputs() if out.type == "tensor(float)"]
    if not floats:
        return {}
    every = dict(zip(floats, session.run(floats, _feed(np.arange(tokens)[None])), strict=True))
    probe = np.random.default_rng(0).integers(0, tokens, (2, 5))
    probed = dict(zip(floats, session.run(floats, _feed(probe)), strict=True))
    tables = {}
    for name in floats:
        if every[name].ndim < 2:  # a function of how many places there are
            continue
        width = every[name].shape[-1]
        table = every[name].reshape(-1, width)
        # Between the rows and the tokens there may be the dimension of heads, of size 1.
        heads = every[name].ndim == 4
        shape = (2, 1, 5, width) if heads else (2, 5, width)
        alike = len(table) == tokens and probed[name].shape == shape
        if not alike or not np.array_equal(probed[name].reshape(2, 5, width), table[probe]):
            continue
        looked_up = edits.add("Gather", [edits.constant(table), POSITIONS], axis=0)
        if heads:
            looked_up = edits.add("Unsqueeze", [looked_up, edits.constant([1])])
        edits.replace(name, looked_up)
        tables[looked_up] = table
    return tables


def replace_padding(edits: Edits) -> int:
    """Zeros before the places of a row, without the operator that GPUs lack for whole numbers.

    So a network looks the class token's place up beside those of the tokens. Gives how many.
    """
    found = 0
    for padded in [node for node in edits.nodes if node.op_type == "Pad"]:
        sizes, counted = edits.integers(padded.input[1]), edits.maker(padded.input[0], "Add")
        if counted is None or counted.input[0] != POSITIONS or len(padded.input) > 2:
            continue
        if sizes is None or len(sizes) != 4 or sizes[0] or any(sizes[2:]):
            continue
        batch = edits.add("Shape", [POSITIONS], start=0, end=1)
        shape = edits.add("Concat", [batch, edits.constant([sizes[1]])], axis=0)
        zeros = edits.add("Expand", [edits.constant(np.zeros((1, 1), np.int64)), shape])
        joined = edits.add("Concat", [zeros, counted.output[0]], axis=1)
        edits.replace(padded.output[0], joined)
        found += 1
    return found


def _depend_on_places(edits: Edits) -> list[Node]:
    """Nodes that read the positions, or what is made of them, and constants besides."""
    known, parts = {POSITIONS}, []
    waiting = [POSITIONS]
    while waiting:
        for node in edits.readers(waiting.pop()):
            if node.output[0] in known or not all(
                not name or name in known or edits.value(name) is not None for name in node.input
            ):
                continue
            parts.append(node)
            known.update(node.output)
            waiting += node.output
    return parts


def _feed(positions: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    return {POSITIONS: np.ascontiguousarray(positions, np.int64)}


def _session(edits: Edits, parts: list[Node], wanted: list[str]) -> ort.InferenceSession:
    """A graph of these nodes alone."""
    names = {name for node in parts for name in node.input}
    constants = [
        onnx.numpy_helper.from_array(value, name)
        for name in names
        if name and (value := edits.value(name)) is not None
    ]
    given = helper.make_tensor_value_info(POSITIONS, TensorProto.INT64, [None, None])
    # Their types are inferred.
    asked = [onnx.ValueInfoProto(name=name) for name in wanted]
    graph = helper.make_graph(parts, "places", [given], asked, constants)
    model = helper.make_model(
        graph, opset_imports=edits.model.opset_import, ir_version=edits.model.ir_version
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
