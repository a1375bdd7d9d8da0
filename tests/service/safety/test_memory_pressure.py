"""A machine that has no more memory: the kernel ends a decode worker, and not the service."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_server import SERVE, Server, wait_for

from benchmarks.safety.answers import judge
from benchmarks.safety.hostile import make_hostile

pytestmark = pytest.mark.long

MiB = 1024 * 1024
CGROUPS = Path("/sys/fs/cgroup")


class Cgroup:
    """A cgroup of its own, of version 1 or 2, whose memory can be limited."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        files = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        self._limit, self._usage = next(
            (path / limit, path / usage) for limit, usage in files if (path / limit).exists()
        )

    @property
    def usage_bytes(self) -> int:
        return int(self._usage.read_text())

    def limit(self, size: int) -> None:
        self._limit.write_text(str(size))

    def remove(self) -> None:
        wait_for(lambda: not (self.path / "cgroup.procs").read_text(), "the cgroup to be empty")
        self.path.rmdir()


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """Skips where this process may not make one, as in most containers."""
    for parent in (CGROUPS / "memory", CGROUPS):
        with contextlib.suppress(OSError, StopIteration):
            group = Cgroup(parent / f"lookwhen-test-{uuid.uuid4().hex}")
            break
    else:
        pytest.skip("no memory cgroup can be made here")
    yield group
    group.remove()


def test_the_kernel_ends_a_worker_and_not_the_service(
    cgroup: Cgroup, brightness_bundle: Path, white: Path, tmp_path: Path
) -> None:
    (bomb,) = make_hostile(tmp_path / "bomb", "resolution_bomb.mp4")
    # Every limit of ours is out of the way: what is left is the machine's memory.
    entering = f'echo $$ > {cgroup.path}/cgroup.procs && exec "$@"'
    server = Server(
        brightness_bundle, tmp_path / "log", command=["sh", "-c", entering, "sh", *SERVE],
        max_frame_pixels=16384 * 16384, decode_memory_bytes=1 << 40, decode_timeout_seconds=100,
    ).wait_until_ready()  # fmt: skip
    try:
        (worker,) = server.worker_pids()
        assert int(Path(f"/proc/{worker}/oom_score_adj").read_text()) > int(
            Path(f"/proc/{server.process.pid}/oom_score_adj").read_text()
        )
        assert server.classify(white).status_code == 200
        cgroup.limit(cgroup.usage_bytes + 128 * MiB)
        for killed in (1, 2):
            headers = {"content-type": "video/mp4"}
            response = server.client.post("/classify", content=bomb.data, headers=headers)
            assert judge(response).code == "decoder_crashed"
            wait_for(lambda: server.client.get("/readyz").status_code == 200, "readiness")
            assert server.classify(white).status_code == 200
            reason = {"reason": "crashed"}
            assert server.metric("lookwhen_decode_worker_restarts_total", **reason) == killed
        assert server.process.poll() is None
        assert server.metric("lookwhen_requests_in_flight") == 0
    finally:
        cgroup.limit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        assert server.stop() == 0
