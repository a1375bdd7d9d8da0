"""Signals beside SIGTERM and SIGINT, whose default would end the service in the middle of answers.

SIGHUP means two things. A supervisor or a script sends it so that a service reads something anew:
there is nothing to read anew, and it is only logged. A terminal that closes sends it as well, and
the person who started a service there does not expect it to run for ever: it ends, in good order.
Where SIGHUP was ignored from the start (`nohup`), it stays so.
"""

import contextlib
import logging
import os
import signal
import time
from types import FrameType

logger = logging.getLogger(__name__)

# SIGUSR1 and SIGUSR2: what rotates logs sends either to whatever writes some.
_NOTED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# A shell may tell its jobs a moment before it ends, and the terminal with it.
_TERMINAL_ENDS_SECONDS = 1.0


class Signals:
    """Notes signals when they come, and says later, outside of any handler, what they mean."""

    def __init__(self) -> None:
        self._noted: set[int] = set()
        self._hung_up_at: float | None = None
        self._on_terminal = _has_terminal()

    def install(self) -> None:
        """Take the signals over for the rest of the process's life."""
        for sig in _NOTED:
            if signal.getsignal(sig) is not signal.SIG_IGN:
                signal.signal(sig, self._note)

    def terminal_closed(self) -> bool:
        """Log what has come since the last call; True once the terminal has closed.

        To be called often: whether a SIGHUP came from a terminal shows within a second.
        """
        while self._noted:
            sig = self._noted.pop()
            if sig == signal.SIGHUP and self._on_terminal:
                self._hung_up_at = time.monotonic()
            else:
                _log(sig)
        if self._hung_up_at is None:
            return False
        if not _has_terminal():
            self._hung_up_at = None
            return True
        if time.monotonic() - self._hung_up_at > _TERMINAL_ENDS_SECONDS:
            self._hung_up_at = None
            _log(signal.SIGHUP)
        return False

    def _note(self, sig: int, frame: FrameType | None) -> None:
        self._noted.add(sig)


def _log(sig: int) -> None:
    logger.info("a signal that changes nothing", extra={"signal": signal.Signals(sig).name})


def _has_terminal() -> bool:
    """Whether this process has a terminal that controls it, and that is still there."""
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        return True
    return False
