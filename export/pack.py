"""Write a bundle directory: graphs, manifest, and nothing else."""

import hashlib
import importlib.metadata
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import torch

from bundle.answers import AnswerFacts
from bundle.reader import BundleError, read_bundle
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
from model.macs import Cost, cost
from model.writing import whole_file


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
    temperature: float = 1.0,
) -> Manifest:
    """Everything a service must know, from the configuration and the graphs' bytes.

    Args:
        framing: what the network was trained to see of the picture.
        temperature: that logits are divided by.
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
        answer=AnswerFacts(temperature=temperature),
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


def _write(path: Path, content: bytes | Path) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copyfile(content, path)


def write_bundle(
    out: Path,
    manifest: Manifest,
    selector: bytes,
    extractor: bytes,
    weights: Mapping[str, bytes | Path] | None = None,
) -> None:
    """Write the files, read them back through the reader, then put them in place.

    An existing bundle at ``out`` is replaced only when the new one is whole.

    Args:
        out: the bundle's directory.
        manifest: names all files with their digests.
        selector, extractor: the graphs.
        weights: what graphs keep outside themselves, or a file with it, by the name in the bundle
            (:data:`bundle.schema.WEIGHTS_FILES`).

    Raises:
        FileExistsError: ``out`` holds something that is not a bundle.
        BundleError: the reader refuses what was written.
    """
    out = Path(out)
    ours = {MANIFEST_FILE, *GRAPH_FILES, *WEIGHTS_FILES.values()}
    if out.exists() and not (out.is_dir() and {entry.name for entry in out.iterdir()} <= ours):
        raise FileExistsError(f"{out} holds something other than a bundle; choose another path")
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.parent / f".{out.name}-{secrets.token_hex(8)}"
    fresh.mkdir()
    try:
        contents: dict[str, bytes | Path]
        contents = {SELECTOR_FILE: selector, EXTRACTOR_FILE: extractor, **(weights or {})}
        for name, content in contents.items():
            _write(fresh / name, content)
        (fresh / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
        read_bundle(fresh)
        if out.exists():
            shutil.rmtree(out)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def replace_manifest(out: Path, manifest: Manifest) -> None:
    """Let a bundle say something else of the same files, such as its measured accuracy.

    Raises:
        BundleError: the reader refuses it; the directory is then what it was.
    """
    path = Path(out) / MANIFEST_FILE
    before = path.read_bytes()
    with whole_file(path) as part:
        part.write_text(manifest.model_dump_json(indent=2) + "\n")
    try:
        read_bundle(out)
    except BundleError:
        path.write_bytes(before)
        raise
