"""Root mean square norms as one operator, where basic ones go over all values several times."""

from service.engine.restructured.edits import Edits, Node

_AROUND = ("Pow", "ReduceMean", "Add", "Sqrt", "Reciprocal")


def fuse_norms(edits: Edits) -> int:
    """x / sqrt(mean(x^2) + eps) * w over the last dimension; gives how many were fused."""
    inverses = [node for node in edits.nodes if node.op_type == "Reciprocal"]
    return sum(_fuse(edits, inverse) for inverse in inverses)


def _fuse(edits: Edits, inverse: Node) -> bool:
    chain = [inverse]
    for operator in reversed(_AROUND[:-1]):
        before = edits.maker(chain[0].input[0], operator)
        if before is None:
            return False
        chain.insert(0, before)
    square, mean, added, _, _ = chain
    two, eps = edits.floats(square.input[1]), edits.floats(added.input[1])
    normed = edits.only_reader(inverse.output[0], "Mul")
    scaled = None if normed is None else edits.only_reader(normed.output[0], "Mul")
    if two is None or eps is None or normed is None or scaled is None or eps.size != 1:
        return False
    x = square.input[0]
    weight = next((name for name in scaled.input if name != normed.output[0]), "")
    wide = edits.value(weight)
    # Views are [B, L, D]: the last dimension is the third.
    if set(normed.input) != {x, inverse.output[0]} or edits.integers(mean.input[1]) != [2]:
        return False
    if two.size != 1 or two.item() != 2 or wide is None or wide.ndim != 1:
        return False
    fused = edits.add("RMSNormalization", [x, weight], axis=-1, epsilon=eps.item())
    edits.replace(scaled.output[0], fused)
    return True
