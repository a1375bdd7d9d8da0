"""``lookwhen serve``."""

import sys
from pathlib import Path
from typing import Any

import click

from startup.console import Command

_UNSET = "Default: the setting {}."


@click.command(cls=Command)
@click.option("--host", help="Address to listen on. " + _UNSET.format("LOOKWHEN_HOST (127.0.0.1)"))
@click.option("--port", type=int, help="TCP port. " + _UNSET.format("LOOKWHEN_PORT (8000)"))
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Directory of the bundle to serve, or a built-in one's name. Default: LOOKWHEN_BUNDLE, or "
    "moving_things.",
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
    from lookwhen.settings import settings_of
    from service.http.server import serve as run

    sys.exit(run(settings_of(**options)))
