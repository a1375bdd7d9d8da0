"""Write a bundle directory: graphs, manifest, and nothing else."""

import errno
import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import onnxruntime
import torch

from bundle.answers import AnswerFacts
from bundle.reader import read_bundle
from bundle.sampling import Framing
from bundle.schema import (
    EXTRACTOR_FILE,
    GRAPH_FILES,
    MANIFEST_FILE,
    SCHEMA_VERSION,
    SELECTOR_FILE,
    WEIGHTS_FILES,
    AccuracyPoint,
    FileDigest,
    Geometry,
    Macs,
    Manifest,
    Normalisation,
    Provenance,
    Sampling,
    SparsityRange,
)
from export.accuracy import DEFAULT_VIEWS
from model.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from model.folders import own_folder, put_in_place
from model.macs import Cost, cost
from model.writing import named

_COPIED_BYTES = 1 << 24


class PlaceTaken(Exception):
    """No bundle can be written there; the text says what is there."""


def manifest_for(
    config: ModelConfig,
    selector: bytes,
    extractor: bytes,
    *,
    name: str,
    version: str,
    default_sparsity: float,
    accuracy: list[AccuracyPoint],
    provenance: Provenance,
    framing: Framing = "crop",
    answer: AnswerFacts | None = None,
) -> Manifest:
    """Everything a service must know, from the configuration and the graphs' bytes.

    Args:
        framing: what the network was trained to see of the picture.
        answer: what logits mean; None for a softmax of them as they are.
    """
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        version=version,
        labels=list(config.labels),
        geometry=Geometry(
            frames=config.frames,
            size=config.size,
            patch=config.patch,
            context=config.context,
            width=config.width,
        ),
        sampling=Sampling(short_side=config.size, framing=framing, default_views=DEFAULT_VIEWS),
        answer=answer or AnswerFacts(),
        normalisation=Normalisation(mean=list(IMAGENET_MEAN), std=list(IMAGENET_STD)),
        sparsity=SparsityRange(
            lowest=config.lowest_sparsity,
            highest=config.highest_sparsity,
            default=default_sparsity,
        ),
        macs=macs_of(cost(config)),
        accuracy=accuracy,
        provenance=provenance,
        files=file_digests({SELECTOR_FILE: selector, EXTRACTOR_FILE: extractor}),
    )


def macs_of(price: Cost, selector: int | None = None) -> Macs:
    """The manifest's ``macs``; ``selector`` in place of the price's own, where it is apart."""
    return Macs(
        selector=price.selector if selector is None else selector,
        extractor_fixed=price.fixed,
        extractor_per_token=price.per_token,
        extractor_per_token_pair=price.per_token_pair,
    )


def exported_with() -> str:
    """The versions of what makes graphs and checks them."""
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    return f"{versions}, onnxscript {importlib.metadata.version('onnxscript')}"


def file_digests(files: Mapping[str, bytes | Path]) -> dict[str, FileDigest]:
    """The manifest's ``files``, from their contents; those too large to hold are given by path."""
    return {name: _digest(content) for name, content in files.items()}


def _digest(content: bytes | Path) -> FileDigest:
    if isinstance(content, bytes):
        return FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    with content.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileDigest(sha256=sha256, bytes=content.stat().st_size)


def bundle_place(out: Path) -> Path:
    """Where a bundle that is written to ``out`` will lie: links are followed.

    To be asked before work begins that takes minutes; :func:`write_bundle` asks once more.

    Raises:
        PlaceTaken: something that is not a bundle is there, or a file system begins there.
        OSError: the folder around it cannot be written to.
    """
    place = Path(os.path.realpath(out))
    if place.is_dir():
        ours = {MANIFEST_FILE, *GRAPH_FILES, *WEIGHTS_FILES.values()}
        if foreign := sorted({entry.name for entry in place.iterdir()} - ours):
            raise PlaceTaken(
                f"{out} holds something other than a bundle ({foreign[0]}); choose another path"
            )
        if os.path.ismount(place):
            raise PlaceTaken(
                f"{out} is where a file system begins, and a bundle takes its place as a whole "
                f"folder; choose a path below it, such as {out / 'bundle'}"
            )
        if place.samefile(os.curdir):
            raise PlaceTaken(
                f"{out} is the working directory, and a bundle takes its place as a whole folder; "
                "choose a path below it, or another one"
            )
    elif place.is_symlink() or place.exists():
        what = "a link to itself" if place.is_symlink() else "a file"
        raise PlaceTaken(f"{out} is {what}; choose another path")
    around = next(folder for folder in place.parents if folder.exists())
    if not around.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(around))
    if not os.access(around, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(around))
    return place


def write_bundle(
    out: Path,
    manifest: Manifest,
    selector: bytes,
    extractor: bytes,
    weights: Mapping[str, bytes | Path] | None = None,
) -> None:
    """Write the files, read them back through the reader, then put them in place.

    An existing bundle at ``out`` is replaced only when the new one is whole, and in one step: a
    process that is killed leaves one or the other.

    Args:
        out: the bundle's directory.
        manifest: names all files with their digests.
        selector, extractor: the graphs.
        weights: what graphs keep outside themselves, or a file with it, by the name in the bundle
            (:data:`bundle.schema.WEIGHTS_FILES`).

    Raises:
        PlaceTaken: ``out`` holds something that is not a bundle.
        BundleError: the reader refuses what was written.
        OSError: a file cannot be written.
    """
    contents: dict[str, bytes | Path]
    contents = {SELECTOR_FILE: selector, EXTRACTOR_FILE: extractor, **(weights or {})}

    def fill(fresh: Path) -> None:
        for name, content in contents.items():
            _write(fresh / name, content)

    _put(out, manifest, fill)


def replace_manifest(out: Path, manifest: Manifest, source: Path | None = None) -> None:
    """Let a bundle say something else of the same files, such as its measured accuracy.

    Args:
        source: the bundle whose files are meant, where that is another than ``out``: they are
            copied.

    Raises:
        PlaceTaken: ``out`` holds something that is not a bundle.
        BundleError: the reader refuses it; the directory is then what it was.
        OSError: it cannot be written; likewise.
    """
    old, place = Path(os.path.realpath(source or out)), bundle_place(out)

    def fill(fresh: Path) -> None:
        for name in manifest.files:
            if old == place:
                _link(old / name, fresh / name)
            else:
                _write(fresh / name, old / name)

    _put(out, manifest, fill)


def _put(out: Path, manifest: Manifest, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside ``out`` with a bundle's files, and let it take the name once it is read.

    Args:
        fill: writes all files but the manifest into the folder that it is given.
    """
    place = bundle_place(out)
    place.parent.mkdir(parents=True, exist_ok=True)
    with own_folder(place.parent, f".{place.name}-") as fresh:
        fill(fresh)
        _write(fresh / MANIFEST_FILE, f"{manifest.model_dump_json(indent=2)}\n".encode())
        read_bundle(fresh)
        put_in_place(fresh, bundle_place(out))


def _write(path: Path, content: bytes | Path) -> None:
    try:
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with content.open("rb") as source, path.open("xb") as into:
                shutil.copyfileobj(source, into, _COPIED_BYTES)
    except OSError as error:
        raise named(error, path) from None


def _link(source: Path, path: Path) -> None:
    """A second name of a file; a copy where the file system has none."""
    try:
        path.hardlink_to(source)
    except OSError:
        _write(path, source)
