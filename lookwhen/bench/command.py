"""``lookwhen bench``: its options, and what is wrong with them."""

import json
import time
from pathlib import Path

import click

from startup.console import Command

SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)
_HIGHEST = 0.99


@click.command(cls=Command)
@click.option("--url", metavar="URL", help="Measure this service instead of one started for it.")
@click.option(
    "--key",
    metavar="KEY",
    envvar="LOOKWHEN_KEY",
    help="Key of the service at --url. Better in LOOKWHEN_KEY, where no process list shows it.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Directory of the bundle to measure, or a built-in one's name, without --url. Default: "
    "LOOKWHEN_BUNDLE, or moving_things.",
)
@click.option(
    "--sparsity",
    "sparsities",
    metavar="S",
    type=click.FloatRange(0, _HIGHEST),
    multiple=True,
    default=SPARSITIES,
    show_default=True,
    help="Share of the tokens to drop, 0 to 0.99; may be given several times.",
)
@click.option(
    "--clip",
    "clips",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Clip to send; may be given several times. Default: some of `lookwhen sample`.",
)
@click.option(
    "--seconds",
    metavar="N",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="For everything, the start of the service included.",
)
@click.option(
    "--json",
    "out",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write every sample to FILE, too, as a JSON document; - prints it instead of the table.",
)
def bench(
    url: str | None, key: str | None, bundle: Path | None, sparsities: tuple[float, ...],
    clips: tuple[Path, ...], seconds: float, out: Path | None,
) -> None:  # fmt: skip
    """Measure what this machine, or a running service, serves at each sparsity.

    Sparsities take turns: in each, one caller asks clip after clip, and then as many callers as
    keep the service busy. Without --url a service is started for it, as `lookwhen serve` would
    with the same settings. Whatever else the machine does is measured along. Exit code: 0
    measured, 1 not, 2 wrong usage.
    """
    begun = time.perf_counter()
    from rich.console import Console

    from bundle.built_in import find_bundle
    from bundle.errors import BundleError
    from lookwhen.bench.asking import BenchError
    from lookwhen.bench.result import show
    from lookwhen.bench.run import Order, carry_out
    from lookwhen.settings import settings_of
    from model.writing import whole_file

    if url and bundle:
        raise click.UsageError("--bundle is for a service started here; the one at --url has one")
    if url is None:
        try:
            find_bundle(settings_of(bundle=bundle).bundle)
        except BundleError as error:
            raise click.UsageError(str(error)) from None
    printed = out == Path("-")
    if out is not None and not printed and not out.parent.is_dir():
        raise click.UsageError(f"--json: there is no directory {out.parent}")
    try:
        document = carry_out(Order(url, key, bundle, sparsities, clips, seconds, begun))
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    text = json.dumps(document, indent=1)
    if printed:
        click.echo(text)
        return
    show(Console(highlight=False), document)
    if out is not None:
        with whole_file(out) as part:
            part.write_text(text + "\n")
