"""Queries, keys and values with their heads side by side: [B, L, h*d] for what is [B, h, L, d].

So a product makes them, and so attention as one operator takes them. In basic operators they are
moved about in between, and rotated there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.engine.restructured.edits import Edits, Node, attribute
from service.engine.restructured.places import POSITIONS

Tables = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A value [B, L, h*d], and its number of heads."""

    name: str
    heads: int


class HeadsInGraph:
    """Finds what heads were made of, and makes it anew where it is rotated."""

    def __init__(self, edits: Edits, tables: Tables) -> None:
        """``tables``: what is looked up by place, see :func:`look_up_places`."""
        self._edits, self._tables = edits, tables
        self._splits: dict[str, list[str]] = {}
        self._rotations: dict[tuple[str, str, int], tuple[str, str, str] | None] = {}

    def side_by_side(self, name: str) -> SideBySide | None:
        """[B, h, L, d] as [B, L, h*d]; None where it was made in another way than those known."""
        return self._third(name) or self._turned(name) or self._rotated(name)

    def merged(self, name: str) -> str | None:
        """What [B, h, L, d] is put together to, [B, L, h*d]; None where it goes elsewhere."""
        turned = self._edits.only_reader(name, "Transpose")
        if turned is None or attribute(turned, "perm") != [0, 2, 1, 3]:
            return None
        merged = self._edits.only_reader(turned.output[0], "Reshape")
        sizes = None if merged is None else self._sizes(merged.input[1])
        return merged.output[0] if merged is not None and sizes and len(sizes) == 3 else None

    def _third(self, name: str) -> SideBySide | None:
        """[B, L, 3*h*d] -> [3, B, h, L, d] -> one of the three."""
        edits = self._edits
        squeezed = edits.maker(name, "Squeeze")
        part = None if squeezed is None else edits.maker(squeezed.input[0], "Slice")
        turned = None if part is None else edits.maker(part.input[0], "Transpose")
        if part is None or turned is None or attribute(turned, "perm") != [2, 0, 3, 1, 4]:
            return None
        split = edits.maker(turned.input[0], "Reshape")
        sizes = None if split is None else self._sizes(split.input[1])
        if len(part.input) < 4:
            return None
        first, last, axes = (edits.integers(part.input[index]) for index in (1, 2, 3))
        if split is None or sizes is None or len(sizes) != 5 or sizes[2] != 3 or axes != [0]:
            return None
        heads = sizes[3]
        if first is None or last != [first[0] + 1] or heads is None:
            return None
        whole = split.input[0]
        if whole not in self._splits:
            self._splits[whole] = edits.add_many("Split", [whole], 3, axis=2, num_outputs=3)
        return SideBySide(self._splits[whole][first[0]], heads)

    def _turned(self, name: str) -> SideBySide | None:
        """[B, L, h*d] -> [B, L, h, d] -> [B, h, L, d]."""
        turned = self._edits.maker(name, "Transpose")
        if turned is None or attribute(turned, "perm") != [0, 2, 1, 3]:
            return None
        split = self._edits.maker(turned.input[0], "Reshape")
        sizes = None if split is None else self._sizes(split.input[1])
        if split is None or sizes is None or len(sizes) != 4:
            return None
        heads = sizes[2]
        return None if heads is None or heads < 1 else SideBySide(split.input[0], heads)

    def _rotated(self, name: str) -> SideBySide | None:
        """Halves of each head turned against each other, after the first P tokens."""
        edits = self._edits
        joined = edits.maker(name, "Concat")
        if joined is None or len(joined.input) != 2 or attribute(joined, "axis") != 2:
            return None
        still, added = edits.maker(joined.input[0], "Slice"), edits.maker(joined.input[1], "Add")
        if still is None or added is None:
            return None
        plain, swapped = (edits.maker(term, "Mul") for term in added.input)
        if plain is None or swapped is None:
            return None
        rest, prefix = edits.maker(plain.input[0], "Slice"), edits.integers(still.input[2])
        if rest is None or rest.input[0] != still.input[0] or not prefix:
            return None
        if edits.integers(rest.input[1]) != prefix or not self._swaps(swapped.input[0], rest):
            return None
        tokens = self.side_by_side(still.input[0])
        if tokens is None:
            return None
        turn = self._turn(plain.input[1], swapped.input[1], prefix[0], tokens.name)
        if turn is None:
            return None
        rotated = edits.add("RotaryEmbedding", [tokens.name, *turn], num_heads=tokens.heads)
        return SideBySide(rotated, tokens.heads)

    def _swaps(self, name: str, rest: Node) -> bool:
        """Whether it is the second half, negated, and then the first."""
        halves = self._edits.maker(name, "Concat")
        negated = None if halves is None else self._edits.maker(halves.input[0], "Neg")
        if halves is None or negated is None or len(halves.input) != 2:
            return False
        split = self._edits.maker(halves.input[1], "Split")
        return (
            split is not None
            and list(split.output) == [halves.input[1], negated.input[0]]
            and split.input[0] == rest.output[0]
            and attribute(halves, "axis") in (-1, 3)
            and attribute(split, "axis") in (-1, 3)
        )

    def _turn(self, cos: str, sin: str, prefix: int, tokens: str) -> tuple[str, str, str] | None:
        """Cosines and sines [P + places, d/2], of which the first P turn by nothing, and the row of
        each token, int64 [B, L]; None where they are no function of the place."""
        key = cos, sin, prefix
        if key not in self._rotations:
            self._rotations[key] = self._make_turn(cos, sin, prefix, tokens)
        return self._rotations[key]

    def _make_turn(
        self, cos: str, sin: str, prefix: int, tokens: str
    ) -> tuple[str, str, str] | None:
        edits = self._edits
        tables = [self._table(name) for name in (cos, sin)]
        if (cos in self._tables) != (sin in self._tables):
            return None
        caches = []
        for table, still in zip(tables, (1.0, 0.0), strict=True):
            if table is None:
                return None
            half = table.shape[1] // 2
            if not np.array_equal(table[:, :half], table[:, half:]):
                return None
            # As many as tokens without a place: a run may have no more tokens than there are rows.
            unturned = np.full((prefix, half), still, np.float32)
            caches.append(edits.constant(np.concatenate([unturned, table[:, :half]])))
            places = len(table)
        batch = edits.add("Shape", [tokens], start=0, end=1)
        shape = edits.add("Concat", [batch, edits.constant([1])], axis=0)
        looked_up = cos in self._tables
        first = np.arange(prefix if looked_up else prefix + places)
        rows = edits.add("Expand", [edits.constant(first[None]), shape])
        if looked_up:
            behind = edits.add("Add", [POSITIONS, edits.constant(np.array(prefix, np.int64))])
            rows = edits.add("Concat", [rows, behind], axis=1)
        return caches[0], caches[1], rows

    def _table(self, name: str) -> NDArray[np.float32] | None:
        """[places, d] of what is looked up by place, or the same for every row of a run."""
        if name in self._tables:
            return self._tables[name]
        widened = self._edits.maker(name, "Unsqueeze")
        fixed = self._edits.floats(name if widened is None else widened.input[0])
        if fixed is None or fixed.ndim < 3 or set(fixed.shape[:-2]) != {1}:
            return None
        return fixed.reshape(fixed.shape[-2:])

    def _sizes(self, name: str) -> list[int | None] | None:
        """A shape, as far as it is constant."""
        if (known := self._edits.integers(name)) is not None:
            return list(known)
        made = self._edits.maker(name, "Concat")
        if made is None:
            return None
        sizes: list[int | None] = []
        for part in made.input:
            size = self._edits.integers(part)
            sizes += [None] if size is None else size
        return sizes
