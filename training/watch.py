"""What the processes of a run tell each other beside their collectives: that one of them failed.

A process that waits in a collective hears nothing of another that will never come: with NCCL it
waits until the group's time-out, which is hours. So each process has a thread that looks at the
group's store: a failure that another process wrote there, or one that shows no sign of life any
more, ends this process with a sentence.
"""

import os
import socket
import sys
import threading
import time

from torch.distributed.distributed_c10d import Store

INTERVAL_SECONDS = 1.0
# A failure that all processes agree on is raised in each: this long a process has for that.
GRACE_SECONDS = 5.0
# So long may one be deaf to its own thread, reading a slow disk for instance. Our choice.
SILENCE_SECONDS = 600.0

_FAILED = "failed"


def process_name(rank: int) -> str:
    """How messages call this process: its number, its node's, and the node's name."""
    return f"process {rank} (node {os.environ.get('GROUP_RANK', '0')}, {socket.gethostname()})"


class Watch:
    """Looks after the other processes of a group, in a thread.

    Args:
        store: a connection of its own, for the main thread may wait in another.
        rank, world: of this process.
    """

    def __init__(self, store: Store, rank: int, world: int) -> None:
        self._store, self._rank, self._world = store, rank, world
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._name = process_name(rank)
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._store.set(f"name/{rank}", self._name)
        self._thread.start()

    def tell(self, reason: str) -> None:
        """Tell the others that this process ends, and why; the first of them to do so is heard."""
        try:
            with self._lock:
                self._store.compare_set(_FAILED, "", f"{self._name} ended: {reason}")
        except RuntimeError:
            pass  # the process that keeps the store has ended, and everybody notices that

    def heard(self, seconds: float = GRACE_SECONDS) -> str | None:
        """What another process told before it ended, once it has, within ``seconds``."""
        until = time.monotonic() + seconds
        while True:
            said = self._failure()
            if said is not None or time.monotonic() >= until:
                return said
            time.sleep(0.1)

    def close(self) -> None:
        """Stop looking: this process leaves."""
        self._leaving.set()
        self._thread.join(timeout=2 * INTERVAL_SECONDS)

    def _failure(self) -> str | None:
        try:
            with self._lock:
                if self._store.check([_FAILED]):
                    return self._store.get(_FAILED).decode()
        except RuntimeError:
            return "the process that keeps the group together has ended"
        return None

    def _look(self) -> None:
        # Each looks after the next one, so that a look costs the same in a group of any size.
        next_one = (self._rank + 1) % self._world
        beat, last, changed = 0, b"", time.monotonic()
        while not self._leaving.wait(INTERVAL_SECONDS):
            beat += 1
            said = self._failure()
            if said is None:
                try:
                    with self._lock:
                        self._store.set(f"alive/{self._rank}", str(beat))
                        key = f"alive/{next_one}"
                        theirs = self._store.get(key) if self._store.check([key]) else b""
                        name = f"name/{next_one}"
                        known = self._store.get(name) if self._store.check([name]) else b""
                except RuntimeError:
                    continue  # the next look says why
                if theirs != last:
                    last, changed = theirs, time.monotonic()
                elif time.monotonic() - changed > SILENCE_SECONDS:
                    who = known.decode() or f"process {next_one}"
                    said = f"{who} has shown no sign of life for {SILENCE_SECONDS:.0f} s"
                    self.tell(f"gave up, because {said}")
            if said is not None:
                self._end(said)

    def _end(self, said: str) -> None:
        if self._leaving.wait(GRACE_SECONDS):
            return
        print(f"Error: {self._name} ends, because {said}", file=sys.stderr, flush=True)
        # The main thread waits inside a collective, where no exception reaches it.
        os._exit(1)
