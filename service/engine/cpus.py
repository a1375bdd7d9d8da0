"""How many CPUs this process may really use: affinity and the cgroup's quota, not the machine's."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """At least 1: the CPUs of the affinity mask, or fewer where a cgroup's quota says so.

    ``os.cpu_count()`` counts the machine's, and a container with two of sixty-four would start
    sixty-four threads that wait for each other.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cgroup_quota()
    return max(1, min(affinity or 1, math.ceil(quota) if quota else affinity or 1))


def _cgroup_quota() -> float | None:
    """The tightest quota from this process's cgroup up to the root, in CPUs."""
    quotas = []
    for line in _own_cgroups():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, read = _CGROUPS, _read_v2
        elif "cpu" in controllers.split(","):
            base, read = _CGROUPS / "cpu", _read_v1
        else:
            continue
        group = base / path.lstrip("/")
        while group.is_relative_to(base):
            if (quota := read(group)) is not None:
                quotas.append(quota)
            group = group.parent
    return min(quotas, default=None)


def _own_cgroups() -> list[str]:
    try:
        return Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []


def _read_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _read_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        return quota / int((group / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    except (OSError, ValueError):
        return None
