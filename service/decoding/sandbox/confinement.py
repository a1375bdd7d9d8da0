"""What a decode worker may not do: the one place where it gives up its powers.

Called after imports and warm-up, when the worker needs no more files, and before it reads a
stranger's first byte. Nothing a worker does after this point opens a file, starts a process or
reaches the network; what tries to was sent by the stranger.
"""

import contextlib
import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Literal

from service.decoding.protocol import SANDBOXES, Sandbox
from startup.sandbox import syscalls
from startup.sandbox.process import close_off, drop_powers

# Half of all memory on top of what it has, when the kernel compares it with the service.
_OOM_SCORE = 500
_HIGHEST_OOM_SCORE = 1000

SandboxPolicy = Literal["require", "prefer", "off"]


class SandboxError(Exception):
    """The kernel does not give what the settings require; the text says what and what to do."""


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that happens.

    Where the kernel cannot, the worker still ends at its next look at the closed socket.
    """
    if sys.platform == "linux":
        syscalls.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(0)


def volunteer() -> None:
    """Have a kernel that is short of memory end this process rather than the service.

    A worker's end fails the one clip that it was decoding, the service's end all of them. Where the
    service is among the first to go already, nothing can be gained.
    """
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError):  # not Linux, or /proc is not to be written to
        score.write_text(str(min(_HIGHEST_OOM_SCORE, int(score.read_text()) + _OOM_SCORE)))


def confine(policy: SandboxPolicy, descriptors: int) -> Sandbox:
    """Give up what no clip needs: files, programs, the network, processes, new privileges.

    Args:
        policy: ``require`` fails without both Landlock and seccomp, ``prefer`` takes what there
            is, ``off`` leaves it at resource limits.
        descriptors: how many it may have open.

    Returns:
        What the worker is confined by.

    Raises:
        SandboxError: a sandbox is required and the kernel has no such thing.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Blocks arrive with their size; nothing may grow, so that no decoder writes a file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = descriptors if most == resource.RLIM_INFINITY else min(descriptors, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    active: Sandbox = "rlimits"
    if sys.platform == "linux":
        drop_powers()
        if policy != "off":
            active = _sandbox()
    if policy == "require" and active != SANDBOXES[-1]:
        raise SandboxError(
            f"LOOKWHEN_DECODE_SANDBOX=require, but this kernel gives a decode worker no more than "
            f"{active}; {SANDBOXES[-1]} needs Linux 5.13 or newer on x86_64 or aarch64 with "
            "Landlock switched on. Use such a kernel, or accept this one with "
            "LOOKWHEN_DECODE_SANDBOX=prefer"
        )
    return active


def _sandbox() -> Sandbox:
    landlocked, filtered = close_off()
    if landlocked:
        return "landlock+seccomp" if filtered else "landlock"
    return "seccomp" if filtered else "rlimits"


def limit_job(memory_bytes: int | None, cpu_seconds: float) -> None:
    """Cap what the next clip may take on top of what the process has and has used already.

    The soft limits move with each job: RLIMIT_CPU counts for the life of a process, and the address
    space includes all that was there before the clip. The hard limit of the address space is the
    parent's, see :func:`limit_worker`.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = math.ceil(used.ru_utime + used.ru_stime + cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))
    if memory_bytes is not None and (occupied := _address_space_bytes()):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        soft = occupied + memory_bytes
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def limit_worker(pid: int, address_space_bytes: int) -> None:
    """Cap the address space of another process of ours for good: it can lower its own soft limit
    and raise it again up to this, also after it was taken over.

    Where the system has no such call, each job's own limit is all there is.
    """
    if sys.platform == "linux":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(pid, resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))


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
