"""A seccomp filter: the system calls that decoding and reading weights need, and no others.

An allow-list, because what a decoder or a reader of weights does is known and small, and what a
kernel offers grows with every release. What is not on it fails with EPERM, so that a library which
tries something optional goes on without. The process is killed only for calling by another
architecture's numbers.

The filter is installed with TSYNC: every thread of the process has it, or installing fails.

Of our own, because ``pyseccomp`` needs libseccomp at run time, which images and laptops lack, and
has not changed for years; the filter is some ninety instructions of a machine with three registers.
"""

import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from startup.sandbox import syscalls


@dataclass(frozen=True, slots=True)
class _Architecture:
    audit: int  # AUDIT_ARCH_*: what the kernel says a call's numbers are of
    seccomp: int  # number of seccomp(2)
    numbers: dict[str, int]
    refused: dict[str, int]  # to programs that are not ours


_X86_64 = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "pwrite64": 18, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28,
    "dup": 32, "nanosleep": 35, "getpid": 39, "sendto": 44, "recvfrom": 45, "sendmsg": 46,
    "recvmsg": 47, "shutdown": 48, "clone": 56, "exit": 60, "fcntl": 72, "gettimeofday": 96,
    "getrusage": 98, "sysinfo": 99, "sigaltstack": 131, "gettid": 186, "futex": 202,
    "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228, "clock_nanosleep": 230,
    "exit_group": 231, "tgkill": 234, "newfstatat": 262, "pselect6": 270, "ppoll": 271,
    "set_robust_list": 273, "prlimit64": 302, "getcpu": 309, "getrandom": 318, "membarrier": 324,
    "rseq": 334, "clone3": 435,
}  # fmt: skip
_AARCH64 = {
    "dup": 23, "fcntl": 25, "close": 57, "lseek": 62, "read": 63, "write": 64, "pread64": 67,
    "pwrite64": 68, "pselect6": 72, "ppoll": 73, "newfstatat": 79, "fstat": 80, "exit": 93,
    "exit_group": 94, "futex": 98, "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113,
    "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128,
    "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135,
    "rt_sigreturn": 139, "getrusage": 165, "getcpu": 168, "gettimeofday": 169, "getpid": 172,
    "gettid": 178, "sysinfo": 179, "sendto": 206, "recvfrom": 207, "shutdown": 210, "sendmsg": 211,
    "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216, "clone": 220, "mmap": 222,
    "mprotect": 226, "madvise": 233, "prlimit64": 261, "getrandom": 278, "membarrier": 283,
    "rseq": 293, "clone3": 435,
}  # fmt: skip
# What a program that reads, computes and writes to its pipes has no use for: other processes and
# signals to them, servers, mounts, namespaces, keys, the kernel's own programs, ways round this
# filter, and what changes files without opening them, of which Landlock sees nothing or sees it on
# newer kernels alone. Whether it may have a socket depends.
_REFUSED_X86_64 = {
    "socket": 41, "bind": 49, "listen": 50, "accept": 43, "accept4": 288, "socketpair": 53,
    "clone": 56, "clone3": 435, "fork": 57, "vfork": 58, "ptrace": 101, "personality": 135,
    "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166, "add_key": 248,
    "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298,
    "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
    "bpf": 321, "userfaultfd": 323, "pidfd_send_signal": 424, "io_uring_setup": 425,
    "pidfd_open": 434, "pidfd_getfd": 438, "prlimit64": 302, "kill": 62, "tkill": 200,
    "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "truncate": 76, "chmod": 90,
    "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "utime": 132, "setxattr": 188,
    "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
    "fremovexattr": 199, "utimes": 235, "fchownat": 260, "futimesat": 261, "fchmodat": 268,
    "utimensat": 280, "fchmodat2": 452,
}  # fmt: skip
_REFUSED_AARCH64 = {
    "socket": 198, "bind": 200, "listen": 201, "accept": 202, "accept4": 242, "socketpair": 199,
    "clone": 220, "clone3": 435, "ptrace": 117, "personality": 92, "pivot_root": 41, "chroot": 51,
    "mount": 40, "umount2": 39, "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97,
    "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270,
    "process_vm_writev": 271, "bpf": 280, "userfaultfd": 282, "pidfd_send_signal": 424,
    "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438, "prlimit64": 261, "kill": 129,
    "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "setxattr": 5,
    "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
    "truncate": 45, "fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "utimensat": 88,
    "fchmodat2": 452,
}  # fmt: skip
ARCHITECTURES = {
    "x86_64": _Architecture(0xC000003E, 317, _X86_64, _REFUSED_X86_64),
    "aarch64": _Architecture(0xC00000B7, 277, _AARCH64, _REFUSED_AARCH64),
}

# Instructions of the classic Berkeley packet filter: load a word, compare, test bits, return.
_LOAD, _EQUAL, _BITS, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
# Offsets in struct seccomp_data; both architectures are little-endian.
_NUMBER, _AUDIT = 0, 4

_X32 = 0x40000000

_SET_MODE_FILTER = 1
_TSYNC = 1

_PROT_EXEC = 4
_CLONE_THREAD = 0x10000
_AT_EMPTY_PATH = 0x1000
# Duplicate a descriptor, and its close-on-exec flag: what mmap takes. F_SETOWN would send signals.
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030)
# Families of sockets: IPv4 and IPv6. Kinds: of connections, and of datagrams, in the lower bits.
_INTERNET = (2, 10)
_KIND_MASK, _CONNECTIONS, _DATAGRAMS = 0xF, 1, 2
# Protocols: the kind's usual one, TCP and UDP. Landlock's rules for ports are about TCP, and there
# are other protocols of connections.
_PROTOCOLS = (0, 6, 17)

# Which sockets a program may make: none, those of connections, or also datagrams, which is what
# finding an address by its name takes.
Sockets = Literal["none", "connections", "all"]


def _argument(index: int) -> int:
    """Offset of the lower half of an argument."""
    return 16 + 8 * index


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


_PERMIT = _instruction(_RETURN, _ALLOW)
_REFUSE = _instruction(_RETURN, _ERRNO | errno.EPERM)


def _only_with(argument: int, bits: int) -> list[bytes]:
    return [
        _instruction(_LOAD, _argument(argument)), _instruction(_BITS, bits, 0, 1), _PERMIT, _REFUSE,
    ]  # fmt: skip


def _only_without(argument: int, bits: int) -> list[bytes]:
    return [
        _instruction(_LOAD, _argument(argument)), _instruction(_BITS, bits, 1, 0), _PERMIT, _REFUSE,
    ]  # fmt: skip


def _only_among(argument: int, values: tuple[int, ...]) -> list[bytes]:
    to_permit = range(len(values), 0, -1)
    return [
        _instruction(_LOAD, _argument(argument)),
        *(_instruction(_EQUAL, value, skip) for value, skip in zip(values, to_permit, strict=True)),
        _REFUSE,
        _PERMIT,
    ]


def _rules(pid: int) -> dict[str, list[bytes]]:
    """What is allowed with some arguments alone."""
    return {
        # Threads, but no processes: FFmpeg may have some. clone3 keeps its flags in memory, where a
        # filter cannot look; without it the C library takes clone.
        "clone": _only_with(0, _CLONE_THREAD),
        "clone3": [_instruction(_RETURN, _ERRNO | errno.ENOSYS)],
        # Nothing that was written may ever be run.
        "mmap": _only_without(2, _PROT_EXEC),
        "mprotect": _only_without(2, _PROT_EXEC),
        # This process alone: neither the service's limits nor its life are the worker's to change.
        "prlimit64": _only_among(0, (0, pid)),
        "tgkill": _only_among(0, (pid,)),
        "fcntl": _only_among(1, _FCNTL_COMMANDS),
        # How the C library asks for the size of an open file.
        "newfstatat": _only_with(3, _AT_EMPTY_PATH),
    }


def program(architecture: str, pid: int) -> bytes:
    """The filter as the kernel takes it.

    Args:
        architecture: a key of ``ARCHITECTURES``.
        pid: the process that it is for.
    """
    known = ARCHITECTURES[architecture]
    return b"".join(_instructions(known, _rules(pid)))


def _instructions(known: _Architecture, rules: dict[str, list[bytes]]) -> Iterator[bytes]:
    yield _instruction(_LOAD, _AUDIT)
    yield _instruction(_EQUAL, known.audit, 1, 0)
    yield _instruction(_RETURN, _KILL_PROCESS)
    yield _instruction(_LOAD, _NUMBER)
    for name, number in known.numbers.items():
        body = rules.get(name, [_PERMIT])
        yield _instruction(_EQUAL, number, 0, len(body))
        yield from body
    yield _REFUSE


def _socket_rule(sockets: Sockets) -> list[bytes]:
    if sockets == "none":
        return [_REFUSE]
    kinds = (_CONNECTIONS,) if sockets == "connections" else (_CONNECTIONS, _DATAGRAMS)
    return [
        # Each but the last goes on where it would permit.
        *_only_among(0, _INTERNET)[:-1],
        *_only_among(2, _PROTOCOLS)[:-1],
        _instruction(_LOAD, _argument(1)),
        _instruction(_AND, _KIND_MASK),
        *_only_among(1, kinds)[1:],
    ]


def program_of_others(architecture: str, sockets: Sockets, pid: int) -> bytes:
    """The filter for a program that is not ours, which refuses what no such program needs.

    Not an allow-list: what another program calls is known to its makers, and changes with them.

    Args:
        architecture: a key of ``ARCHITECTURES``.
        sockets: which it may make.
        pid: of the process, which stays the same when it becomes that program.
    """
    known = ARCHITECTURES[architecture]
    rules = {
        "socket": _socket_rule(sockets),
        "clone": _only_with(0, _CLONE_THREAD),
        "clone3": [_instruction(_RETURN, _ERRNO | errno.ENOSYS)],
        "prlimit64": _only_among(0, (0, pid)),
        # How it ends by a signal of its own.
        "tgkill": _only_among(0, (pid,)),
    }
    code = [
        _instruction(_LOAD, _AUDIT),
        _instruction(_EQUAL, known.audit, 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER),
    ]
    if architecture == "x86_64":
        # The numbers of x32, by which the same kernel is called.
        code += [_instruction(_BITS, _X32, 0, 1), _REFUSE]
    for name, number in known.refused.items():
        body = rules.get(name, [_REFUSE])
        code += [_instruction(_EQUAL, number, 0, len(body)), *body]
    return b"".join([*code, _PERMIT])


def supported() -> bool:
    """Whether this is a system whose calls are known here; the kernel may still lack seccomp."""
    return sys.platform == "linux" and platform.machine() in ARCHITECTURES


def restrict_other(sockets: Sockets, pid: int) -> bool:
    """Install :func:`program_of_others`, and else as :func:`restrict`; what is run next has it."""
    return _install(program_of_others(platform.machine(), sockets, pid))


def restrict(pid: int) -> bool:
    """Install the filter in every thread of this process, for good.

    Needs :func:`startup.sandbox.syscalls.no_new_privileges` first.

    Returns:
        False where the kernel has no filters.

    Raises:
        OSError: the kernel has them and refused this one; another thread's filter differs.
    """
    return _install(program(platform.machine(), pid))


def _install(code: bytes) -> bool:
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, padding, a pointer
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    number = ARCHITECTURES[platform.machine()].seccomp
    try:
        # With TSYNC a thread that cannot follow is returned as a positive number.
        thread = syscalls.syscall(number, _SET_MODE_FILTER, _TSYNC, head)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):
            return False
        raise
    if thread > 0:
        raise OSError(errno.ESRCH, f"thread {thread} could not be given the filter")
    return True
