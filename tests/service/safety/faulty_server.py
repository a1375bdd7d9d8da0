"""``lookwhen serve`` on a machine on which something is wrong: ``faulty_server.py FAULT``.

The faults are put where Python meets the system, so that all of the service is the real one.
"""

import errno
import itertools
import os
import sys
import time
from typing import Any

# A body that holds this meets the fault.
MARK = b"this one is unlucky"
YEARS = 365 * 24 * 3600


def clock() -> None:
    """The time of day jumps back and forth by ten years with each look at it."""
    real, looks = time.time, itertools.count()
    time.time = lambda: real() + (10 * YEARS if next(looks) % 2 else -10 * YEARS)


def no_space() -> None:
    """The memory that holds uploads is full."""
    real = os.pwrite

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        if MARK in bytes(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    os.pwrite = pwrite


if __name__ == "__main__":
    {"clock": clock, "no_space": no_space}[sys.argv[1]]()
    from lookwhen.command_line import main

    main(["serve"])
