"""Read a bundle: verify everything first, load nothing that was not verified.

The files are read once. The bytes that were hashed are the bytes that sessions are built from, so
that nothing can be swapped between the check and the use.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import onnx
from google.protobuf.message import DecodeError, Message
from pydantic import ValidationError

from bundle.schema import EXTRACTOR_FILE, MANIFEST_FILE, SELECTOR_FILE, Geometry, Manifest

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
# Protobuf, and with it ONNX without external data, ends at 2 GiB.
MAX_GRAPH_BYTES = 2 * 1024**3 - 1


class BundleError(Exception):
    """A bundle that must not be loaded.

    Attributes:
        file: the file at fault, or None when it is the directory itself.
        reason: what is wrong with it, and where it helps, what would be right.
    """

    def __init__(self, file: str | None, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(reason if file is None else f"{file}: {reason}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: what it says of itself, and the bytes of its two graphs."""

    manifest: Manifest
    selector: bytes
    extractor: bytes
    path: Path


def default_bundle_path() -> Path:
    """The bundle that comes with the package."""
    return Path(__file__).parent / "default"


def read_bundle(path: Path) -> Bundle:
    """Read and verify the bundle in the directory ``path``.

    Raises:
        BundleError: a file is missing, extra, altered, too large or not a regular file; the
            manifest does not follow the schema; a graph does not fit the geometry, or would read
            data from outside itself.
    """
    path = Path(path)
    _check_file_set(path)
    manifest = _parse_manifest(_read(path, MANIFEST_FILE, MAX_MANIFEST_BYTES))
    graphs: dict[str, bytes] = {}
    for name, digest in manifest.files.items():
        content = _read(path, name, min(digest.bytes, MAX_GRAPH_BYTES))
        if len(content) != digest.bytes:
            raise BundleError(
                name, f"has {len(content)} bytes, {MANIFEST_FILE} says {digest.bytes}"
            )
        actual = hashlib.sha256(content).hexdigest()
        if actual != digest.sha256:
            raise BundleError(
                name, f"was altered: its SHA-256 is {actual}, {MANIFEST_FILE} says {digest.sha256}"
            )
        graphs[name] = content
    verify_graphs(manifest, graphs[SELECTOR_FILE], graphs[EXTRACTOR_FILE])
    return Bundle(manifest, graphs[SELECTOR_FILE], graphs[EXTRACTOR_FILE], path)


def verify_graphs(manifest: Manifest, selector: bytes, extractor: bytes) -> None:
    """Check both graphs against the manifest's geometry and labels, without running them.

    Raises:
        BundleError: not ONNX, external data, or inputs and outputs other than the contract's.
    """
    geometry, classes = manifest.geometry, len(manifest.labels)
    for name, content, inputs, outputs in (
        (SELECTOR_FILE, selector, _selector_inputs(geometry), _selector_outputs(geometry)),
        (
            EXTRACTOR_FILE,
            extractor,
            _extractor_inputs(geometry),
            _extractor_outputs(geometry, classes),
        ),
    ):
        graph = _parse_graph(name, content)
        _check_values(name, "input", graph.input, inputs)
        _check_values(name, "output", graph.output, outputs)


def _check_file_set(path: Path) -> None:
    expected = {MANIFEST_FILE, SELECTOR_FILE, EXTRACTOR_FILE}
    try:
        with os.scandir(path) as entries:
            found = {entry.name for entry in entries}
    except FileNotFoundError:
        raise BundleError(None, f"there is no directory {path}") from None
    except NotADirectoryError:
        raise BundleError(None, f"{path} is not a directory") from None
    except PermissionError:
        raise BundleError(None, f"{path} may not be read by this user") from None
    for name in sorted(expected - found):
        raise BundleError(name, f"is missing from {path}")
    for name in sorted(found - expected):
        raise BundleError(
            name, f"does not belong in a bundle, which is exactly {', '.join(sorted(expected))}"
        )


def _read(path: Path, name: str, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes; never through a symbolic link."""
    try:
        descriptor = os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BundleError(name, f"cannot be opened as a regular file ({error.strerror})") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BundleError(name, "is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > limit:
            raise BundleError(name, f"has {status.st_size} bytes, the limit is {limit}")
        # The size is checked once more on what was read: the file may grow in between.
        content = file.read(limit + 1)
    if len(content) > limit:
        raise BundleError(name, f"has more than the allowed {limit} bytes")
    return content


def _refuse_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} is there twice")
    return dict(pairs)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _parse_manifest(content: bytes) -> Manifest:
    # Parsers differ in which of two equal names they take: what a person or another tool reads in
    # a manifest must be what counts here.
    try:
        json.loads(content, object_pairs_hook=_refuse_repetitions, parse_constant=_refuse_constant)
    except RecursionError:
        raise BundleError(MANIFEST_FILE, "is nested too deeply") from None
    except ValueError as error:
        raise BundleError(MANIFEST_FILE, f"is not a JSON document: {error}") from None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BundleError(MANIFEST_FILE, f"{where}: {first['msg']}{more}") from None


def _parse_graph(name: str, content: bytes) -> onnx.GraphProto:
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
    for tensor in _messages(model, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise BundleError(
                name,
                f"keeps {tensor.name!r} in another file; a bundle holds no external data",
            )
    return model.graph


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


# A shape's entry is a fixed size, or None where the contract wants it dynamic.
_Shape: TypeAlias = tuple[int | None, ...]
_Values: TypeAlias = dict[str, tuple[int, _Shape]]

_UINT8, _INT64, _FLOAT = onnx.TensorProto.UINT8, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT


def _selector_inputs(geometry: Geometry) -> _Values:
    half = geometry.size // 2
    return {"clip_small": (_UINT8, (None, geometry.frames // 2, half, half, 3))}


def _selector_outputs(geometry: Geometry) -> _Values:
    return {
        "scores": (_FLOAT, (None, geometry.tokens)),
        "context": (_FLOAT, (None, geometry.context, geometry.width)),
    }


def _extractor_inputs(geometry: Geometry) -> _Values:
    return {
        "patches": (_UINT8, (None, None, geometry.patch_bytes)),
        "positions": (_INT64, (None, None)),
        "lengths": (_INT64, (None,)),
        "context": (_FLOAT, (None, geometry.context, geometry.width)),
    }


def _extractor_outputs(geometry: Geometry, classes: int) -> _Values:
    return {
        "logits": (_FLOAT, (None, classes)),
        "video": (_FLOAT, (None, geometry.width)),
    }


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
