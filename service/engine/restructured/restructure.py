"""All rearrangements of a graph, one after the other."""

import onnx
import onnxruntime as ort
from onnx import helper

from service.engine.restructured.attention import fuse_attention
from service.engine.restructured.edits import Edits
from service.engine.restructured.folding import fold_input, fold_scales
from service.engine.restructured.norms import fuse_norms
from service.engine.restructured.places import POSITIONS, look_up_places, replace_padding
from service.engine.restructured.skips import fuse_skips

# The first with attention that takes a number of keys for each row.
OPSET = 24
# Bundles' own; the operators of the versions after it only add to these.
_OLDEST = 20
# Until some version before it, onnxruntime took the number of keys and looked at all of them: 1.24,
# the newest with OpenVINO, answers wrongly where a row is padded.
_COUNTS_KEYS = (1, 31)


def restructure(graph: bytes, tokens: int, *, on_gpu: bool, threads: int = 1) -> bytes:
    """The same computation in fewer passes over memory, and with attention as one operator.

    Args:
        graph: of a verified bundle. Weights that lie outside it stay as they are.
        tokens: N, of a view.
        on_gpu: whether to take also what only GPUs gain from.
        threads: of a CPU that a run has.

    Returns:
        A graph with the same inputs and outputs; the same bytes where nothing was recognised, or
        where onnxruntime is too old.
    """
    if tuple(int(part) for part in ort.__version__.split(".")[:2]) < _COUNTS_KEYS:
        return graph
    model = onnx.load_from_string(graph)
    if not _is_plain(model):
        return graph
    edits = Edits(model)
    found = fold_input(edits) + fold_scales(edits) + fuse_norms(edits)
    tables = {}
    if any(value.name == POSITIONS for value in model.graph.input):
        tables = look_up_places(edits, tokens)
    found += len(tables) + fuse_attention(edits, tables, threads)
    if on_gpu:
        found += fuse_skips(edits) + replace_padding(edits)
    if not found:
        return graph
    model = edits.finish()
    del model.opset_import[:]
    versions = {"": OPSET, "com.microsoft": 1}
    model.opset_import.extend(helper.make_opsetid(*entry) for entry in versions.items())
    restructured: bytes = model.SerializeToString()
    return restructured


def _is_plain(model: onnx.ModelProto) -> bool:
    """Whether it is made of ONNX's own operators of a known version, without branches."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    return (
        set(versions) == {""}
        and _OLDEST <= versions[""] <= OPSET
        and not model.functions
        and not any(
            node.domain or any(a.HasField("g") or a.graphs for a in node.attribute)
            for node in model.graph.node
        )
    )
