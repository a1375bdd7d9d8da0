"""Landlock: the kernel refuses every file, program, TCP port and foreign signal but what is named.

What was opened before stays usable, so that a worker calls this when it needs no more files. The
rules of the kernel's interface are in its documentation (userspace-api/landlock); we handle every
right that the running kernel knows, and allow none of them without a rule.

Through the two system calls themselves: of the package ``landlock`` there are only development
releases.
"""

import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from startup.sandbox import syscalls

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_BENEATH, _PORT = 1, 2  # kinds of rules
_VERSION = 1  # flag: say which interface the kernel has

# From which interface on the kernel knows how many rights: execute, write, read, ... (13),
# refer, truncate, ioctl.
_FILE_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
_NETWORK_FROM, _NETWORK = 4, 0b11  # bind and connect TCP
_CONNECT = 0b10
_SCOPE_FROM, _SCOPE = 6, 0b11  # abstract UNIX sockets and signals outside the sandbox

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1, 2, 4, 8
_IOCTL_FROM, _IOCTL = 5, 1 << 15


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may still be opened.

    Attributes:
        read: files, and folders with all beneath them.
        run: programs.
        devices: that are read, written and controlled.
        ports: TCP ports that may be connected to; the kernel holds to them from Linux 6.7 on.
    """

    read: tuple[Path, ...] = ()
    run: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    ports: tuple[int, ...] = ()


NOTHING = Allowed()


def interface() -> int:
    """Version of Landlock's interface in the running kernel, or 0 where there is none."""
    try:
        return syscalls.syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES):
            return 0  # not compiled in, not switched on, or hidden by a container's filter
        raise


def attributes(version: int) -> bytes:
    """``struct landlock_ruleset_attr`` that handles everything this version knows."""
    files = max(count for since, count in _FILE_RIGHTS if since <= version)
    fields = [(1 << files) - 1]
    if version >= _NETWORK_FROM:
        fields.append(_NETWORK)
    if version >= _SCOPE_FROM:
        fields.append(_SCOPE)
    return struct.pack(f"={len(fields)}Q", *fields)


def restrict(allowed: Allowed = NOTHING) -> bool:
    """Give up files, programs, TCP and foreign signals, but for what is ``allowed``, for good.

    Covers the calling thread and those it starts later, so that there must be no other yet. Needs
    :func:`startup.sandbox.syscalls.no_new_privileges` first. What is not there is not allowed.

    Returns:
        False where the kernel has no Landlock.
    """
    version = interface()
    if version == 0:
        return False
    attribute = attributes(version)
    ruleset = syscalls.syscall(_CREATE_RULESET, attribute, len(attribute), 0)
    try:
        _allow(ruleset, allowed.read, _READ_FILE, _READ_FOLDER)
        _allow(ruleset, allowed.run, _EXECUTE | _READ_FILE)
        control = _IOCTL if version >= _IOCTL_FROM else 0
        _allow(ruleset, allowed.devices, _READ_FILE | _WRITE_FILE | control)
        if version >= _NETWORK_FROM:
            for port in allowed.ports:
                syscalls.syscall(_ADD_RULE, ruleset, _PORT, struct.pack("=QQ", _CONNECT, port), 0)
        syscalls.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, paths: Iterable[Path], rights: int, of_folders: int = 0) -> None:
    for path in paths:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            given = rights | (of_folders if path.is_dir() else 0)
            syscalls.syscall(_ADD_RULE, ruleset, _BENEATH, struct.pack("=Qi", given, place), 0)
        finally:
            os.close(place)
