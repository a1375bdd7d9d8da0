"""``lookwhen export CHECKPOINT OUT``: export, verify and pack."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import click
from pydantic import ValidationError

from bundle.reader import BundleError
from bundle.schema import Manifest
from export.accuracy import AccuracyError, read_accuracy, read_cross_validated
from export.bundling import export_bundle
from export.card import Card, CardError, read_card
from export.graphs import FUSED_ATTENTION_OPSET, OPSET
from export.pack import PlaceTaken, bundle_place
from export.parity import Check, ParityError
from export.prepare import HalfWeightsError
from export.tuned import export_tuned
from model.checkpoint import CheckpointError, load_checkpoint
from model.macs import cost
from networks.checkpoint import holds_network
from startup.console import Command


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="Name in the bundle. Default: the configuration's.")
@click.option("--version", default="1", show_default=True, help="Version in the bundle.")
@click.option(
    "--accuracy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `lookwhen train evaluate` wrote for this checkpoint, with 1x1 views.",
)
@click.option(
    "--cross-validated",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `lookwhen train pool` wrote of several models of this checkpoint's recipe, where "
    "this one learnt from all clips.",
)
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON with the bundle's licence and rivals.",
)
@click.option(
    "--half-weights",
    is_flag=True,
    help="Round large weights to half precision and keep them in it: half the size. What is "
    "computed stays float32.",
)
@click.option(
    "--default-sparsity",
    type=click.FloatRange(0, 1, max_open=True),
    help="Sparsity of a request that names none. Default: the densest that was trained.",
)
@click.option(
    "--fused-attention",
    is_flag=True,
    help=f"Attention as one operator (opset {FUSED_ATTENTION_OPSET}) instead of in basic ones "
    f"(opset {OPSET}); not every execution provider has it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def main(
    checkpoint: Path,
    out: Path,
    name: str | None,
    version: str,
    accuracy: Path | None,
    cross_validated: Path | None,
    card: Path | None,
    half_weights: bool,
    default_sparsity: float | None,
    fused_attention: bool,
    as_json: bool,
) -> None:
    """Export CHECKPOINT as a bundle directory OUT.

    Both graphs are compared with the torch model at several numbers of tokens, batch sizes and
    mixed lengths; a bundle that differs is not written.
    """
    opset = FUSED_ATTENTION_OPSET if fused_attention else OPSET
    if accuracy is not None and cross_validated is not None:
        raise click.UsageError("--accuracy and --cross-validated exclude each other")
    try:
        bundle_place(out)
        if holds_network(checkpoint):
            if cross_validated is not None or card is not None or half_weights:
                raise click.UsageError(
                    f"{checkpoint} holds a published network: --cross-validated, --card and "
                    "--half-weights are for LookWhen's own"
                )
            manifest, checks = export_tuned(
                checkpoint,
                _digest(checkpoint),
                out,
                name=name,
                version=version,
                default_sparsity=default_sparsity,
                accuracy=accuracy,
                opset=opset,
            )
        else:
            manifest, checks = _lookwhen(
                checkpoint,
                out,
                _Wanted(name, version, default_sparsity, accuracy, cross_validated),
                card=None if card is None else read_card(card),
                half_weights=half_weights,
                opset=opset,
            )
    except (
        AccuracyError,
        CardError,
        CheckpointError,
        HalfWeightsError,
        ParityError,
        BundleError,
        PlaceTaken,
        ValidationError,
    ) as error:
        raise click.ClickException(f"no bundle was written: {error}") from None
    if as_json:
        click.echo(manifest.model_dump_json(indent=2))
        return
    worst = max(checks, key=lambda made: made.difference)
    size = sum(file.bytes for file in manifest.files.values()) / 1e6
    click.echo(f"{len(checks)} comparisons with torch agree; the widest is {worst.difference:.1e}")
    click.echo(f"  ({worst.what})")
    click.echo(f"wrote {manifest.name} {manifest.version}, {size:.1f} MB, to {out}")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the bundle is to say of itself; ``accuracy`` and ``cross_validated`` are reports."""

    name: str | None
    version: str
    default_sparsity: float | None
    accuracy: Path | None
    cross_validated: Path | None


def _lookwhen(
    checkpoint: Path,
    out: Path,
    wanted: _Wanted,
    *,
    card: Card | None,
    half_weights: bool,
    opset: int,
) -> tuple[Manifest, list[Check]]:
    model, facts = load_checkpoint(checkpoint)
    if len(model.config.labels) < 2:
        raise click.ClickException(f"{checkpoint}: has no classification head to export")
    if (task := facts.get("task", "TopOne")) != "TopOne":
        raise click.ClickException(
            f"{checkpoint}: was trained for {task}; a service answers one class per clip, by a "
            "softmax over all of them, so its scores would mean nothing"
        )
    points, config = [], model.config
    if wanted.accuracy is not None:
        points = read_accuracy(wanted.accuracy, _digest(checkpoint), config, cost(config))
    elif wanted.cross_validated is not None:
        points = read_cross_validated(wanted.cross_validated, config, cost(config))
    return export_bundle(
        model,
        facts,
        out,
        name=wanted.name or config.name,
        version=wanted.version,
        default_sparsity=(
            config.lowest_sparsity if wanted.default_sparsity is None else wanted.default_sparsity
        ),
        accuracy=points,
        opset=opset,
        half_weights=half_weights,
        card=card,
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main(prog_name="python -P -m export")
