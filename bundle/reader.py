"""Read a bundle: verify everything first, load nothing that was not verified.

The files are read once. The bytes that were hashed are the bytes that sessions are built from, so
that nothing can be swapped between the check and the use.
"""

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bundle.errors import BundleError as BundleError
from bundle.graphs import verify_graphs
from bundle.half_precision import widened
from bundle.schema import (
    EXTRACTOR_FILE,
    EXTRACTOR_WEIGHTS_FILE,
    GRAPH_FILES,
    MANIFEST_FILE,
    SELECTOR_FILE,
    SELECTOR_WEIGHTS_FILE,
    WEIGHTS_FILES,
    Manifest,
)

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
# Protobuf, and with it ONNX without external data, ends at 2 GiB.
MAX_GRAPH_BYTES = 2 * 1024**3 - 1
# What a graph keeps outside itself: our choice, several times the largest published network.
MAX_WEIGHTS_BYTES = 64 * 1024**3


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: what it says of itself, and the bytes of its two graphs.

    Attributes:
        selector, extractor: the graphs, as ONNX; weights that the files hold in half precision
            are float32 here.
        selector_weights, extractor_weights: what the graph keeps outside itself, at the offsets
            that it names; None for a graph that is whole.
    """

    manifest: Manifest
    selector: bytes
    extractor: bytes
    path: Path
    selector_weights: bytes | None = None
    extractor_weights: bytes | None = None


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
    _check_file_set(path, set(manifest.files))
    contents: dict[str, bytes] = {}
    for name, digest in manifest.files.items():
        most = MAX_GRAPH_BYTES if name in GRAPH_FILES else MAX_WEIGHTS_BYTES
        content = _read(path, name, min(digest.bytes, most))
        if len(content) != digest.bytes:
            raise BundleError(
                name, f"has {len(content)} bytes, {MANIFEST_FILE} says {digest.bytes}"
            )
        actual = hashlib.sha256(content).hexdigest()
        if actual != digest.sha256:
            raise BundleError(
                name, f"was altered: its SHA-256 is {actual}, {MANIFEST_FILE} says {digest.sha256}"
            )
        contents[name] = content
    selector, extractor = contents[SELECTOR_FILE], contents[EXTRACTOR_FILE]
    weights = {name: len(contents[name]) for name in WEIGHTS_FILES.values() if name in contents}
    verify_graphs(manifest, selector, extractor, weights)
    return Bundle(
        manifest,
        widened(selector),
        widened(extractor),
        path,
        contents.get(SELECTOR_WEIGHTS_FILE),
        contents.get(EXTRACTOR_WEIGHTS_FILE),
    )


def _check_file_set(path: Path, named: set[str] | None = None) -> None:
    """Whether the directory holds a bundle's files and no others.

    Args:
        named: the files that the manifest names; None before it was read, when it may still name
            files of weights.
    """
    expected = {MANIFEST_FILE, *(GRAPH_FILES if named is None else named)}
    allowed = expected | (set(WEIGHTS_FILES.values()) if named is None else set())
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
    for name in sorted(found - allowed):
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
