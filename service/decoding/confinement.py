"""What a decode worker may not do: the one place where it gives up its powers.

Called after imports and warm-up, when the worker needs no more files, and before it reads a
stranger's first byte. Resource limits for now; a system call filter belongs here too, and nothing
a worker does after this point needs to open a file, start a process or reach the network.
"""

import ctypes
import math
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that happens.

    Where the kernel cannot, the worker still ends at its next look at the closed socket.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(0)


def confine() -> None:
    """Give up what no clip needs: core dumps, new files, further descriptors, new privileges."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Blocks arrive with their size; nothing may grow, so that no decoder writes a file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # The socket, two blocks, and the few that libraries opened while they were imported.
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    if sys.platform == "linux":
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def limit_job(memory_bytes: int, cpu_seconds: float) -> None:
    """Cap what the next clip may take on top of what the process has and has used already.

    The soft limits move with each job: RLIMIT_CPU counts for the life of a process, and the address
    space includes all that was there before the clip.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = math.ceil(used.ru_utime + used.ru_stime + cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))
    if occupied := _address_space_bytes():
        resource.setrlimit(resource.RLIMIT_AS, (occupied + memory_bytes, resource.RLIM_INFINITY))


def _address_space_bytes() -> int:
    """Size of this process's address space, or 0 where the system does not say."""
    try:
        return int(_statm()) * resource.getpagesize()
    except OSError:
        return 0


def _statm() -> bytes:
    # Opened once, because a confined worker opens nothing.
    global _statm_descriptor
    if _statm_descriptor is None:
        _statm_descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    return os.pread(_statm_descriptor, 128, 0).split()[0]


_statm_descriptor: int | None = None


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
