"""A file on a disk without a name: for videos that are too long to be held in memory.

Nobody else can open it, and it is gone when its last descriptor is, however the processes end that
held one. A decode worker gets a descriptor that reads, and never a path.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from service.decoding.descriptors import OwnedDescriptor

# What is written at once: the event loop hands over pieces of 64 KiB.
_WRITE_BYTES = 1 << 20


class UnnamedFile(OwnedDescriptor):
    """A file that is written once, from its beginning; closing it gives the disk back.

    Args:
        folder: where it lies; its file system is what gets full.

    Raises:
        OSError: there can be no file.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except (AttributeError, OSError):
            # Not Linux, or a file system without such files: unlinked from the start all the same.
            with tempfile.TemporaryFile(dir=folder) as file:
                self._descriptor = os.dup(file.fileno())
        self._waiting = bytearray()
        self._written = 0

    @property
    def size(self) -> int:
        return self._written + len(self._waiting)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Take ``data``, which :meth:`settle` writes at the end."""
        self._waiting += data

    async def settle(self) -> None:
        """Write what has been taken, once it is worth while; a disk may take its time, and the
        event loop does not wait for it.

        Raises:
            OSError: the disk is full, or broken.
        """
        if len(self._waiting) >= _WRITE_BYTES:
            await self._write()

    async def complete(self) -> None:
        """Write the rest; raises as :meth:`settle` does."""
        if self._waiting:
            await self._write()

    async def _write(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        place, self._written = self._written, self._written + len(data)
        await asyncio.to_thread(_write_all, self.fileno(), data, place)

    def read(self, count: int) -> bytes:
        """The first ``count`` bytes, or all there are."""
        if self._written:
            return os.pread(self.fileno(), count, 0)
        return bytes(self._waiting[:count])

    def reader(self) -> "Reader":
        """A descriptor of its own that cannot write."""
        return Reader(self.fileno())


class Reader(OwnedDescriptor):
    """A descriptor that reads a file, of one's own or of the system's."""

    def __init__(self, of: int) -> None:
        try:
            # Opened anew by the descriptor, because a copy of it could write as well.
            self._descriptor = os.open(f"/proc/self/fd/{of}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = os.dup(of)
        self.size = os.fstat(self._descriptor).st_size


def _write_all(descriptor: int, data: bytearray, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, place)
        place += written
        view = view[written:]
