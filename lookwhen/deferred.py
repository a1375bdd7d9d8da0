"""Commands that are listed without being imported, and errors in one style."""

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from startup import console, packages

PROGRAM = "lookwhen"


class Deferred(console.Command):
    """A command whose module is imported when the command is called, not when it is listed.

    Args:
        name: what people type; the command itself may have another name.
        target: ``module:attribute`` of the real command.
        summary: the first sentence of its help.
        extras: extras that every command of its package needs.
    """

    def __init__(self, name: str, target: str, summary: str, *, extras: tuple[str, ...] = ()):
        super().__init__(name, short_help=summary)
        self._module, _, self._attribute = target.partition(":")
        self._extras = extras

    def load(self) -> click.Command:
        """Import the real command.

        Raises:
            ModuleNotFoundError: the extra that it needs is not installed.
        """
        if self._extras:
            packages.explain_missing(PROGRAM, *self._extras)
        command = getattr(importlib.import_module(self._module), self._attribute)
        assert isinstance(command, click.Command)
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """The real command's context: click runs the command that the context belongs to."""
        try:
            command = self.load()
        except ModuleNotFoundError as error:
            # A shell that completes a line is not told what to install.
            if not extra.get("resilient_parsing") or packages.missing(error) is None:
                raise
            return super().make_context(info_name, args, parent, **extra)
        return command.make_context(info_name, args, parent, **extra)


class Group(console.Group):
    """Commands in the order in which they were given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of definition, where click sorts them."""
        return list(self.commands)


class TrainGroup(Group):
    """`lookwhen train FOLDER` is short for `lookwhen train own FOLDER`.

    A command goes before a folder of its name, which ./ in front of it tells apart.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a first argument that is a path means the command ``own``."""
        if args[0] not in self.commands and (os.sep in args[0] or Path(args[0]).exists()):
            args = ["own", *args]
        return super().resolve_command(ctx, args)


class Program(Group):
    """The outermost group. Its errors begin with the program's name, as Unix programs' do."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse what was typed; an error in it begins with the program's name."""
        with _named_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error in it begins with the program's name."""
        with _named_errors():
            return super().invoke(ctx)


class _Failure(click.ClickException):
    """An error, shown behind the program's name."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error behind the program's name, where click prints `Error:`."""
        click.echo(f"{PROGRAM}: {self.format_message()}", file, err=True)


class _WrongUsage(_Failure):
    """An error in what was typed, shown behind the usage of the command that it was typed for."""

    exit_code = click.UsageError.exit_code

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(error.format_message())
        self._context = error.ctx

    def show(self, file: IO[Any] | None = None) -> None:
        """Print how the command is used, then the error behind the program's name."""
        if self._context is not None:
            click.echo(self._context.get_usage(), file, err=True)
            click.echo(f"Try '{self._context.command_path} --help' for help.\n", file, err=True)
        super().show(file)


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, _Failure):  # a help, and what has its name already
        raise
    except click.UsageError as error:
        raise _WrongUsage(error) from error
    except click.ClickException as error:
        raise _Failure(error.format_message()) from error
