"""System calls that Python has no function for, through ctypes; Linux alone."""

import ctypes
import os
import struct
from functools import cache

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
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


def adopt_orphans(adopts: bool = True) -> bool:
    """Say whether descendants whose parent has ended become this process's children.

    Returns:
        What was so before.
    """
    before = ctypes.c_int()
    if _libc().prctl(ctypes.c_int(_PR_GET_CHILD_SUBREAPER), ctypes.byref(before)) != 0:
        raise _last_error()
    _prctl(_PR_SET_CHILD_SUBREAPER, int(adopts))
    return bool(before.value)


def no_new_privileges() -> None:
    """From now on no exec gives this thread, or those it starts, more rights than it has."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up what root may do and others may not, for this thread and those it starts.

    For a process without capabilities it does nothing.
    """
    # Version 3 of the header, for this thread; effective, permitted and inheritable, low and high.
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    none = ctypes.create_string_buffer(bytes(24), 24)
    if _libc().capset(header, none) != 0:
        raise _last_error()


def _prctl(option: int, value: int) -> None:
    wide = [ctypes.c_ulong(number) for number in (value, 0, 0, 0)]
    if _libc().prctl(ctypes.c_int(option), *wide) != 0:
        raise _last_error()


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
