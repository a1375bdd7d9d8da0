"""How many CPUs a process may use."""

import os
from pathlib import Path

import pytest

from service.engine.cpus import available_cpus


def test_cpus_are_those_one_may_use() -> None:
    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64)]
)
def test_a_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr("service.engine.cpus._CGROUPS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr("service.engine.cpus._own_cgroups", lambda: ["0::/some/where"])
    assert available_cpus() == expected
