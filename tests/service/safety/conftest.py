"""Clips that several of the proofs damage."""

import pytest

from benchmarks.safety.clips import write_clips


@pytest.fixture(scope="session")
def fuzz_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Well-formed clips of every kind, a few kilobytes each."""
    return write_clips(tmp_path_factory.mktemp("fuzz"))
