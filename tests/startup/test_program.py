"""What a program of others can still do: one that really tries everything else."""

import json
import os
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from startup.path import child_environment, python_command
from startup.sandbox import landlock, seccomp
from startup.sandbox.program import Powers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (sys.platform == "linux" and seccomp.supported() and landlock.interface() >= 4),
        reason="the kernel confines no connections",
    ),
]

ATTEMPTS = r"""
import ctypes, json, os, socket, subprocess, sys
canary, allowed, open_port, other_port = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])

def connect(port):
    with socket.socket() as made:
        made.settimeout(5)
        made.connect(("127.0.0.1", port))

def serve():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))

def fork():
    if os.fork() == 0:
        os._exit(0)

def tgkill(process):
    number = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(number, process, process, 0) != 0:
        raise OSError(ctypes.get_errno(), "tgkill")

attempts = {
    "read what it may": lambda: open(allowed).close(),
    "read another file": lambda: open(canary).close(),
    "write a file": lambda: open(canary, "w").close(),
    "make a file": lambda: open(canary + ".new", "x").close(),
    "run a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": fork,
    "connect to its port": lambda: connect(open_port),
    "connect to another port": lambda: connect(other_port),
    "send a datagram": lambda: socket.socket(type=socket.SOCK_DGRAM).close(),
    "local socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "serve": serve,
    "another protocol": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close(),
    "signal another process": lambda: os.kill(os.getppid(), 0),
    "signal another thread": lambda: tgkill(os.getppid()),
    "signal itself": lambda: tgkill(os.getpid()),
    "truncate a file": lambda: os.truncate(canary, 0),
    "change a file's mode": lambda: os.chmod(canary, 0o777),
    "change a file's times": lambda: os.utime(canary, (0, 0)),
    "change a file's owner": lambda: os.chown(canary, os.getuid(), os.getgid()),
    "mark a file": lambda: os.setxattr(canary, "user.mark", b"1"),
}
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "done"
    except OSError as error:
        found[name] = "refused" if error.errno in (1, 13) else repr(error)
print(json.dumps(found))
"""


def attempts(tmp_path: Path, sockets: seccomp.Sockets) -> set[str]:
    """What was done; everything else was refused."""
    canary, allowed = tmp_path / "canary", tmp_path / "allowed"
    for file in (canary, allowed):
        file.write_text("content")
    before = canary.stat().st_mode, canary.stat().st_mtime
    program = os.path.realpath(sys.executable)
    with (
        socket.create_server(("127.0.0.1", 0)) as its,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        port = its.getsockname()[1]
        powers = Powers(
            program=program,
            files=(str(allowed), sys.base_prefix, sysconfig.get_path("stdlib")),
            devices=(),
            port=0 if sockets == "none" else port,
            sockets=sockets,
            memory_bytes=1 << 30,
            sandbox="require",
        )
        command = python_command(
            "-m", "startup.sandbox.program", str(os.getpid()), powers.text(),
            "-c", ATTEMPTS, str(canary), str(allowed), str(port), str(other.getsockname()[1]),
        )  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=child_environment()
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found.values()) <= {"done", "refused"}, found
    assert canary.read_text() == "content"
    assert (canary.stat().st_mode, canary.stat().st_mtime) == before
    return {name for name, came in found.items() if came == "done"}


@pytest.mark.parametrize(
    ("sockets", "more"),
    [
        ("none", set()),
        ("connections", {"connect to its port"}),
        ("all", {"connect to its port", "send a datagram"}),
    ],
)
def test_it_may_do_what_it_is_for(tmp_path: Path, sockets: seccomp.Sockets, more: set[str]) -> None:
    assert attempts(tmp_path, sockets) == {"read what it may", "signal itself"} | more


def test_it_ends_with_who_started_it() -> None:
    powers = Powers("/bin/sleep", (), (), 0, "none", 1 << 30, "off")
    command = python_command("-m", "startup.sandbox.program", "1", powers.text(), "60")
    done = subprocess.run(command, check=False, timeout=30, env=child_environment())
    assert done.returncode == 0  # its parent is another than it was told: that one has ended
