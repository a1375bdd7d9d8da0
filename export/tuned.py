"""A published network that was trained further, as a bundle."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.schema import Licence, Manifest, SparsityRange, WeightsSource
from export.accuracy import read_accuracy
from export.graphs import OPSET
from export.network_bundle import (
    TUNED,
    export_network,
    known_range,
    network_provenance,
    write_network_bundle,
)
from export.parity import Check
from model.checkpoint import CheckpointError
from networks.checkpoint import load_network, load_selector
from networks.config import NetworkConfig
from networks.lite import LiteSelector
from networks.macs import cost
from networks.selectors import make_selector, selector_input

# Without a selector of its own: ahead of the others without training in FluxViT's ablation.
_BY_DEFAULT = "group"


def export_tuned(
    checkpoint: Path,
    digest: str,
    out: Path,
    *,
    name: str | None,
    version: str,
    default_sparsity: float | None,
    accuracy: Path | None,
    opset: int = OPSET,
) -> tuple[Manifest, list[Check]]:
    """Write the bundle of a network's file, with the selector that the file holds.

    The range is that of the sparsities that the network was tuned for; without a tuning that of
    dense checkpoints. Source and licence are those of the file that training started from.

    Args:
        checkpoint: what ``lookwhen train tune`` or ``finetune`` wrote.
        digest: its SHA-256.
        out: the bundle's directory.
        name: in the bundle; by default the network's.
        version: in the bundle.
        default_sparsity: by default the middle of what the range is known for.
        accuracy: what ``lookwhen train evaluate`` wrote.
        opset: ONNX's.

    Raises:
        AccuracyError, BundleError, CheckpointError, ParityError: see what each is raised by.
    """
    network, facts = load_network(checkpoint)
    selector = load_selector(checkpoint)
    if len(network.config.labels) < 2:
        raise CheckpointError(f"{checkpoint}: has no classification head to export")
    if isinstance(selector, LiteSelector):
        raise CheckpointError(
            f"{checkpoint}: LITE's selector looks at the network's own embedding of all tokens, "
            "which no bundle's selector sees; `lookwhen train tune` trains one that can be exported"
        )
    by = _BY_DEFAULT if selector is None else "selector"
    points = []
    if accuracy is not None:
        chooser = selector or make_selector(by, selector_input(network.config))
        price = dataclasses.replace(cost(network.config), selector=chooser.macs)
        points = read_accuracy(accuracy, digest, network.config, price, by)
    source, licence = first_said(facts, "source"), first_said(facts, "licence")
    with export_network(network, selector or by, opset=opset) as graphs:
        manifest = write_network_bundle(
            out,
            network,
            by if selector is None else "learned",
            graphs,
            name=name or network.config.name,
            version=version,
            sparsity=_range(network.config, facts, default_sparsity),
            provenance=network_provenance(
                network,
                recipe=str(facts.get("name", "unknown")),
                data=str(facts.get("data", "unknown")),
                commit=str(facts.get("commit", "unknown")),
                source=None if source is None else WeightsSource.model_validate(source),
            ),
            licence=None if licence is None else Licence.model_validate(licence),
            accuracy=points,
        )
        return manifest, graphs.checks


def first_said(facts: Mapping[str, Any], key: str) -> Any:
    """A fact of a network, or of what it was trained on from; None if none says it."""
    while key not in facts:
        before = facts.get("continues")
        if not isinstance(before, Mapping):
            return None
        facts = before
    return facts[key]


def _range(config: NetworkConfig, facts: Mapping[str, Any], default: float | None) -> SparsityRange:
    tuned = facts.get("sparsities")
    if not tuned:
        known = known_range(config)
    else:
        highest = max(float(sparsity) for sparsity in tuned)
        known = SparsityRange(
            lowest=min(float(sparsity) for sparsity in tuned),
            highest=highest,
            default=min(TUNED.default, highest),
            basis=TUNED.basis,
        )
    if default is None:
        return known
    return SparsityRange.model_validate({**known.model_dump(), "default": default})
