"""From a network to a bundle directory: export, compare with torch, pack."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.answers import AnswerFacts
from bundle.half_precision import narrowed
from bundle.schema import AccuracyPoint, Manifest, Provenance
from export.card import Card
from export.graphs import OPSET, extractor_to_onnx, selector_to_onnx
from export.pack import exported_with, manifest_for, write_bundle
from export.parity import Check, check
from export.prepare import prepared
from model.classifier import LookWhen


def export_bundle(
    model: LookWhen,
    facts: Mapping[str, Any],
    out: Path,
    *,
    name: str,
    version: str,
    default_sparsity: float,
    accuracy: Sequence[AccuracyPoint],
    opset: int = OPSET,
    half_weights: bool = False,
    card: Card | None = None,
) -> tuple[Manifest, list[Check]]:
    """Write a bundle that answers what the network answers; gives its manifest and the proof.

    Args:
        facts: of the network's training, as its checkpoint has them: also ``framing``, what it was
            trained to see of the picture, and the ``temperature`` of its logits or all that the
            manifest says of its ``answer``, where they are not those of before these were known.
        half_weights: large weights are rounded to half precision, and kept in it.
        card: licence and rivals, that no training knows.

    Raises:
        HalfWeightsError: half precision cannot hold a weight.
        ParityError: the graphs answer otherwise than torch.
        BundleError, ValidationError: the reader refuses what was made.
        PlaceTaken: ``out`` holds something that is no bundle.
    """
    model = prepared(model, half_weights=half_weights)
    selector = selector_to_onnx(model, opset=opset)
    extractor = extractor_to_onnx(model, opset=opset)
    checks = check(model, selector, extractor)
    if half_weights:
        selector, extractor = narrowed(selector), narrowed(extractor)
    manifest = manifest_for(
        model.config,
        selector,
        extractor,
        name=name,
        version=version,
        default_sparsity=default_sparsity,
        accuracy=list(accuracy),
        provenance=provenance(model, facts),
        framing=facts.get("framing", "crop"),
        answer=AnswerFacts.model_validate(
            facts.get("answer") or {"temperature": facts.get("temperature", 1.0)}
        ),
    )
    if card is not None:
        manifest = manifest.model_copy(update={"licence": card.licence, "rivals": card.rivals})
    write_bundle(out, manifest, selector, extractor)
    return manifest, checks


def provenance(model: LookWhen, facts: Mapping[str, Any]) -> Provenance:
    """Where the weights come from, as the training wrote it into the checkpoint."""
    recipe = facts.get("recipe", {})
    return Provenance(
        recipe=str(facts.get("name", "unknown")),
        seed=int(recipe.get("seed", 0)),
        commit=str(facts.get("commit", "unknown")),
        data=str(facts.get("data", "unknown")),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        clips_seen=int(facts.get("clips_seen", 0)),
        exported_with=exported_with(),
    )
