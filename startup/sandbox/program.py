"""A program of others, with the powers that it needs and no more:
``python -m startup.sandbox.program PARENT POWERS ARGUMENT...``.

It gives up its powers, and then becomes that program. What reads a stream (FFmpeg's) takes packets
from one connection, one device or one file and writes them into its pipe. It may read its libraries
and what names and certificates take, run itself alone, and open connections to the one port; it
writes no file, starts no process and serves nobody. A stream that comes through its own pipe leaves
it no socket at all.

POWERS is JSON; see :class:`Powers`.
"""

import json
import os
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from startup.sandbox import landlock, seccomp, syscalls
from startup.sandbox.process import drop_powers, threads

# Where libraries are, and what is read to find an address by its name and to check certificates.
_SYSTEM = tuple(map(Path, (
    "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/share/ca-certificates",
    "/etc/ld.so.cache", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/gnutls",
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf",
    "/etc/localtime", "/dev/urandom", "/sys/devices/system/cpu", "/proc/cpuinfo",
)))  # fmt: skip
_DESCRIPTORS = 64
# The exit status where the program is not run, as a shell has it.
NOT_RUN = 126


class NotConfined(Exception):
    """The kernel does not give what is required; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Powers:
    """What the program keeps.

    Attributes:
        program: FFmpeg's, where it lies.
        files: that it may read.
        devices: that it may use.
        port: that it may connect to; 0 is none.
        sockets: see :data:`startup.sandbox.seccomp.Sockets`.
        memory_bytes: of address space.
        sandbox: ``require`` fails without both Landlock and seccomp, ``prefer`` takes what there
            is, ``off`` leaves it at resource limits.
    """

    program: str
    files: tuple[str, ...]
    devices: tuple[str, ...]
    port: int
    sockets: seccomp.Sockets
    memory_bytes: int
    sandbox: Literal["require", "prefer", "off"]

    def text(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    parent, powers = int(sys.argv[1]), Powers(**json.loads(sys.argv[2]))
    arguments = sys.argv[3:]
    if sys.platform == "linux":
        syscalls.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(0)
    try:
        confine(powers)
        os.execv(powers.program, [powers.program, *arguments])
    except (NotConfined, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(NOT_RUN)


def confine(powers: Powers) -> None:
    """Give up all but these powers.

    Raises:
        NotConfined: a sandbox is required and the kernel has no such thing.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_AS, (powers.memory_bytes, powers.memory_bytes))
    if sys.platform != "linux":
        return
    drop_powers()
    if powers.sandbox == "off":
        return
    allowed = landlock.Allowed(
        read=(*_SYSTEM, *_libraries(Path(powers.program)), *map(Path, powers.files)),
        run=(Path(powers.program), *_interpreters()),
        devices=tuple(map(Path, powers.devices)),
        ports=(powers.port,) if powers.port else (),
    )
    landlocked = threads() == 1 and landlock.restrict(allowed)
    filtered = seccomp.supported() and seccomp.restrict_other(powers.sockets, os.getpid())
    if powers.sandbox == "require" and not (landlocked and filtered):
        raise NotConfined(
            "LOOKWHEN_DECODE_SANDBOX=require, but this kernel does not confine what fetches a "
            "stream by Landlock and seccomp. Use Linux 5.13 or newer, or accept this one with "
            "LOOKWHEN_DECODE_SANDBOX=prefer"
        )


def _libraries(program: Path) -> list[Path]:
    """Where a program finds libraries that is not the system's: of Conda, Nix, or below /opt."""
    named = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return [program.parent.parent / "lib", *(Path(text) for text in named if text.startswith("/"))]


def _interpreters() -> list[Path]:
    """What the system loads programs with, which is run as well."""
    patterns = ("lib/ld-*.so*", "lib64/ld-*.so*", "lib/*-linux-*/ld-*.so*")
    return [path for pattern in patterns for path in Path("/").glob(pattern)]


if __name__ == "__main__":
    main()
