"""``lookwhen bundle show``: a bundle's facts as tables."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bundle.built_in import find_bundle
from bundle.reader import Bundle, BundleError, read_bundle
from bundle.sampling import Framing
from bundle.schema import Manifest
from bundle.tokens import tokens_to_keep
from startup.console import Command, json_name

_SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)
_FRAMINGS: dict[Framing, str] = {
    "crop": "a square of the picture",
    "squash": "the whole picture, squeezed into a square",
    "pad": "the whole picture, between black bars",
}


@click.command(cls=Command)
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print bundle.json and the derived costs.")
def show(directory: Path | None, as_json: bool) -> None:
    """Verify a bundle and say what is in it; without DIRECTORY the built-in one.

    DIRECTORY may also be the name of a built-in bundle.
    """
    try:
        found = read_bundle(find_bundle(directory))
    except BundleError as error:
        which = directory or "the built-in bundle"
        raise click.ClickException(f"{which} is not a usable bundle: {error}") from None
    show_bundle(found, as_json)


def show_bundle(bundle: Bundle, as_json: bool) -> None:
    """Print what the bundle says of itself, and what each sparsity costs and is worth."""
    manifest = bundle.manifest
    tokens = manifest.geometry.tokens
    measured = {point.sparsity: point for point in manifest.accuracy if point.precision == "fp32"}
    rows = [
        (sparsity, kept, manifest.macs.at(kept), measured.get(sparsity))
        for sparsity in sorted({*_SPARSITIES, *measured})
        for kept in (tokens_to_keep(sparsity, tokens),)
    ]
    if as_json:
        costs = [{"sparsity": s, "tokens": kept, "macs": macs} for s, kept, macs, _ in rows]
        document = {
            **manifest.model_dump(mode="json"),
            **json_name("path", bundle.path),
            "costs": costs,
        }
        print(json.dumps(document, indent=2))
        return
    console = Console(highlight=False)
    console.print(_facts(bundle))
    table = Table(title="By sparsity, for one view", title_justify="left")
    # An evaluation of other views than these does not get into a bundle.
    top1 = f"top-1, {manifest.sampling.default_views} views"
    for heading in ("sparsity", "tokens", "MACs", top1, "held-out clips"):
        table.add_column(heading, justify="right")
    for sparsity, kept, macs, point in rows:
        accuracy = (f"{point.top1:.1%}", str(point.clips)) if point else ("not measured", "")
        table.add_row(f"{sparsity:g}", str(kept), _giga(macs), *accuracy)
    console.print(table)
    if folds := {point.folds for point in measured.values() if point.folds}:
        console.print(
            f"Cross-validated: {max(folds)} models of the same recipe, each measured on the clips "
            "that it had not learnt from. These weights learnt from all of them."
        )
    _print_reduced(console, manifest)
    for rival in manifest.rivals:
        console.print(
            f"For {_giga(rival.macs)} MACs, {rival.name}: top-1 {rival.top1:.1%} of {rival.clips} "
            "clips"
        )


def _print_reduced(console: Console, manifest: Manifest) -> None:
    """What was measured in fewer bits, if anything was."""
    points = [point for point in manifest.accuracy if point.precision != "fp32"]
    if not points:
        return
    table = Table(title="In fewer bits", title_justify="left")
    for heading in ("precision", "sparsity", "top-1", "answered as in fp32", "held-out clips"):
        table.add_column(heading, justify="right")
    for point in points:
        agreement = "not measured" if point.agreement is None else f"{point.agreement:.1%}"
        table.add_row(
            point.precision, f"{point.sparsity:g}", f"{point.top1:.1%}", agreement, str(point.clips)
        )
    console.print(table)


def _facts(bundle: Bundle) -> Table:
    manifest = bundle.manifest
    geometry, provenance = manifest.geometry, manifest.provenance
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    meant, sampling = manifest.sparsity, manifest.sampling
    size = sum(digest.bytes for digest in manifest.files.values())
    seed = "" if provenance.seed is None else f", seed {provenance.seed}"
    commit = "" if provenance.commit == "unknown" else f", commit {provenance.commit}"
    tubelet = f"{geometry.tubelet} frames of " if geometry.tubelet > 1 else ""
    for name, text in (
        ("bundle", f"{manifest.name} {manifest.version}"),
        ("path", str(bundle.path)),
        ("size", f"{size / 1e6:.1f} MB, verified"),
        ("view", f"{geometry.frames} frames of {geometry.size}x{geometry.size} pixels"),
        ("tokens", f"{geometry.tokens} of {tubelet}{geometry.patch}x{geometry.patch} pixels"),
        (
            "sampling",
            "frames spread over the clip"
            if sampling.stride is None
            else f"windows of frames, {sampling.stride} apart",
        ),
        ("framing", _FRAMINGS[sampling.framing]),
        ("views", f"{sampling.default_views} by default"),
        ("selector", f"{manifest.selector.kind}, {_giga(manifest.macs.selector)} MACs"),
        ("answer", _answer(manifest)),
        (
            "sparsity",
            f"{meant.default:g} by default, {meant.basis} from {meant.lowest:g} to "
            f"{meant.highest:g}",
        ),
        *_origin(manifest),
        ("parameters", f"{provenance.parameters:,}"),
        ("recipe", f"{provenance.recipe}{seed}{commit}"),
        ("data", provenance.data),
        ("labels", f"{len(manifest.labels)}: {', '.join(manifest.labels[:40])}"),
    ):
        table.add_row(name, text)
    return table


def _answer(manifest: Manifest) -> str:
    answer = manifest.answer
    text = {
        "softmax": "labels exclude each other",
        "sigmoid": "each label has a probability of its own",
    }[answer.kind]
    if answer.temperatures:
        text += ", a temperature by sparsity"
    elif answer.temperature != 1:
        text += f", temperature {answer.temperature:g}"
    if answer.unknown:
        by = "the best score" if answer.known is None else "the video's vector"
        text += f", may be unknown by {by}"
    return text


def _origin(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Where the weights were published, and what they may be used for."""
    source, licence = manifest.provenance.source, manifest.licence
    if source is not None:
        revision = "" if source.revision is None else f" at {source.revision}"
        yield "source", f"{source.place}{revision}, {source.file}, SHA-256 {source.sha256}"
    if licence is not None:
        use = "commercial use unclear"
        if licence.commercial is not None:
            use = "commercial use allowed" if licence.commercial else "no commercial use"
        yield "licence", ", ".join(filter(None, [licence.name, use, licence.url]))
        if licence.attribution:
            yield "attribution", licence.attribution


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.2f} G"
