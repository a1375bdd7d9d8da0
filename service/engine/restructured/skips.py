"""A branch, what goes around it, and the norm of their sum, as one of onnxruntime's operators."""

from service.engine.restructured.edits import Edits, Node, attribute

_NORMS = ("LayerNormalization", "SkipLayerNormalization")


def fuse_skips(edits: Edits) -> int:
    """LayerNormalization(x + (y @ W + b)) in one pass, which also gives the sum; gives how many.

    A GPU starts one kernel for it in place of three. On a CPU it takes longer than those three.
    """
    norms = [node for node in edits.nodes if node.op_type == "LayerNormalization"]
    return sum(_fuse(edits, norm) for norm in norms)


def _fuse(edits: Edits, norm: Node) -> bool:
    summed = edits.maker(norm.input[0], "Add")
    if summed is None or len(norm.input) != 3 or attribute(norm, "axis", -1) not in (-1, 2):
        return False
    around, inside = summed.input
    branch = edits.maker(inside, "Add")
    product = None if branch is None else edits.maker(branch.input[0], "MatMul")
    # What goes around is normed for the branch, so that it has the shape of what comes out of it.
    normed = any(reader.op_type in _NORMS for reader in edits.readers(around))
    if branch is None or product is None or not normed:
        return False
    bias = edits.value(branch.input[1])
    if bias is None or bias.ndim != 1 or edits.only_reader(inside, "Add") is None:
        return False
    inputs = [product.output[0], around, norm.input[1], norm.input[2], branch.input[1]]
    fused, _, _, total = edits.add_many(
        "SkipLayerNormalization", inputs, 4, domain="com.microsoft",
        epsilon=attribute(norm, "epsilon", 1e-5),
    )  # fmt: skip
    edits.replace(norm.output[0], fused)
    edits.replace(summed.output[0], total)
    return True
