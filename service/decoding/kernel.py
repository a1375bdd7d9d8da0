"""System calls that Python has no function for, through ctypes; Linux alone."""

import ctypes
import os
from functools import cache

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call by its number.

    Raises:
        OSError: the kernel refused; ``errno`` says why.
    """
    function = _libc().syscall
    function.restype = ctypes.c_long
    # A plain int would be passed as 32 bits, and the upper half of a register left to chance.
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = function(ctypes.c_long(number), *wide)
    if result < 0:
        raise _last_error()
    return result


def die_with_parent(signal: int) -> None:
    """Have the kernel send ``signal`` to this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def no_new_privileges() -> None:
    """From now on no exec gives this thread, or those it starts, more rights than it has."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    wide = [ctypes.c_ulong(number) for number in (value, 0, 0, 0)]
    if _libc().prctl(ctypes.c_int(option), *wide) != 0:
        raise _last_error()


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
