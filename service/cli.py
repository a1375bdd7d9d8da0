"""The command ``lookwhen``.

Imports what a command needs when it runs: ``lookwhen --help`` must not wait for onnxruntime.
"""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service import __version__
from startup.console import Group
from startup.path import child_environment, python_command

if TYPE_CHECKING:
    from service.classify import Asked
    from service.settings import Settings

_UNSET = "Default: the setting {}."


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lookwhen")
def main() -> None:
    """Video classification whose cost is a request parameter.

    Start with `lookwhen serve`, then `lookwhen sample clip.mp4` and
    `lookwhen classify clip.mp4 --url http://127.0.0.1:8000`.
    """


@main.command()
@click.option("--host", help="Address to listen on. " + _UNSET.format("LOOKWHEN_HOST (127.0.0.1)"))
@click.option("--port", type=int, help="TCP port. " + _UNSET.format("LOOKWHEN_PORT (8000)"))
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Directory of the bundle to serve. Default: LOOKWHEN_BUNDLE, or the built-in one.",
)
@click.option("--decode-workers", type=int, help="Decode processes; 0 fits them to the CPUs.")
@click.option(
    "--log-format", type=click.Choice(["auto", "json", "console"]), help="Form of the log."
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Least level."
)
def serve(**options: Any) -> None:
    """Serve a bundle over HTTP until SIGTERM or Ctrl-C.

    Every option is a setting as well, and there are more settings than options: see
    docs/settings.md. An option wins over its environment variable.
    """
    from service.http.server import serve as run

    sys.exit(run(_settings(**options)))


@main.command()
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
    "--strict", is_flag=True, default=None, help="Rather be refused than served sparser than asked."
)
@click.option(
    "--sweep", metavar="S,S,...", help="Show several sparsities of one selection instead."
)
@click.option("--views", metavar="TxS", help="Temporal x spatial views, such as 1x1 or 4x3.")
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
    """Classify video files.

    Without --url the files are classified in this process, through the same pipeline that the
    service uses. Exit code: 0 all classified, 1 some were not, 2 wrong usage.
    """
    from service.classify import classify_files

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
    _check_parameters(query, sweep=sweep is not None)
    settings = None if url else _settings(bundle=bundle)
    asked: Asked = "sweep" if sweep is not None else "classify"
    paths = [Path(file) for file in files]
    sys.exit(classify_files(paths, asked, query, url, key, settings, as_json))


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sample(arguments: tuple[str, ...]) -> None:
    """Render a fresh clip with a known label: OUT.mp4 [--seed N] [--label L] [--json]."""
    # A process of its own, because the service never imports training code.
    command = python_command("-m", "training.moving_things.sample", *arguments)
    environment = child_environment()
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)


@main.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print key and entry as a JSON document.")
def key(name: str, as_json: bool) -> None:
    """Make a key for a client: `lookwhen key NAME >> keys.txt`.

    The entry for LOOKWHEN_API_KEYS_FILE goes to standard output, the key itself, which is stored
    nowhere, to standard error. NAME is for you; it appears in no log and no metric.
    """
    import json

    from service.http.keys import make_key

    try:
        secret, entry = make_key(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps({"key": secret, "entry": entry}))
        return
    click.echo(entry)
    click.echo(f"the key of {name}, shown once: {secret}", err=True)


@main.group()
def bundle() -> None:
    """Look at bundles."""


@bundle.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print bundle.json and the derived costs.")
def show(directory: Path | None, as_json: bool) -> None:
    """Verify a bundle and say what is in it; without DIRECTORY the built-in one."""
    from bundle.reader import BundleError, default_bundle_path, read_bundle
    from service.show import show_bundle

    path = directory or default_bundle_path()
    try:
        found = read_bundle(path)
    except BundleError as error:
        click.echo(f"lookwhen: {path} is not a usable bundle: {error}", err=True)
        sys.exit(1)
    show_bundle(found, as_json)


def _check_parameters(query: dict[str, str], *, sweep: bool) -> None:
    """Tell a mistake in an option from a file that cannot be classified."""
    from service.errors import ContradictoryParameters, InvalidParameter, UnknownParameter
    from service.sparsity import parameters

    kind = parameters.SweepParameters if sweep else parameters.Parameters
    try:
        # How many are too many is for the pipeline, here or at the service, to say.
        anything = parameters.Bounds(max_views=1_000_000, max_top=1_000_000)
        parameters.read(parameters.bounded(kind, anything), query.items())
    except UnknownParameter as error:
        option = str(error.members["field"]).replace("_", "-")
        raise click.UsageError(f"--{option} does not go with --sweep") from None
    except ContradictoryParameters as error:
        raise click.UsageError(error.detail) from None
    except InvalidParameter as error:
        raise click.UsageError(f"--{error.detail}") from None


def _settings(**overrides: Any) -> "Settings":
    from service.settings import SettingsError, load_settings

    try:
        return load_settings({key: value for key, value in overrides.items() if value is not None})
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
