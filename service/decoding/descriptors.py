"""Descriptors that are owned, and what a clip's bytes are put into."""

import os
from types import TracebackType
from typing import Protocol, Self


class Descriptor(Protocol):
    """What can be handed to a decode worker."""

    def fileno(self) -> int: ...


class Room(Descriptor, Protocol):
    """What a clip's bytes are put into as they come: memory, or a file without a name."""

    @property
    def size(self) -> int: ...

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Take ``data`` at the end."""

    def read(self, count: int) -> bytes:
        """The first ``count`` bytes, or all there are."""

    async def settle(self) -> None:
        """Put what was taken where it belongs, if that takes its time."""


class OwnedDescriptor:
    """Closes a descriptor when it is no longer needed, and not twice."""

    _descriptor = -1

    def fileno(self) -> int:
        """Its number.

        Raises:
            ValueError: it is closed.
        """
        if self._descriptor < 0:
            raise ValueError("the descriptor is closed")
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
