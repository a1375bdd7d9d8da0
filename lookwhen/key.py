"""``lookwhen key``."""

import json

import click

from startup.console import Command


@click.command(cls=Command)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print key and entry as a JSON document.")
def key(name: str, as_json: bool) -> None:
    """Make a key for a client: `lookwhen key NAME >> keys.txt`.

    The entry for LOOKWHEN_API_KEYS_FILE goes to standard output, the key itself, which is stored
    nowhere, to standard error. NAME is for you; it appears in no log and no metric.
    """
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
