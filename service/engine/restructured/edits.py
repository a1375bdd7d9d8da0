"""A graph that is being rearranged: who makes and who reads each value."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Node = onnx.NodeProto


class Edits:
    """Adds nodes to a graph and lets values take the place of others.

    Attributes:
        nodes: all of them, in no particular order; those that nobody reads go in the end.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[Node] = []
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._given = {value.name for value in model.graph.input}
        self._asked = [value.name for value in model.graph.output]
        self._maker: dict[str, Node] = {}
        self._readers: defaultdict[str, list[Node]] = defaultdict(list)
        for node in model.graph.node:
            self._take(node)
        self._made: list[onnx.TensorProto] = []
        self._count = 0

    def maker(self, name: str, *operators: str) -> Node | None:
        """The node that makes a value, if it is of one of these operators; of any by default."""
        node = self._maker.get(name)
        if node is None or (operators and node.op_type not in operators):
            return None
        return node

    def readers(self, name: str) -> list[Node]:
        """Nodes that read a value."""
        return list(self._readers[name])

    def only_reader(self, name: str, *operators: str) -> Node | None:
        """The only node that reads a value, if it is of one of these operators."""
        readers = self._readers[name]
        if len(readers) != 1 or name in self._asked:
            return None
        return self.maker(readers[0].output[0], *operators)

    def value(self, name: str) -> NDArray[Any] | None:
        """A constant that the graph itself holds; None for anything else."""
        tensor = self._constants.get(name)
        if tensor is None or tensor.external_data or name in self._given:
            return None
        return numpy_helper.to_array(tensor)

    def floats(self, name: str) -> NDArray[np.float32] | None:
        """As :meth:`value`, of float32 alone."""
        found = self.value(name)
        return None if found is None or found.dtype != np.float32 else found

    def integers(self, name: str) -> list[int] | None:
        """As :meth:`value`, of a list of integers."""
        found = self.value(name)
        return None if found is None or found.dtype != np.int64 else found.reshape(-1).tolist()

    def constant(self, values: NDArray[Any] | list[int] | int) -> str:
        """A new constant; numbers become int64."""
        array = values if isinstance(values, np.ndarray) else np.array(values, np.int64)
        name = self._name("constant")
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        self._constants[name] = tensor
        self._made.append(tensor)
        return name

    def add(self, operator: str, inputs: Iterable[str], **attributes: Any) -> str:
        """A new node with one output; gives its name."""
        return self.add_many(operator, inputs, 1, **attributes)[0]

    def add_many(
        self, operator: str, inputs: Iterable[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """A new node; gives the names of its outputs."""
        names = [self._name(operator.lower()) for _ in range(outputs)]
        node = helper.make_node(operator, list(inputs), names, **attributes)
        self._take(node)
        return names

    def replace(self, old: str, new: str) -> None:
        """Let everything that reads a value read another one."""
        for node in self._readers.pop(old, []):
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new
            self._readers[new].append(node)
        if old in self._asked:
            # The graph's outputs keep their names.
            maker = self._maker.pop(old)
            maker.output[list(maker.output).index(old)] = self._name("unused")
            self._take(helper.make_node("Identity", [new], [old]))

    def finish(self) -> onnx.ModelProto:
        """The model without what nobody reads, in an order in which it can run."""
        graph = self.model.graph
        kept = [_copy(node) for node in self._ordered()]
        read = {name for node in kept for name in _reads(node)} | set(self._asked)
        # They may speak of values that are no more, or of another shape.
        del graph.value_info[:], graph.node[:]
        graph.node.extend(kept)
        for index in reversed(range(len(graph.initializer))):
            if graph.initializer[index].name not in read:
                del graph.initializer[index]
        graph.initializer.extend(tensor for tensor in self._made if tensor.name in read)
        return self.model

    def _take(self, node: Node) -> None:
        self.nodes.append(node)
        for name in node.output:
            self._maker[name] = node
        for name in {name for name in node.input if name}:
            self._readers[name].append(node)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"restructured_{kind}_{self._count}"

    def _ordered(self) -> Iterator[Node]:
        """What the outputs need, each after what it needs itself."""
        done: set[int] = set()
        asked = (self._maker.get(name) for name in reversed(self._asked))
        waiting = [(node, False) for node in asked if node is not None]
        while waiting:
            node, ready = waiting.pop()
            if id(node) in done:
                continue
            if ready:
                done.add(id(node))
                yield node
                continue
            waiting.append((node, True))
            makers = (self._maker.get(name) for name in reversed(_reads(node)))
            waiting += [(maker, False) for maker in makers if maker is not None]


def _reads(node: Node) -> list[str]:
    return [name for name in node.input if name]


def _copy(node: Node) -> Node:
    copied = Node()
    copied.CopyFrom(node)
    return copied


def attribute(node: Node, name: str, default: Any = None) -> Any:
    """What an attribute of a node says."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default
