"""``lookwhen import``: a public checkpoint becomes a bundle."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from bundle.reader import BundleError, read_bundle
from bundle.schema import Licence, SparsityRange, WeightsSource
from export.importing.errors import ImportRefused
from export.importing.importer import listing, read_network, recognise_weights, source_of
from export.importing.licences import check_accepted
from export.importing.sources import FoundCheckpoint, find_checkpoint, with_classifier
from export.importing.weights import Weights, open_weights
from export.network_bundle import (
    UNTUNED,
    export_network,
    known_range,
    network_provenance,
    write_network_bundle,
)
from export.pack import PlaceTaken, bundle_place, replace_manifest
from export.parity import ParityError
from networks.checkpoint import save_network
from networks.checkpoints import Recognised
from networks.network import VideoNetwork
from networks.selectors import SELECTORS
from startup.console import Command
from training.datasets import DataSet, DataSetError
from training.datasets.lists import read_class_folders, read_list
from training.evaluation.bundles import measure_bundle
from training.progress import tracked

# Sentences that `--dry-run` prints of a file with many faults.
_NAMED = 20
# Characters in a line of its listing, where that goes to a file; more than any key has.
_UNFOLDED = 1000


@click.command("import", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.argument("out", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--selector",
    type=click.Choice(SELECTORS),
    default="group",
    show_default=True,
    help="What chooses tokens; none of them has weights.",
)
@click.option("--dry-run", is_flag=True, help="List every key and what it becomes; write nothing.")
@click.option(
    "--accept-licence",
    is_flag=True,
    help="Take weights whose licence forbids commercial use, or that state none.",
)
@click.option(
    "--labels",
    metavar="NAME|FILE",
    help="A published list such as kinetics-400, or a file with a name a row. Default: the "
    "checkpoint's own, or the list with as many names as the head has rows.",
)
@click.option("--name", help="Name in the bundle. Default: the network's.")
@click.option("--version", default="1", show_default=True, help="Version in the bundle.")
@click.option(
    "--default-sparsity",
    type=click.FloatRange(0, 1, max_open=True),
    help=f"Sparsity of a request that names none.  [default: {UNTUNED.default:g}]",
)
@click.option("--revision", help="Branch, tag or commit of the hub's repository.")
@click.option("--file", help="Which file of a folder or repository has the weights.")
@click.option(
    "--classifier",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the classifier, where it is published apart from the network (V-JEPA 2).",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    help="Of a view, where it is not as the network's usual one.",
)
@click.option("--size", type=click.IntRange(1), help="Pixels on a side of a view, likewise.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the selector `random`.")
@click.option(
    "--measure",
    type=click.Path(exists=True, path_type=Path),
    help="Labelled clips to fill the bundle's accuracy with: a list of `path label`, or a folder "
    "per class.",
)
@click.option(
    "--lost",
    "lost_share",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="With --measure: share of the clips that may be unreadable.",
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the network for training, too. OUT may then be left out.",
)
def import_command(source: str, out: Path | None, **options: Any) -> None:
    """Make a bundle directory OUT of a public checkpoint: a file, a folder, or a hub's OWNER/NAME.

    Both graphs are compared with the torch network at several numbers of tokens, batch sizes and
    mixed lengths; a bundle that differs is not written.
    """
    if out is None and not options["dry_run"] and options["checkpoint"] is None:
        raise click.UsageError("Missing argument 'OUT'; only --dry-run and --checkpoint need none")
    if options["measure"] is not None and (out is None or options["dry_run"]):
        raise click.UsageError("--measure is for a bundle that is written; name OUT")
    try:
        if out is not None and not options["dry_run"]:
            bundle_place(out)
        found = find_checkpoint(source, file=options["file"], revision=options["revision"])
        if options["classifier"] is not None:
            found = with_classifier(found, options["classifier"])
        if options["checkpoint"] is not None:
            _check_checkpoint(options["checkpoint"], out, found)
        view = {name: options[name] for name in ("frames", "size")}
        with open_weights(found.weights, pickled=found.pickled) as weights:
            if options["dry_run"]:
                _show(found, weights, view)
                return
            recognised = recognise_weights(found, weights, **view)
            origin, licence = source_of(found, recognised)
            _say_licence(licence)
            check_accepted(licence, options["accept_licence"])
            network = read_network(found, weights, recognised, options["labels"])
        _write(network, recognised, origin, licence, out, options)
    except (
        BundleError, DataSetError, PlaceTaken, ImportRefused, ParityError, ValidationError,
        ValueError,
    ) as error:  # fmt: skip
        raise click.ClickException(str(error)) from None


def _write(
    network: VideoNetwork,
    recognised: Recognised,
    origin: WeightsSource,
    licence: Licence,
    out: Path | None,
    options: dict[str, Any],
) -> None:
    config = network.config
    clips = None
    if options["measure"] is not None:
        clips = _labelled(options["measure"], config.labels)
    provenance = network_provenance(
        network, recipe=f"imported, {recognised.title}", data="as published", source=origin
    )
    if (checkpoint := options["checkpoint"]) is not None:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        save_network(
            network, checkpoint, {"source": origin.model_dump(), "licence": licence.model_dump()}
        )
        click.echo(f"wrote {config.name} to {checkpoint}")
    if out is None:
        return
    if len(config.labels) < 2:
        raise ImportRefused(
            f"{origin.file}: has no classification head, so that a service has nothing to answer; "
            "--checkpoint FILE writes it for training a head, and --classifier FILE takes a head "
            "from a file of its own"
        )
    known = known_range(config)
    if (default := options["default_sparsity"]) is not None:
        known = SparsityRange(**{**known.model_dump(), "default": default})
    click.echo("making two graphs, and comparing them with torch: a minute or more")
    with export_network(network, options["selector"], seed=options["seed"]) as graphs:
        manifest = write_network_bundle(
            out,
            network,
            options["selector"],
            graphs,
            name=options["name"] or config.name,
            version=options["version"],
            sparsity=known,
            provenance=provenance,
            licence=licence,
        )
    worst = max(graphs.checks, key=lambda made: made.difference)
    click.echo(
        f"{len(graphs.checks)} comparisons with torch agree; the widest is {worst.difference:.1e}"
    )
    click.echo(f"  ({worst.what})")
    size = sum(digest.bytes for digest in manifest.files.values()) / 1e6
    click.echo(
        f"wrote {manifest.name} {manifest.version}, {len(config.labels)} labels, {size:.1f} MB, "
        f"to {out}"
    )
    if clips is not None:
        try:
            _measure(out, clips, options["lost_share"])
        except (BundleError, DataSetError, OSError, ValueError) as error:
            raise click.ClickException(
                f"the bundle at {out} is whole, and without accuracy: {error}"
            ) from None


def _check_checkpoint(path: Path, out: Path | None, found: FoundCheckpoint) -> None:
    """Refuse to write the network where it does harm.

    Raises:
        ImportRefused: into the bundle, which would then be none, or over what is imported.
    """
    written = path.resolve()
    if out is not None and bundle_place(out) in (written, *written.parents):
        raise ImportRefused(f"--checkpoint: {path} would lie in the bundle {out}")
    if written in (read.resolve() for read in found.weights):
        raise ImportRefused(f"--checkpoint: {path} is what is imported; choose another path")


def _labelled(clips: Path, labels: Sequence[str]) -> DataSet:
    """Clips whose labels are numbered as a network's classes.

    Raises:
        DataSetError: they cannot be read, or have other labels.
    """
    read = read_class_folders if clips.is_dir() else read_list
    return read(clips, labels=list(labels))


def _measure(out: Path, dataset: DataSet, lost_share: float) -> None:
    """Fill a written bundle's accuracy and rivals from labelled clips."""
    bundle = read_bundle(out)

    def shown(numbers: Iterable[int], total: int) -> Iterable[int]:
        return tracked(numbers, "measuring", total)

    points, rivals = measure_bundle(bundle, dataset, lost_share=lost_share, track=shown)
    replace_manifest(out, bundle.manifest.model_copy(update={"accuracy": points, "rivals": rivals}))
    for point in points:
        click.echo(
            f"sparsity {point.sparsity:g}: top-1 {point.top1:.1%}, top-5 {point.top5:.1%}, "
            f"{point.clips} clips"
        )
    for rival in rivals:
        click.echo(f"{rival.name}: top-1 {rival.top1:.1%} at {rival.macs / 1e9:.2f} GMACs")


def _say_licence(licence: Licence) -> None:
    uses = {True: "commercial use allowed", False: "no commercial use", None: "use not stated"}
    click.echo(f"licence of the weights: {licence.name} ({uses[licence.commercial]})")
    if licence.url:
        click.echo(f"  {licence.url}")
    click.echo(f"  {licence.attribution}")


def _show(found: FoundCheckpoint, weights: Weights, view: dict[str, int | None]) -> None:
    """Print every key and what it becomes, and what is wrong.

    Raises:
        ImportRefused: the checkpoint would be refused; what it holds was printed by then.
    """
    recognised, wrong = None, None
    try:
        recognised = recognise_weights(found, weights, **view)
    except ImportRefused as error:
        wrong = error
    table = Table(box=None)
    for heading in ("key", "shape", "becomes"):
        table.add_column(heading, overflow="fold")
    for row in listing(weights, recognised):
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _UNFOLDED  # a list in a file is searched, and sent to others
    console.print(table)
    if weights.confined_by is not None:
        click.echo(f"read from a pickle, in a process confined by {weights.confined_by}")
    if recognised is None:
        raise ImportRefused(str(wrong))
    config = recognised.config
    click.echo(
        f"{recognised.title}: {config.name}, {config.frames} frames of {config.size} pixels, "
        f"{config.tokens} tokens, {len(config.labels)} labels"
    )
    _say_licence(source_of(found, recognised)[1])
    for problem in recognised.problems[:_NAMED]:
        click.echo(problem)
    if recognised.problems:
        raise ImportRefused(f"{found.file}: {len(recognised.problems)} keys do not fit")
