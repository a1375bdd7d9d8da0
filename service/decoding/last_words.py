"""What a decode worker says on standard error before it is ready.

A worker that cannot even be started as a program has no other way to say why. Later, standard error
belongs to FFmpeg, whose messages quote the clip: a worker that is ready has turned it off.
"""

import asyncio
import os
from typing import IO

# What is kept, and what of it is quoted: a log line holds 2,000 characters of a value.
_KEPT_BYTES = 16_384
_QUOTED_CHARACTERS = 1_400
# More than a pipe holds: what a worker has written by its end is read, and not what another process
# that has inherited its standard error goes on writing.
_LEFT_BYTES = 1 << 20


class LastWords:
    """The end of what comes out of a pipe. The process that writes into it never waits for long.

    Of the event loop in which it is made. It holds the pipe open until :meth:`close`.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._text = b""
        os.set_blocking(pipe.fileno(), False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pipe.fileno(), self._read)

    def close(self) -> None:
        """Read what is there and close the pipe; not for the first time it does nothing."""
        left = _LEFT_BYTES
        while left > 0 and (read := self._read()):
            left -= read
        self._forget()

    def quoted(self) -> str:
        """The last lines in one, as the end of a sentence; empty where nothing was said."""
        lines = self._text.decode(errors="replace").splitlines()
        text = " | ".join(line.strip() for line in lines if line.strip())
        text = "".join(character if character.isprintable() else "?" for character in text)
        if len(text) > _QUOTED_CHARACTERS:
            text = "... " + text[-_QUOTED_CHARACTERS:]
        return f"; it said: {text}" if text else ""

    def _read(self) -> int:
        """Take what is there; how many bytes that were."""
        if self._pipe.closed:
            return 0
        try:
            data = os.read(self._pipe.fileno(), 65_536)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:  # nobody writes any more
            self._forget()
        self._text = (self._text + data)[-_KEPT_BYTES:]
        return len(data)

    def _forget(self) -> None:
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
