"""What a service takes while it runs: memory, descriptors and processes, from /proc."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.processes import parents, rss_bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """The serving process and its children at one moment."""

    seconds: float
    requests: int
    rss_bytes: int
    workers_rss_bytes: int
    descriptors: int
    processes: int
    threads: int


@dataclass
class Watch:
    """Samples a process from a thread, for as long as the ``with`` block lasts."""

    pid: int
    requests: Callable[[], int]
    every_seconds: float = 0.25
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self.every_seconds):
            try:
                self.samples.append(self._sample())
            except OSError:  # the process has ended, which the watcher notices by itself
                return

    def _sample(self) -> Sample:
        proc = Path(f"/proc/{self.pid}")
        pids = [pid for pid, parent in parents().items() if parent == self.pid]
        return Sample(
            seconds=time.monotonic() - self._began,
            requests=self.requests(),
            rss_bytes=rss_bytes(self.pid),
            workers_rss_bytes=sum(rss_bytes(pid) for pid in pids),
            descriptors=sum(1 for _ in (proc / "fd").iterdir()),
            processes=1 + len(pids),
            threads=sum(1 for _ in (proc / "task").iterdir()),
        )
