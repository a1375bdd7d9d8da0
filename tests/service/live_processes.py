"""Which processes there are, and which of them decode workers are forked off."""

import os
from pathlib import Path

from service.decoding.protocol import WORKER_NAME


def children(of: int) -> list[int]:
    """The children that a process's main thread started or adopted."""
    return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


def command(pid: int) -> bytes:
    """The command line of a process; a forked one has that of whom it was forked off."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def zygotes() -> list[int]:
    """The processes that this one's decode workers are forked off."""
    return [
        pid for pid in children(os.getpid())
        if b"service.decoding.zygote" in command(pid)
        and Path(f"/proc/{pid}/comm").read_text().strip() != WORKER_NAME
    ]  # fmt: skip
