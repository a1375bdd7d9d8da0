"""Signals that end a process leave it the time to put away what it has begun.

Python does so for Ctrl-C alone. SIGTERM and SIGHUP end a process on the spot, and what it was
writing stays behind: gigabytes, where the weights of a network are rewritten.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """A signal has come; no `except Exception` is meant by it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, _frame: FrameType | None) -> None:
    # A second one ends the process at once, should putting away hang.
    signal.signal(number, signal.SIG_DFL)
    raise _Stopped(number)


@contextmanager
def putting_away() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack; then the process ends by that signal after all.

    A signal that is ignored (`nohup`) or handled by somebody else stays so. In another thread than
    the main one nothing changes.
    """
    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [one for one in _ENDING if signal.getsignal(one) is signal.SIG_DFL]
    for one in taken:
        signal.signal(one, _stop)
    try:
        yield
    except _Stopped as stopped:
        # Whoever waits for this process is told what ended it.
        signal.signal(stopped.number, signal.SIG_DFL)
        os.kill(os.getpid(), stopped.number)
        sys.exit(128 + stopped.number)
    finally:
        for one in taken:
            if signal.getsignal(one) is _stop:
                signal.signal(one, signal.SIG_DFL)
