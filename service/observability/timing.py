"""The stages of a clip's way and the time each took."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

# Those of every clip, and the one of those of which a picture or a film was asked for.
ANSWER_STAGES = ("admit", "upload", "decode", "select", "queue", "extract")
STAGES = (*ANSWER_STAGES, "encode")


@dataclass(slots=True)
class Trace:
    """How long each stage of one clip took, also of one that failed on the way."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @property
    def total(self) -> float:
        return time.perf_counter() - self.began

    def server_timing(self) -> str:
        """The value of the ``Server-Timing`` header, in milliseconds as the standard has it."""
        parts = [f"{name};dur={1000 * seconds:.2f}" for name, seconds in self.seconds.items()]
        return ", ".join([*parts, f"total;dur={1000 * self.total:.2f}"])
