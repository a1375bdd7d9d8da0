"""Files that appear under their name only when they are whole."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a disk is to blame for, or a limit of it.
_OF_DISKS = (errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS)
_OS_ERROR = re.compile(r"I/O error: .*\(os error (\d+)\)")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; what is written there then takes the name.

    If writing fails, ``path`` stays what it was, and nothing is left beside it.

    The file's mode is the one that any new file gets there, by the umask or by the folder's default
    access list. safetensors, for one, writes to a temporary file that nobody else may read, and
    renames it: a checkpoint could then not be read by the user that serves it.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    # A run that was killed may have left one behind, with a mode of its own.
    part.unlink(missing_ok=True)
    part.touch()
    mode = part.stat().st_mode & 0o777
    try:
        yield part
        part.chmod(mode)
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if (better := named(error, path)) is error:
            raise
        raise better from error


def named(error: BaseException, path: Path) -> BaseException:
    """An error of the writing of ``path``, with the path in it where the disk is to blame.

    Python names no file when a disk fills up, and safetensors says so in words alone.
    """
    number = None
    if isinstance(error, OSError) and error.filename is None and error.errno in _OF_DISKS:
        number = error.errno
    if code := _OS_ERROR.search(str(error)):
        number = int(code[1])
    return error if number is None else OSError(number, os.strerror(number), str(path))
