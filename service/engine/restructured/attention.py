"""Attention as one operator, found in basic ones, as bundles spell it out.

ONNX's operator takes the number of keys that each row sees. With that, onnxruntime takes flash
attention on a GPU at every length; with a mask it never does.
"""

from dataclasses import dataclass

from service.engine.restructured.edits import Edits, Node, attribute
from service.engine.restructured.heads import HeadsInGraph, Tables

# What is added to the logits of keys that nobody sees is at most this.
_HIDES = -1e30


@dataclass(frozen=True, slots=True)
class _Found:
    """softmax(q k^T * scale + mask) v, of which q, k, v and the result are [B, h, L, d].

    Attributes:
        lengths: int64 [B], the first keys that each row sees; None where all rows see all.
    """

    result: str
    q: str
    k: str
    v: str
    scale: float
    lengths: str | None


def fuse_attention(edits: Edits, tables: Tables, threads: int = 1) -> int:
    """Let one operator attend, wherever basic ones do; gives in how many places.

    Attention that weighs keys otherwise than by hiding the last ones stays as it is.

    Args:
        edits: of the graph.
        tables: what is looked up by place, see :func:`look_up_places`.
        threads: of a CPU that a run has. Each takes whole heads of the operator, so that some would
            wait where the heads do not divide among them; basic operators are divided otherwise,
            and stay. Source: measured, three heads on two threads took a fifth longer dense.
    """
    fusion = _Fusion(edits, tables, threads)
    softmaxes = [node for node in edits.nodes if node.op_type == "Softmax"]
    return sum(fusion.fuse(softmax) for softmax in softmaxes)


class _Fusion:
    def __init__(self, edits: Edits, tables: Tables, threads: int) -> None:
        self._edits, self._heads = edits, HeadsInGraph(edits, tables)
        self._threads = threads
        self._seen: dict[str, str | None] = {}

    def fuse(self, softmax: Node) -> bool:
        edits = self._edits
        found = self._find(softmax)
        if found is None:
            return False
        inputs, heads, result = [found.q, found.k, found.v], {}, found.result
        sides = [side for name in inputs if (side := self._heads.side_by_side(name)) is not None]
        if self._threads > 1 and (not sides or sides[0].heads % self._threads):
            return False
        merged = self._heads.merged(found.result)
        if merged is not None and len(sides) == 3 and len({side.heads for side in sides}) == 1:
            # Nothing is moved about.
            inputs, result = [side.name for side in sides], merged
            heads = {"q_num_heads": sides[0].heads, "kv_num_heads": sides[0].heads}
        if found.lengths is not None:
            inputs += ["", "", "", found.lengths]
        edits.replace(result, edits.add("Attention", inputs, scale=found.scale, **heads))
        return True

    def _find(self, softmax: Node) -> _Found | None:
        edits = self._edits
        logits = edits.maker(softmax.input[0], "MatMul", "Add")
        weigh = edits.only_reader(softmax.output[0], "MatMul")
        if logits is None or weigh is None or weigh.input[0] != softmax.output[0]:
            return None
        if attribute(softmax, "axis", -1) not in (-1, 3):
            return None
        lengths = None
        if logits.op_type == "Add":
            product, mask = edits.maker(logits.input[0], "MatMul"), logits.input[1]
            lengths = self._keys_seen(mask)
            if product is None or lengths is None:
                return None
            logits = product
        turned = edits.maker(logits.input[1], "Transpose")
        k = None if turned is None else self._unturned(turned)
        if k is None:
            return None
        q, scale = logits.input[0], 1.0
        scaled = edits.maker(q, "Mul")
        factor = None if scaled is None else edits.floats(scaled.input[1])
        if scaled is not None and factor is not None and factor.size == 1:
            q, scale = scaled.input[0], factor.item()
        return _Found(weigh.output[0], q, k, weigh.input[1], scale, lengths)

    def _unturned(self, turned: Node) -> str | None:
        """Keys [B, h, L, d] of what makes [B, h, d, L]."""
        order = attribute(turned, "perm")
        if order == [0, 1, 3, 2]:
            return turned.input[0]
        if order == [0, 2, 3, 1]:  # two transpositions in one
            return self._edits.add("Transpose", [turned.input[0]], perm=[0, 2, 1, 3])
        return None

    def _keys_seen(self, mask: str) -> str | None:
        """How many of the first keys each row sees, int64 [B]; None if the mask says otherwise."""
        if mask not in self._seen:
            self._seen[mask] = self._count_keys(mask)
        return self._seen[mask]

    def _count_keys(self, mask: str) -> str | None:
        edits = self._edits
        where = edits.maker(mask, "Where")
        seen = None if where is None else edits.floats(where.input[1])
        hidden = None if where is None else edits.floats(where.input[2])
        if where is None or seen is None or hidden is None:
            return None
        wide = edits.maker(where.input[0], "Unsqueeze")
        less = None if wide is None else edits.maker(wide.input[0], "Less")
        places = None if less is None else edits.maker(less.input[0], "Unsqueeze")
        counted = None if places is None else edits.maker(places.input[0], "Range")
        if wide is None or less is None or places is None or counted is None:
            return None
        first, step = edits.integers(counted.input[0]), edits.integers(counted.input[2])
        counts = edits.maker(less.input[1], "Add", "Unsqueeze")
        known = (
            not seen.any() and bool((hidden <= _HIDES).all())
            and edits.integers(wide.input[1]) == [1, 2]
            and edits.integers(places.input[1]) == [0]
            and (first, step) == ([0], [1])
            and counts is not None
        )  # fmt: skip
        return edits.add("Squeeze", [less.input[1], edits.constant([1])]) if known else None
