"""``lookwhen bundle show``: a bundle's facts as tables."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bundle.reader import Bundle, BundleError, default_bundle_path, read_bundle
from bundle.tokens import tokens_to_keep
from startup.console import Command, json_name

_SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)


@click.command(cls=Command)
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print bundle.json and the derived costs.")
def show(directory: Path | None, as_json: bool) -> None:
    """Verify a bundle and say what is in it; without DIRECTORY the built-in one."""
    path = directory or default_bundle_path()
    try:
        found = read_bundle(path)
    except BundleError as error:
        raise click.ClickException(f"{path} is not a usable bundle: {error}") from None
    show_bundle(found, as_json)


def show_bundle(bundle: Bundle, as_json: bool) -> None:
    """Print what the bundle says of itself, and what each sparsity costs and is worth."""
    manifest = bundle.manifest
    tokens = manifest.geometry.tokens
    measured = {point.sparsity: point for point in manifest.accuracy}
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


def _facts(bundle: Bundle) -> Table:
    manifest = bundle.manifest
    geometry, provenance = manifest.geometry, manifest.provenance
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    trained, size = manifest.sparsity, len(bundle.selector) + len(bundle.extractor)
    for name, text in (
        ("bundle", f"{manifest.name} {manifest.version}"),
        ("path", str(bundle.path)),
        ("size", f"{size / 1e6:.1f} MB, verified"),
        ("view", f"{geometry.frames} frames of {geometry.size}x{geometry.size} pixels"),
        ("tokens", f"{geometry.tokens} of {geometry.patch}x{geometry.patch} pixels"),
        ("views", f"{manifest.sampling.default_views} by default"),
        (
            "sparsity",
            f"{trained.default:g} by default, trained from {trained.lowest:g} to "
            f"{trained.highest:g}",
        ),
        ("parameters", f"{provenance.parameters:,}"),
        ("recipe", f"{provenance.recipe}, seed {provenance.seed}, commit {provenance.commit}"),
        ("data", provenance.data),
        ("labels", f"{len(manifest.labels)}: {', '.join(manifest.labels[:40])}"),
    ):
        table.add_row(name, text)
    return table


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.2f} G"
