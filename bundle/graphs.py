"""Hold a bundle's two graphs against its manifest, without running them.

A graph states its inputs and outputs, and those must be the contract's. It must also be complete:
onnxruntime opens whatever file a tensor names, so that a tensor may name nothing but the bundle's
own file of weights, and no bytes that this file does not have.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar

import onnx
from google.protobuf.message import DecodeError, Message

from bundle.errors import BundleError
from bundle.schema import (
    EXTRACTOR_FILE,
    MANIFEST_FILE,
    SELECTOR_FILE,
    WEIGHTS_FILES,
    Geometry,
    Manifest,
)
from bundle.weights import VALUE_BYTES

# A shape's entry is a fixed size, or None where the contract wants it dynamic.
_Shape: TypeAlias = tuple[int | None, ...]
_Values: TypeAlias = dict[str, tuple[int, _Shape]]

_UINT8, _INT64, _FLOAT = onnx.TensorProto.UINT8, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT

# More digits than any offset has; Python refuses to read numbers of thousands of them.
_MOST_DIGITS = 18


def verify_graphs(
    manifest: Manifest,
    selector: bytes,
    extractor: bytes,
    weights: Mapping[str, int] | None = None,
) -> None:
    """Check both graphs against the manifest's geometry and labels, without running them.

    Args:
        manifest: the bundle's.
        selector, extractor: the graphs.
        weights: sizes in bytes of the files of weights that there are, by their names.

    Raises:
        BundleError: not ONNX, external data other than the bundle's own, or inputs and outputs
            other than the contract's.
    """
    sizes = weights or {}
    for name, content, inputs, outputs in (
        (SELECTOR_FILE, selector, _selector_inputs(manifest), _selector_outputs(manifest.geometry)),
        (
            EXTRACTOR_FILE,
            extractor,
            _extractor_inputs(manifest.geometry),
            _extractor_outputs(manifest.geometry, len(manifest.labels)),
        ),
    ):
        model = _parse_graph(name, content)
        _check_external_data(name, model, WEIGHTS_FILES[name], sizes.get(WEIGHTS_FILES[name]))
        _check_values(name, "input", model.graph.input, inputs)
        _check_values(name, "output", model.graph.output, outputs)


def _parse_graph(name: str, content: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise BundleError(name, "is not an ONNX model") from None
    if not model.graph.node:
        raise BundleError(name, "is not an ONNX model: it has no graph")
    for node in _messages(model, onnx.NodeProto):
        if node.op_type == "EPContext":
            raise BundleError(name, "has an EPContext node, which may load code from another file")
    return model


def _check_external_data(
    name: str, model: onnx.ModelProto, weights: str, weights_bytes: int | None
) -> None:
    """Whether what the graph keeps outside itself lies in its own file of weights, all of it.

    Only the graph's own initializers may: onnxruntime is given the file's content for those.

    Args:
        name: the graph's file.
        weights, weights_bytes: its file of weights and that one's size; None if there is none.
    """
    for tensor in _tensors_elsewhere(model):
        if _is_external(tensor):
            raise BundleError(
                name,
                f"keeps {tensor.name!r} in another file, and is not the graph's own initializer",
            )
    taken: list[tuple[int, int, str]] = []
    for tensor in model.graph.initializer:
        if not _is_external(tensor):
            continue
        if weights_bytes is None:
            raise BundleError(
                name,
                f"keeps {tensor.name!r} in another file; {MANIFEST_FILE} names no {weights}, and "
                "a bundle holds no other external data",
            )
        offset, length = _place(name, tensor, weights)
        if offset + length > weights_bytes:
            raise BundleError(
                name,
                f"keeps {tensor.name!r} at bytes {offset} to {offset + length} of {weights}, which "
                f"has {weights_bytes}",
            )
        taken.append((offset, offset + length, tensor.name))
    if weights_bytes is not None and not taken:
        raise BundleError(weights, f"is of no use: {name} keeps nothing in it")
    taken.sort()
    for (_, end, one), (begin, _, other) in itertools.pairwise(taken):
        if begin < end:
            raise BundleError(name, f"keeps {one!r} and {other!r} in the same bytes of {weights}")


def _is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def _place(name: str, tensor: onnx.TensorProto, weights: str) -> tuple[int, int]:
    """Offset and length in bytes of a tensor in the file of weights."""
    told = {str(entry.key): str(entry.value) for entry in tensor.external_data}
    if told.get("location") != weights:
        raise BundleError(
            name,
            f"keeps {tensor.name!r} in another file than {weights}; a bundle holds no other "
            "external data",
        )
    if set(told) != {"location", "offset", "length"} or len(tensor.external_data) != len(told):
        raise BundleError(
            name,
            f"must say of {tensor.name!r} its location, offset and length in {weights}, each once "
            f"and nothing else; it says {sorted(told)}",
        )
    numbers = [told["offset"], told["length"]]
    if not all(text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS for text in numbers):
        raise BundleError(
            name,
            f"must say of {tensor.name!r} its offset and length as whole numbers of bytes, got "
            f"{numbers[0][:40]!r} and {numbers[1][:40]!r}",
        )
    offset, length = map(int, numbers)
    value_bytes = VALUE_BYTES.get(tensor.data_type)  # type: ignore[call-overload]
    if value_bytes is None:
        raise BundleError(
            name, f"keeps {tensor.name!r} in {weights}, which holds no values of its type"
        )
    needed = math.prod(tensor.dims) * value_bytes
    if length != needed or min(tensor.dims, default=1) < 1:
        raise BundleError(
            name,
            f"says that {tensor.name!r} of shape {list(tensor.dims)} has {length} bytes in "
            f"{weights}; it must have {needed}",
        )
    return offset, length


_Found = TypeVar("_Found", bound=Message)


def _messages(message: Message, kind: type[_Found]) -> Iterator[_Found]:
    """Every message of a kind anywhere in a model: in attributes, subgraphs and functions too."""
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            yield from _messages(part, kind)


def _tensors_elsewhere(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model but its graph's own initializers."""
    for outer, whole in ((model, "graph"), (model.graph, "initializer")):
        for field, value in outer.ListFields():
            if field.name == whole or field.message_type is None:
                continue
            for part in value if field.is_repeated else (value,):
                yield from _messages(part, onnx.TensorProto)


def _selector_inputs(manifest: Manifest) -> _Values:
    return {"clip_small": (_UINT8, (None, *manifest.selector.downscale.shape(manifest.geometry)))}


def _selector_outputs(geometry: Geometry) -> _Values:
    return {"scores": (_FLOAT, (None, geometry.tokens)), **_context(geometry)}


def _extractor_inputs(geometry: Geometry) -> _Values:
    return {
        "patches": (_UINT8, (None, None, geometry.patch_bytes)),
        "positions": (_INT64, (None, None)),
        "lengths": (_INT64, (None,)),
        **_context(geometry),
    }


def _extractor_outputs(geometry: Geometry, classes: int) -> _Values:
    outputs: _Values = {
        "logits": (_FLOAT, (None, classes)),
        "video": (_FLOAT, (None, geometry.video)),
    }
    if geometry.frame_tokens:
        outputs["frames"] = (_FLOAT, (None, geometry.frame_tokens, geometry.video))
    return outputs


def _context(geometry: Geometry) -> _Values:
    """The context output or input, where the bundle has a context."""
    if not geometry.context:
        return {}
    return {"context": (_FLOAT, (None, geometry.context, geometry.width))}


def _check_values(
    file: str, kind: str, found: Iterable[onnx.ValueInfoProto], expected: _Values
) -> None:
    # A name that is not UTF-8 comes as bytes, which cannot be sorted among the others.
    by_name = {str(value.name): value.type.tensor_type for value in found}
    if set(by_name) != set(expected):
        raise BundleError(file, f"its {kind}s are {sorted(by_name)}, must be {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        tensor = by_name[name]
        if tensor.elem_type != dtype:
            types = {number: text for text, number in onnx.TensorProto.DataType.items()}
            got = types.get(tensor.elem_type, f"of the unknown type {tensor.elem_type}")
            raise BundleError(file, f"{kind} {name} is {got}, must be {types[dtype]}")
        actual = tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
        )
        # An output may have lost a size to shape inference; an input states every one of them.
        fits = len(actual) == len(shape) and all(
            have == want or (kind == "output" and have is None)
            for have, want in zip(actual, shape, strict=True)
        )
        if not fits:
            raise BundleError(
                file,
                f"{kind} {name} has shape {_show(actual)}, the manifest's geometry needs "
                f"{_show(shape)}",
            )


def _show(shape: _Shape) -> str:
    return "[" + ", ".join("dynamic" if size is None else str(size) for size in shape) + "]"
