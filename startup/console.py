"""What every command prints on: any name and any label can be written, and readers may leave.

A file's name need not be text, and standard output need not know every letter: Python then raises
in the middle of an answer. All commands are made of the two classes below, so that none has to
think of it.
"""

import base64
import codecs
import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from startup import stopping

# Of a command whose output nobody wanted to the end, as click and rich have it as well.
_READER_LEFT = 1

_ERRORS = "lookwhen.console"


def json_name(name: str, path: Path) -> dict[str, str]:
    """A file's name for a JSON document that every parser reads.

    Args:
        name: the member that holds it.

    Returns:
        The name as text. Where it is none, U+FFFD stands for what cannot be read, and a second
        member, ``NAME_base64``, has the name's bytes.
    """
    encoded = os.fsencode(path)
    text = encoded.decode("utf-8", "replace")
    if text.encode() == encoded:
        return {name: text}
    return {name: text, f"{name}_base64": base64.b64encode(encoded).decode("ascii")}


def _write_anyway(error: UnicodeError) -> tuple[bytes, int]:
    """A name's bytes as they are on disk, and a backslash's escape for other letters.

    Raises:
        UnicodeError: something was to be read, not written.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = bytearray()
    for character in error.object[error.start : error.end]:
        # What os.fsdecode makes of a byte that is no text.
        if "\udc80" <= character <= "\udcff":
            written.append(ord(character) - 0xDC00)
        else:
            written += character.encode("ascii", "backslashreplace")
    return bytes(written), error.end


codecs.register_error(_ERRORS, _write_anyway)


# What is wrong with a path that somebody typed, or with the disk that it is on.
_OF_FILES = frozenset({
    errno.EACCES, errno.EBUSY, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR,
    errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM,
    errno.EROFS,
})  # fmt: skip


def _main(run: Callable[[], Any]) -> Any:
    """Run a command on streams that take everything, and end quietly when a reader has left."""
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)
    try:
        return run()
    finally:
        # Not left to Python's end, which would write a traceback about it.
        if [stream for stream in streams if not _flushed(stream)]:
            sys.exit(_READER_LEFT)


def _flushed(stream: Any) -> bool:
    """Whether all that was printed has been taken; if not, it is forgotten."""
    try:
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return False
    return True


class Command(click.Command):
    """A command that can print whatever there is, and puts away what it began when it is ended.

    For ``@click.command(cls=Command)``.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a program: parse, call, and end the process as click does."""
        return _main(lambda: super(Command, self).main(*args, **kwargs))

    def invoke(self, ctx: click.Context) -> Any:
        """Call it; a file or folder that cannot be used is a sentence, and no traceback."""
        try:
            with stopping.putting_away():
                return super().invoke(ctx)
        except OSError as error:
            if error.filename is None or error.errno not in _OF_FILES:
                raise
            name = os.fsdecode(error.filename)
            raise click.ClickException(f"{name}: {error.strerror}") from None


class Group(click.Group):
    """Several of them; for ``@click.group(cls=Group)``."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a program: parse, call, and end the process as click does."""
        return _main(lambda: super(Group, self).main(*args, **kwargs))
