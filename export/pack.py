"""Write a bundle directory: graphs, manifest, and nothing else."""

import hashlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from bundle.reader import read_bundle
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
from model.macs import cost


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
) -> Manifest:
    """Everything a service must know, from the configuration and the graphs' bytes."""
    price = cost(config)
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
        sampling=Sampling(short_side=config.size, default_views=DEFAULT_VIEWS),
        normalisation=Normalisation(mean=list(IMAGENET_MEAN), std=list(IMAGENET_STD)),
        sparsity=SparsityRange(
            lowest=config.lowest_sparsity,
            highest=config.highest_sparsity,
            default=default_sparsity,
        ),
        macs=Macs(
            selector=price.selector,
            extractor_fixed=price.fixed,
            extractor_per_token=price.per_token,
            extractor_per_token_pair=price.per_token_pair,
        ),
        accuracy=accuracy,
        provenance=provenance,
        files=file_digests({SELECTOR_FILE: selector, EXTRACTOR_FILE: extractor}),
    )


def file_digests(files: Mapping[str, bytes]) -> dict[str, FileDigest]:
    """The manifest's ``files``, from their contents."""
    return {
        name: FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        for name, content in files.items()
    }


def write_bundle(
    out: Path,
    manifest: Manifest,
    selector: bytes,
    extractor: bytes,
    weights: Mapping[str, bytes] | None = None,
) -> None:
    """Write the files, read them back through the reader, then put them in place.

    An existing bundle at ``out`` is replaced only when the new one is whole.

    Args:
        out: the bundle's directory.
        manifest: names all files with their digests.
        selector, extractor: the graphs.
        weights: what graphs keep outside themselves, by the name of the file
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
        contents = {SELECTOR_FILE: selector, EXTRACTOR_FILE: extractor, **(weights or {})}
        for name, content in contents.items():
            (fresh / name).write_bytes(content)
        (fresh / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
        read_bundle(fresh)
        if out.exists():
            shutil.rmtree(out)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
