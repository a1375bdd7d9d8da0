"""Anonymous shared memory: a clip's bytes on the way in, its frames on the way out.

A block has no name, so that there is nothing to unlink: it is gone when the last descriptor is,
however the processes that held it ended. Its size is sealed where the system can do that, because
a file that another process may shrink kills the process that reads the mapping.
"""

import copy
import hashlib
import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

from service.decoding.descriptors import OwnedDescriptor

try:
    import fcntl

    _SEAL_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    _SEAL_CONTENT = _SEAL_SIZE | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
except (ImportError, AttributeError):  # not Linux: the blocks work, unsealed
    _SEAL_SIZE = _SEAL_CONTENT = 0


class SharedBlock(OwnedDescriptor):
    """A descriptor of anonymous memory; closing it gives the memory back."""

    def __init__(self, name: str, size: int = 0) -> None:
        """Make a block of ``size`` zero bytes; ``name`` is for /proc alone."""
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            with tempfile.TemporaryFile() as file:  # unlinked from the start on POSIX
                self._descriptor = os.dup(file.fileno())
        self._size = size
        self._sealed = _SEAL_SIZE == 0
        if size:
            os.ftruncate(self._descriptor, size)

    @property
    def size(self) -> int:
        return self._size

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` at the end."""
        view = memoryview(data).cast("B")
        while view:
            written = os.pwrite(self.fileno(), view, self._size)
            self._size += written
            view = view[written:]

    async def settle(self) -> None:
        """Nothing: memory has what was written."""

    def read(self, count: int) -> bytes:
        """The first ``count`` bytes, or all there are."""
        return os.pread(self.fileno(), count, 0)

    def share(self) -> "SharedBlock":
        """The same memory by a descriptor of its own, which outlives this one."""
        descriptor = os.dup(self.fileno())  # first: a copy without one of its own closes ours
        other = copy.copy(self)
        other._descriptor = descriptor
        return other

    def take_over(self, other: "SharedBlock") -> None:
        """Have the other's memory in the place of one's own, without copying it; the other is
        closed."""
        self.close()
        self._descriptor, other._descriptor = other._descriptor, -1
        self._size, self._sealed = other._size, other._sealed

    def sha256(self) -> bytes:
        """The digest of the content; takes time, but lets other threads run meanwhile."""
        if not self._size:
            return hashlib.sha256().digest()
        with mmap.mmap(self.fileno(), self._size, access=mmap.ACCESS_READ) as content:
            return hashlib.sha256(content).digest()

    def seal_content(self) -> None:
        """From now on nobody can change, shrink or grow the block; again does nothing."""
        self._seal(_SEAL_CONTENT)

    def seal_size(self) -> None:
        """From now on nobody can shrink or grow the block."""
        self._seal(_SEAL_SIZE)

    def _seal(self, seals: int) -> None:
        if not self._sealed:
            fcntl.fcntl(self.fileno(), fcntl.F_ADD_SEALS, seals)
            self._sealed = True

    def content(self) -> NDArray[np.uint8]:
        """The content, uint8 [bytes]; it stays valid after the block is closed.

        Raises:
            ValueError: the block's real size is not the one it was made with.
        """
        actual = os.fstat(self.fileno()).st_size
        if actual != self._size:
            raise ValueError(f"the block has {actual} bytes, and was made with {self._size}")
        mapping = mmap.mmap(self.fileno(), actual, access=mmap.ACCESS_READ)
        return np.frombuffer(mapping, dtype=np.uint8)
