"""Folders of a process's own, and folders that take a name only when they are whole."""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RANDOM_BYTES = 8
_RANDOM = re.compile(rf"[0-9a-f]{{{2 * _RANDOM_BYTES}}}")

# Both systems' names for a rename that swaps two paths, relative to the working directory.
_LINUX_EXCHANGE, _MACOS_SWAP, _HERE = 2, 2, -100
# Why a swap may be impossible, where two renames are not: the system, or this file system.
_NO_SWAP = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV, errno.EPERM)
# Each is lost only to another process that does the same in the microseconds between two renames.
_ATTEMPTS = 100


@contextmanager
def own_folder(parent: Path, prefix: str, mode: int = 0o777) -> Iterator[Path]:
    """A new folder ``parent/PREFIX<16 hexadecimal digits>``, gone when the context ends.

    It is locked while the context lasts. The kernel gives up the locks of a killed process, so that
    what such a process left behind is known by its lock, and is removed here by the next one.

    Args:
        parent: a folder that is there.
        prefix: of its name; what has the same one beside it is looked through.
        mode: before the umask.

    Raises:
        OSError: the folder cannot be made.
    """
    remove_leftovers(parent, prefix)
    lock = None
    try:
        while True:
            path = parent / f"{prefix}{secrets.token_hex(_RANDOM_BYTES)}"
            path.mkdir(mode)
            # Before it is locked, another process may take it for a leftover.
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                lock = _locked(path)
                if path.exists():
                    break
            if lock is not None:
                os.close(lock)
                lock = None
        yield path
    finally:
        try:
            shutil.rmtree(path, ignore_errors=True)
        finally:  # a signal may have interrupted it
            shutil.rmtree(path, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove the folders of :func:`own_folder` whose processes were killed."""
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    except OSError:
        return
    for name in names:
        path = parent / name
        if not _RANDOM.fullmatch(name.removeprefix(prefix)):
            continue
        with contextlib.suppress(OSError):
            # In a folder for temporary files, those of others are none of our business.
            if path.is_symlink() or path.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def put_in_place(fresh: Path, place: Path) -> None:
    """Let a folder take a name: at once, so that there is always a whole folder of that name.

    Args:
        fresh: the folder; what was at ``place`` is there afterwards, or nothing.
        place: its name, on the same file system.

    Raises:
        OSError: it cannot be renamed; both are what they were.
    """
    for _ in range(_ATTEMPTS):
        try:
            fresh.rename(place)  # an empty folder is replaced, too
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        # Between the two, another process may have taken the old folder away.
        with contextlib.suppress(FileNotFoundError):
            _exchange(fresh, place)
            return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(place))


def _exchange(fresh: Path, place: Path) -> None:
    try:
        swap(fresh, place)
        return
    except OSError as error:
        if error.errno not in _NO_SWAP:
            raise
    # Killed between the next two lines, a process leaves the old folder under this name.
    before = fresh.with_name(f"{fresh.name}.before")
    place.rename(before)
    try:
        fresh.rename(place)
    except OSError:
        before.rename(place)
        raise
    before.rename(fresh)


def swap(one: Path, other: Path) -> None:
    """Exchange two paths in one step.

    Raises:
        OSError: they cannot be exchanged; ``ENOSYS`` where the system cannot do so at all.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        arguments: tuple[object, ...] = (*names, ctypes.c_uint(_MACOS_SWAP))
        call = getattr(libc, "renamex_np", None)
    else:
        arguments = (_HERE, names[0], _HERE, names[1], ctypes.c_uint(_LINUX_EXCHANGE))
        call = getattr(libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))


def _locked(path: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where the file system has no locks.

    Raises:
        BlockingIOError: another process holds it.
    """
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise
    except OSError:
        os.close(lock)
        return None
    return lock
