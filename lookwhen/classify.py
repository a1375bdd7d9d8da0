"""``lookwhen classify``: its options, and what is wrong with them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from startup.console import Command

if TYPE_CHECKING:
    from lookwhen.ask import Asked


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--url", metavar="URL", help="Ask this service instead of classifying here.")
@click.option(
    "--key",
    metavar="KEY",
    envvar="LOOKWHEN_KEY",
    help="Key of the service at --url. Better in LOOKWHEN_KEY, where no process list shows it.",
)
@click.option("--sparsity", metavar="S", help="Share of the tokens to drop, 0 to 0.99, or auto.")
@click.option(
    "--max-loss",
    metavar="P",
    help="Instead of --sparsity: as sparse as loses at most P points of top-1, as measured.",
)
@click.option(
    "--coverage", metavar="C", help="With --sparsity auto: share of the selector's mass to keep."
)
@click.option(
    "--budget-ms", metavar="MS", help="Milliseconds to answer in: as dense as is predicted to fit."
)
@click.option(
    "--cascade", is_flag=True, default=None, help="Start sparse, look closer while in doubt."
)
@click.option(
    "--margin", metavar="M", help="With --cascade: lead of the first label that is enough."
)
@click.option("--max-sparsity", metavar="S", help="Allow a busy service to be sparser, up to this.")
@click.option(
    "--strict",
    is_flag=True,
    default=None,
    help="Rather be refused than served sparser because the service is busy.",
)
@click.option(
    "--sweep", metavar="S,S,...", help="Show several sparsities of one selection instead."
)
@click.option("--start", metavar="S", help="Seconds from which on the clip is looked at.")
@click.option("--end", metavar="S", help="Seconds until which the clip is looked at.")
@click.option("--views", metavar="TxS", help="Temporal x spatial views, such as 1x1 or 4x3.")
@click.option(
    "--explain",
    is_flag=True,
    default=None,
    help="Say how the tokens kept spread over time; with --json also which they are.",
)
@click.option(
    "--embedding", is_flag=True, default=None, help="With --json: give the clip's embedding, too."
)
@click.option(
    "--normalise",
    type=click.Choice(["true", "false"]),
    help="With --embedding: divide it by its length.  [default: true]",
)
@click.option(
    "--encoding",
    type=click.Choice(["list", "base64"]),
    help="With --embedding: its numbers, or the bytes of them.  [default: list]",
)
@click.option("--top", metavar="N", help="Labels to show.  [default: 5]")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Bundle to classify with, without --url."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON document a file. Where a name is no UTF-8, `file_base64` has its bytes.",
)
def classify(files: tuple[str, ...], **options: Any) -> None:
    """Classify video files, here or by a running service.

    Without --url the files are classified in this process, through the same pipeline that the
    service uses. Exit code: 0 all classified, 1 some were not, 2 wrong usage.
    """
    from lookwhen.ask import classify_files
    from lookwhen.checking import check_options
    from lookwhen.settings import settings_of
    from service.sparsity.parameters import Parameters, SweepParameters

    url, bundle, as_json = options.pop("url"), options.pop("bundle"), options.pop("as_json")
    key = options.pop("key")
    if url and bundle:
        raise click.UsageError("--bundle is for classifying here; with --url the service has one")
    sweep = options.pop("sweep")
    query = {
        name: "true" if value is True else value
        for name, value in options.items()
        if value is not None
    }
    if sweep is not None:
        query["sparsities"] = sweep
    if sweep is None:
        check_options(Parameters, query)
    else:
        check_options(SweepParameters, query, spelled={"sparsities": "sweep"}, beside="--sweep")
    settings = None if url else settings_of(bundle=bundle)
    asked: Asked = "sweep" if sweep is not None else "classify"
    paths = [Path(file) for file in files]
    sys.exit(classify_files(paths, asked, query, url, key, settings, as_json))
