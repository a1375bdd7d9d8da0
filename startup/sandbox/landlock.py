"""Landlock with no rules: the kernel refuses every file, program, TCP port and foreign signal.

What was opened before stays usable, so that a worker calls this when it needs no more files. The
rules of the kernel's interface are in its documentation (userspace-api/landlock); we handle every
right that the running kernel knows, and allow none of them.

Through the two system calls themselves: of the package ``landlock`` there are only development
releases.
"""

import errno
import os
import struct

from startup.sandbox import syscalls

# The same on every architecture.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_VERSION = 1  # flag: say which interface the kernel has

# From which interface on the kernel knows how many rights: execute, write, read, ... (13),
# refer, truncate, ioctl.
_FILE_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
_NETWORK_FROM, _NETWORK = 4, 0b11  # bind and connect TCP
_SCOPE_FROM, _SCOPE = 6, 0b11  # abstract UNIX sockets and signals outside the sandbox


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


def restrict() -> bool:
    """Give up files, programs, TCP and foreign signals, for good.

    Covers the calling thread and those it starts later, so that there must be no other yet. Needs
    :func:`startup.sandbox.syscalls.no_new_privileges` first.

    Returns:
        False where the kernel has no Landlock.
    """
    version = interface()
    if version == 0:
        return False
    attribute = attributes(version)
    ruleset = syscalls.syscall(_CREATE_RULESET, attribute, len(attribute), 0)
    try:
        syscalls.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True
