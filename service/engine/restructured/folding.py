"""Constants that a product's weights can take in: what pixels are normed by, and LayerScale."""

import numpy as np
from numpy.typing import NDArray

from service.engine.restructured.edits import Edits, Node

Floats = NDArray[np.float32]


def fold_input(edits: Edits) -> int:
    """(patches - mean) / std @ W + b becomes patches @ (W / std) + (b - mean / std @ W).

    Gives how many products took a norm of pixels in.
    """
    found = 0
    for divided in _of(edits, "Div"):
        centred = edits.maker(divided.input[0], "Sub")
        std = edits.floats(divided.input[1])
        mean = None if centred is None else edits.floats(centred.input[1])
        product = edits.only_reader(divided.output[0], "MatMul")
        if centred is None or mean is None or std is None or product is None:
            continue
        weight = edits.floats(product.input[1])
        if product.input[0] != divided.output[0] or weight is None or weight.ndim != 2:
            continue
        if not mean.shape == std.shape == weight.shape[:1]:
            continue
        weight64 = weight / std.astype(np.float64)[:, None]
        shift = -(mean.astype(np.float64) @ weight64)
        scaled = edits.add(
            "MatMul", [centred.input[0], edits.constant(weight64.astype(np.float32))]
        )
        added = edits.only_reader(product.output[0], "Add")
        bias = None if added is None else _bias(edits, added, product.output[0])
        if added is not None and bias is not None and bias.shape == shift.shape:
            total = (bias + shift).astype(np.float32)
            edits.replace(added.output[0], edits.add("Add", [scaled, edits.constant(total)]))
        else:
            total = shift.astype(np.float32)
            edits.replace(product.output[0], edits.add("Add", [scaled, edits.constant(total)]))
        found += 1
    return found


def fold_scales(edits: Edits) -> int:
    """(x @ W + b) * gamma becomes x @ (W * gamma) + b * gamma; gives how many were folded."""
    found = 0
    for scaled in _of(edits, "Mul"):
        added = edits.maker(scaled.input[0], "Add")
        gamma = edits.floats(scaled.input[1])
        if added is None or gamma is None or edits.only_reader(added.output[0], "Mul") is None:
            continue
        product = edits.maker(added.input[0], "MatMul")
        bias = None if product is None else _bias(edits, added, product.output[0])
        if product is None or bias is None:
            continue
        weight = edits.floats(product.input[1])
        if edits.only_reader(product.output[0], "Add") is None or weight is None:
            continue
        if weight.ndim != 2 or not gamma.shape == bias.shape == weight.shape[1:]:
            continue
        folded = edits.add("MatMul", [product.input[0], edits.constant(weight * gamma)])
        edits.replace(scaled.output[0], edits.add("Add", [folded, edits.constant(bias * gamma)]))
        found += 1
    return found


def _of(edits: Edits, operator: str) -> list[Node]:
    return [node for node in edits.nodes if node.op_type == operator]


def _bias(edits: Edits, added: Node, product: str) -> Floats | None:
    """What is added to a product, where that is a constant."""
    others = [name for name in added.input if name != product]
    return edits.floats(others[0]) if len(others) == 1 else None
