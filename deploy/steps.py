"""What a set-up shows: one line for each of its steps; the rest goes into a log.

    [2/5] torch without CUDA ... 41 s

Needs nothing but the standard library, because it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

TAIL_LINES = 15


class Steps:
    """Shows which step runs and for how long, and keeps what its programs say.

    On a terminal the line of the running step is written anew each second, with the last thing
    that its program said, so that a person who waits sees that it is alive. Elsewhere each line is
    written once: its name when the step starts, its seconds when it ends.

    Args:
        log: the file that gets everything the programs say; an earlier one is replaced.
        count: the number of steps to come.
        out: where the lines go; standard output by default.
    """

    def __init__(self, log: Path, count: int, out: TextIO | None = None) -> None:
        self.log = log
        self._count = count
        self._number = 0
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._file = log.open("w", encoding="utf-8")

    @property
    def tail(self) -> list[str]:
        """The last lines that the running step, or the one that ended last, has logged."""
        return list(self._tail)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the step while the block runs; one that raises is shown as failed."""
        self._number += 1
        self._tail.clear()
        title = f"[{self._number}/{self._count}] {name} ..."
        start = time.monotonic()
        if not self._live:
            self._out.write(title)
            self._out.flush()
        ended = threading.Event()
        ticking = threading.Thread(target=self._tick, args=(title, start, ended), daemon=True)
        if self._live:
            ticking.start()
        outcome = "failed after "
        try:
            yield
            outcome = ""
        finally:
            ended.set()
            if self._live:
                ticking.join()
            began_anew = f"\r\x1b[K{title}" if self._live else ""
            self._out.write(f"{began_anew} {outcome}{time.monotonic() - start:.0f} s\n")
            self._out.flush()

    def run(self, command: Sequence[str]) -> bool:
        """Run a command with no input and its output in the log; whether it exited 0."""
        self.note(f"+ {shlex.join(command)}")
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                self.note(line)
        return process.returncode == 0

    def note(self, line: str) -> None:
        """Add a line to the log."""
        line = line.rstrip()
        self._file.write(f"{line}\n")
        self._file.flush()
        if line:
            self._tail.append(line)

    def _tick(self, title: str, start: float, ended: threading.Event) -> None:
        while not ended.wait(1):
            said = self._tail[-1] if self._tail else ""
            line = f"{title} {time.monotonic() - start:.0f} s  {said}"
            # a line that wrapped could not be overwritten
            line = "".join(c if c.isprintable() else " " for c in line)
            self._out.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
            self._out.flush()

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
