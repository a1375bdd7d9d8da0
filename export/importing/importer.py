"""From a checkpoint's files to its network: recognised, listed, read."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bundle.schema import Licence, WeightsSource
from export.importing.errors import ImportRefused
from export.importing.licences import licence_of
from export.importing.preprocessing import apply_preprocessor
from export.importing.sources import FoundCheckpoint
from export.importing.weights import Weights
from model.checkpoint import CheckpointError
from networks.checkpoint import network_of
from networks.checkpoints import (
    KeyRow,
    Recognised,
    is_lookwhen,
    list_lookwhen,
    recognise,
)
from networks.config import Architecture, NetworkConfig
from networks.labels import CLASS_LISTS, class_list
from networks.network import VideoNetwork


def recognise_weights(
    found: FoundCheckpoint,
    weights: Weights,
    *,
    frames: int | None = None,
    size: int | None = None,
) -> Recognised:
    """Find a checkpoint's format and network by the names and shapes of its tensors.

    Args:
        frames, size: of a view, in place of the checkpoint's own or the published ones.

    Raises:
        ImportRefused: no format that is known here, or shapes that no network has.
    """

    def recognised(shapes: Mapping[str, tuple[int, ...]]) -> Recognised:
        return recognise(shapes, found.config, found.preprocessor, frames=frames, size=size)

    if weights.beside:
        _check_names(found, weights, recognised)
    try:
        return recognised(weights.shapes)
    except CheckpointError as error:
        more = ""
        if weights.beside:
            names = ", ".join(list(weights.beside)[:3])
            more = f"; only what lies under `{weights.wrapper}` was looked at, not {names}"
            more += ", ..." if len(weights.beside) > 3 else ""
        raise ImportRefused(f"{found.file}: {error}{more}") from None


def _check_names(
    found: FoundCheckpoint,
    weights: Weights,
    recognised: Callable[[Mapping[str, tuple[int, ...]]], Recognised],
) -> None:
    """Hold what lies beside the weights against the network that both would be together.

    Raises:
        ImportRefused: some of it would be a part of the network, which would lack it.
    """
    try:
        together = recognised({**weights.beside, **weights.shapes})
    except CheckpointError:
        return
    parts = [row.key for row in together.rows if row.becomes and row.key in weights.beside]
    if parts:
        more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
        raise ImportRefused(
            f"{found.file}: {parts[0]}{more} would be a part of the network, and the rest of it "
            f"lies under `{weights.wrapper}`: save it with the same beginning of all names"
        )


def read_network(
    found: FoundCheckpoint, weights: Weights, recognised: Recognised, labels: str | None
) -> VideoNetwork:
    """Read a recognised checkpoint's weights into its network, in ``eval`` mode.

    Args:
        found: its files.
        weights: their tensors.
        recognised: their network.
        labels: a published list, or a file with one name a row; None takes the checkpoint's own.

    Raises:
        ImportRefused: a key is missing, unknown or of another shape, a value is not finite, or the
            head has another number of rows than there are labels.
    """
    config = apply_preprocessor(recognised.config, found.preprocessor)
    if labels is not None:
        config = dataclasses.replace(config, labels=_labels(labels, config))
    try:
        return network_of(config, recognised.translate(weights))
    except CheckpointError as error:
        raise ImportRefused(f"{found.file}: {error}") from None


def listing(weights: Weights, recognised: Recognised | None) -> Iterator[tuple[str, str, str]]:
    """Every key, its shape, and what it becomes; of a format that is not known, keys and shapes.

    LookWhen's own file, whose keys are not published, comes with a guess beside each.
    """
    if recognised is not None:
        rows = recognised.rows
    elif is_lookwhen(weights.shapes):
        rows = list_lookwhen(weights.shapes)
    else:
        rows = tuple(KeyRow(key, s, None, "unknown") for key, s in weights.shapes.items())
    for row in rows:
        left_out = row.note if recognised is None else f"left out: {row.note}"
        becomes = left_out if row.becomes is None else row.becomes
        if row.becomes is not None and row.note:
            becomes += f" ({row.note})"
        yield weights.wrapper + row.key, str(list(row.shape)), becomes
    for key, shape in weights.beside.items():
        yield key, str(list(shape)), f"left out: beside `{weights.wrapper}`"


def family_of(config: NetworkConfig) -> str:
    """Which publication a network is from: UMT and VideoMAEv2 have VideoMAE's architecture."""
    if config.architecture is Architecture.VIDEOMAE:
        kinds = (kind for kind in ("umt", "videomaev2") if config.name.startswith(kind))
        return next(kinds, "videomae")
    return str(config.architecture)


def source_of(found: FoundCheckpoint, recognised: Recognised) -> tuple[WeightsSource, Licence]:
    """What a bundle says of where its weights come from, and of what they may be used for."""
    source = WeightsSource(
        place=found.place, revision=found.revision, file=found.file, sha256=found.sha256()
    )
    return source, licence_of(found.place, family_of(recognised.config), found.card)


def _labels(labels: str, config: NetworkConfig) -> tuple[str, ...]:
    if labels in CLASS_LISTS:
        names = class_list(labels)
    else:
        try:
            text = Path(labels).read_text(encoding="utf-8")
        except (OSError, ValueError):
            known = ", ".join(CLASS_LISTS)
            raise ImportRefused(
                f"--labels: {labels} is neither a file of text nor one of the lists {known}"
            ) from None
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != len(config.labels):
        raise ImportRefused(
            f"--labels: {labels} names {len(names)} classes, and the head has {len(config.labels)}"
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ImportRefused(f"--labels: {labels} names {twice!r} twice")
    return names
