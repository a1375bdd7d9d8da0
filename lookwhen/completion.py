"""``lookwhen completion``: what a shell needs to complete the command's line."""

import click
from click.shell_completion import get_completion_class

from lookwhen.deferred import PROGRAM
from startup.console import Command

_VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"  # what click looks for


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete the commands and options of lookwhen.

    For bash and zsh put `eval "$(lookwhen completion bash)"`, or `zsh`, into ~/.bashrc or ~/.zshrc.
    For fish: `lookwhen completion fish > ~/.config/fish/completions/lookwhen.fish`.
    """
    made = get_completion_class(shell)
    assert made is not None, f"click knows {shell}"
    click.echo(made(context.find_root().command, {}, PROGRAM, _VARIABLE).source())
