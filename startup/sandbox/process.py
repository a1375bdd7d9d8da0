"""What the calling process gives up for good, in the order in which the kernel lets it."""

import os
from pathlib import Path

from startup.sandbox import landlock, seccomp, syscalls


def drop_powers() -> None:
    """Gain no privileges any more, and give up those that there are.

    A process of a service that runs as root so has no more powers than others': root's could lift
    the very limits that hold it.

    Raises:
        PermissionError: the process is root's, and may not drop its capabilities.
    """
    syscalls.no_new_privileges()
    try:
        syscalls.drop_capabilities()
    except PermissionError:
        if os.geteuid() == 0:
            raise
        # Another filter forbids the call, to a process that has nothing to drop.


def close_off() -> tuple[bool, bool]:
    """Give up files, programs, new processes and the network, as far as the kernel knows how.

    Needs :func:`drop_powers` first.

    Returns:
        Whether the process is confined by Landlock, and whether by seccomp.
    """
    # Landlock first: it opens a descriptor, which the filter would refuse. It does not reach
    # threads that are there already, so that with some it would only seem to confine.
    landlocked = threads() == 1 and landlock.restrict()
    return landlocked, seccomp.supported() and seccomp.restrict(os.getpid())


def threads() -> int:
    """Threads of this process."""
    return len(list(Path("/proc/self/task").iterdir()))
