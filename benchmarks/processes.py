"""Processes, their memory and their time, from /proc."""

import contextlib
import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def parents() -> dict[int, int]:
    """Each process's parent, those that ended and were not waited for included."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(path.name)] = int(_status(path.name)[1])
    return found


def cpu_seconds(pid: int) -> float:
    """That it has computed, in all its threads.

    Raises:
        OSError: it has ended.
    """
    status = _status(pid)
    return (int(status[11]) + int(status[12])) / _TICKS_PER_SECOND


def rss_bytes(pid: int) -> int:
    """Resident memory, or 0 when the process has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def peak_rss_bytes(pid: int) -> int:
    """The most resident memory since the start, or since :func:`reset_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _status(pid: int | str) -> list[str]:
    """The fields of proc_pid_stat(5) from the third on: the second may hold any character."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def reset_peak(pid: int) -> None:
    """Have :func:`peak_rss_bytes` count from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
