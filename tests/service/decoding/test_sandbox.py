"""What a confined decode worker can still do: a process that really tries everything else."""

import asyncio
import errno
import json
import os
import re
import socket
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from service.decoding.process import DecodeProcess, WorkerStartError
from startup.sandbox import landlock, seccomp

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

# Confines itself as a worker does, by the layers it is told, then tries what a decoder that a clip
# has taken over would. Prints what each attempt came to: "done", or the name of the error.
ATTEMPTS = r"""
import ctypes, errno, fcntl, json, mmap, os, resource, signal, socket, subprocess, sys, threading
from service.decoding.sandbox import confinement
from startup.sandbox import landlock, seccomp, syscalls

layers, canary, port, parent = sys.argv[1].split("+"), sys.argv[2], int(sys.argv[3]), os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
memory = os.memfd_create("frames")
os.ftruncate(memory, 4096)
here, there = socket.socketpair()
own_port = socket.socket()
datagrams = socket.socket(type=socket.SOCK_DGRAM)
resource.setrlimit(resource.RLIMIT_AS, (1 << 36, 1 << 36))  # as the service does with a worker
confinement.limit_job(1 << 36, 3600)
"localhost".encode("idna")  # loads what connecting needs of Python

def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def run_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(attempt(lambda: open(canary).close())))
    thread.start()
    thread.join()
    return seen[0]

def exchange():
    here.send(b"x")
    assert there.recv(1) == b"x"

attempts = {
    "read a file": lambda: open(canary).close(),
    "write a file": lambda: open(canary, "w").close(),
    "make a file": lambda: open(canary + ".new", "x").close(),
    "remove a file": lambda: os.unlink(canary),
    "link a file": lambda: os.symlink(canary, canary + ".link"),
    "list a folder": lambda: os.listdir("/"),
    "open a device": lambda: open("/dev/null", "w").close(),
    "look into the parent": lambda: open(f"/proc/{parent}/maps").close(),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "start a program": lambda: subprocess.run(["/bin/true"]),
    "fork": lambda: os.fork() or os._exit(0),
    "connect by TCP": lambda: socket.create_connection(("127.0.0.1", port), 2),
    "connect a socket from before": lambda: own_port.connect(("127.0.0.1", port)),
    "bind a socket from before": lambda: own_port.bind(("127.0.0.1", 0)),
    "make a UDP socket": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "make a UNIX socket": lambda: socket.socket(socket.AF_UNIX),
    "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    # seize: to attach would stop the test itself where nothing refuses it
    "ptrace the parent": lambda: call(libc.ptrace, 0x4206, parent, None, None),
    "read the parent's memory": lambda: call(libc.process_vm_readv, parent, None, 0, None, 0, 0),
    "signal the parent": lambda: os.kill(parent, 0),
    "signal a thread of the parent": lambda: call(libc.syscall, TGKILL, parent, parent, 0),
    "lift its own limits": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 37, 1 << 37)),
    "limit the parent": lambda: resource.prlimit(parent, resource.RLIMIT_AS),
    "have its own signals sent elsewhere": lambda: fcntl.fcntl(here, fcntl.F_SETOWN, parent),
    # where there is nothing, so that nothing happens where nothing refuses it
    "mount": lambda: call(libc.mount, b"none", canary.encode() + b"/none", b"tmpfs", 0, None),
    "leave a namespace": lambda: call(libc.unshare, 0x10000000),
    "load a BPF program": lambda: call(libc.syscall, BPF, 0, None, 0),
    "use io_uring": lambda: call(libc.syscall, 425, 1, None),
    "use a keyring": lambda: call(libc.syscall, KEYCTL, 0, -3, 0),
    "make another memfd": lambda: os.memfd_create("more"),
    "map memory it may run": lambda: mmap.mmap(-1, 4096, prot=7),
    "let memory be run": lambda: call(
        libc.mprotect, ctypes.c_void_p(ctypes.addressof(page) & ~4095), 4096, 7),
    "lift its sandbox": lambda: syscalls.no_new_privileges(),
    # and what decoding does
    "read the clip": lambda: os.pread(memory, 10, 0),
    "map a block": lambda: mmap.mmap(memory, 4096).close(),
    "take memory": lambda: bytearray(1 << 24),
    "answer": exchange,
    "limit itself": lambda: confinement.limit_job(1 << 36, 3600),
    "tell the time": lambda: os.times(),
    "be random": lambda: os.urandom(16),
    "start a thread": lambda: run_thread() and None,
}
page = ctypes.create_string_buffer(8192)
BPF, KEYCTL, TGKILL = {"x86_64": (321, 250, 234), "aarch64": (280, 219, 131)}[os.uname().machine]

def attempt(function):
    try:
        function()
    except ValueError as error:  # what Python makes of EPERM here
        return "EPERM" if "not allowed" in str(error) else str(error)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    except mmap.error as error:
        return str(error)
    return "done"

if layers == ["all"]:
    active = confinement.confine("require", descriptors=32)
else:
    confinement.syscalls.no_new_privileges()
    if layers != ["none"]:
        confinement.syscalls.drop_capabilities()
    done = {"landlock": landlock.restrict, "seccomp": lambda: seccomp.restrict(os.getpid())}
    active = "+".join(name for name in layers if name in done and done[name]())
results = {name: attempt(function) for name, function in attempts.items()}
results["read a file in a thread"] = attempt(lambda: None) and run_thread()
print(json.dumps({"active": active, "results": results}))
"""

LEFT = {
    "read the clip", "map a block", "take memory", "answer", "limit itself", "tell the time",
    "be random", "start a thread",
}  # fmt: skip
FILES = {
    "read a file", "write a file", "make a file", "remove a file", "link a file", "list a folder",
    "open a device", "look into the parent", "run a program", "read a file in a thread",
}  # fmt: skip


def no_landlock() -> bool:
    return landlock.interface() == 0


@cache
def no_seccomp() -> bool:
    """Whether the kernel says that it has none, asked in a process that can be spared."""
    script = (
        "import os\nfrom startup.sandbox import seccomp, syscalls\n"
        "syscalls.no_new_privileges()\n"
        "print(seccomp.supported() and seccomp.restrict(os.getpid()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip() != "True"


without_landlock = pytest.mark.skipif(no_landlock(), reason="this kernel has no Landlock")
without_seccomp = pytest.mark.skipif(no_seccomp(), reason="this kernel has no seccomp filters")


def may_lift_limits() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, which root has where nothing took it away."""
    status = Path("/proc/self/status").read_text()
    (effective,) = (line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> 24 & 1)


def attempt_all(layers: str, folder: Path) -> dict[str, str]:
    canary = folder / "canary"
    canary.write_text("untouched")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", ATTEMPTS, layers, str(canary), str(port)],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
            # as a worker's: numpy's library would start threads, which Landlock does not reach
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        if layers != "none":
            with pytest.raises(TimeoutError):  # nobody came
                server.accept()
            assert canary.read_text() == "untouched"
            assert [path.name for path in folder.iterdir()] == ["canary"]
    found: dict[str, str] = json.loads(done.stdout)["results"]
    return found


@without_landlock
@without_seccomp
def test_a_confined_process_can_decode_and_nothing_else(tmp_path: Path) -> None:
    results = attempt_all("all", tmp_path)
    assert {name for name, result in results.items() if result == "done"} == LEFT
    assert set(results.values()) <= {"done", "EPERM", "EACCES"}


@without_seccomp
def test_seccomp_alone_is_enough(tmp_path: Path) -> None:
    results = attempt_all("seccomp", tmp_path)
    assert {name for name, result in results.items() if result == "done"} == LEFT


@without_landlock
def test_landlock_alone_takes_files_programs_and_tcp(tmp_path: Path) -> None:
    results = attempt_all("landlock", tmp_path)
    taken = {name for name, result in results.items() if result in ("EACCES", "EPERM")}
    assert taken >= FILES
    if landlock.interface() >= 4:
        assert taken >= {"connect by TCP", "connect a socket from before"}
    if landlock.interface() >= 6:
        assert taken >= {"signal the parent", "signal a thread of the parent"}
    assert {name for name, result in results.items() if result == "done"} >= LEFT


def test_the_attempts_are_real(tmp_path: Path) -> None:
    """Without a sandbox most of them come to something: it is not the test that fails them."""
    unconfined = ATTEMPTS.replace('"run a program": lambda: os.execv', '"run": lambda: len', 1)
    assert unconfined != ATTEMPTS
    canary = tmp_path / "canary"
    canary.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", unconfined.replace('len("/bin/true", ["true"])', "None"),
             "none", str(canary), str(server.getsockname()[1])],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
        )  # fmt: skip
    results = json.loads(done.stdout.splitlines()[-1])["results"]
    done_anyway = {name for name, result in results.items() if result == "done"}
    if may_lift_limits():  # nobody else can, confined or not
        assert "lift its own limits" in done_anyway
    assert done_anyway >= LEFT | {
        "read a file", "write a file", "make a file", "remove a file", "list a folder",
        "start a program", "fork", "connect by TCP", "make a UDP socket", "make a UNIX socket",
        "signal the parent", "limit the parent", "make another memfd", "map memory it may run",
        "let memory be run",
    }  # fmt: skip


def run_filter(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """Interpret a filter as the kernel does: what it returns for a system call."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = instructions[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x15:
            position += if_true if accumulator == value else if_false
        elif code == 0x45:
            position += if_true if accumulator & value else if_false
        else:
            assert code == 0x06
            return int(value)


@pytest.mark.parametrize("machine", sorted(seccomp.ARCHITECTURES))
def test_the_filter_of_each_architecture(machine: str) -> None:
    """Interpreted, so that the one for the other architecture is tested as well."""
    known = seccomp.ARCHITECTURES[machine]
    program = seccomp.program(machine, pid=77)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096, "the kernel takes no more"
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM

    def ask(name: str, *arguments: int) -> int:
        return run_filter(program, known.audit, known.numbers[name], *arguments)

    assert ask("read") == ask("recvmsg") == ask("futex") == allow
    listed = set(known.numbers.values())
    assert all(
        run_filter(program, known.audit, number) == refuse
        for number in range(600)
        if number not in listed
    )
    assert ask("mmap", 0, 4096, 3) == allow
    assert ask("mmap", 0, 4096, 7) == ask("mprotect", 0, 4096, 5) == refuse
    assert ask("clone", 0x3D0F00) == allow  # what pthread_create passes
    assert ask("clone", 0x1200011) == refuse  # what fork passes
    assert ask("clone3") == 0x00050000 | errno.ENOSYS
    assert ask("prlimit64", 0) == ask("prlimit64", 77) == ask("tgkill", 77) == allow
    assert ask("prlimit64", 1) == ask("tgkill", 1) == refuse
    assert ask("fcntl", 5, 1030) == allow
    assert ask("fcntl", 5, 8) == refuse  # F_SETOWN
    assert ask("newfstatat", 5, 0, 0, 0x1000) == allow
    assert ask("newfstatat", 5, 0, 0, 0) == refuse
    others = {known.audit for known in seccomp.ARCHITECTURES.values()} - {known.audit}
    for audit in (*others, 0x40000003):  # i386
        assert run_filter(program, audit, known.numbers["read"]) == 0x80000000
    x32 = 0x40000000
    assert run_filter(program, known.audit, x32 | known.numbers["read"]) == refuse


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", sorted(HEADERS))
def test_system_calls_have_the_numbers_that_the_kernels_headers_say(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed (Debian: linux-libc-dev)")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    numbers = {name: int(number) for name, number in found}
    numbers.setdefault("newfstatat", numbers.get("fstatat", -1))
    # Of Linux 6.6; from 424 on numbers are those of all architectures.
    numbers.setdefault("fchmodat2", 452)
    known = seccomp.ARCHITECTURES[machine]
    for name, number in (known.numbers | known.refused).items():
        assert numbers[name] == number, name
    assert numbers["seccomp"] == known.seccomp
    assert numbers["landlock_create_ruleset"] == landlock._CREATE_RULESET
    assert numbers["landlock_restrict_self"] == landlock._RESTRICT_SELF


@pytest.mark.parametrize(
    ("version", "size", "files"), [(1, 8, 13), (2, 8, 14), (3, 8, 15), (4, 16, 15), (7, 24, 16)]
)
def test_landlock_handles_what_the_kernel_knows_and_no_more(
    version: int, size: int, files: int
) -> None:
    attribute = landlock.attributes(version)
    assert len(attribute) == size
    assert struct.unpack_from("=Q", attribute)[0] == (1 << files) - 1


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that makes Python believe in a kernel without Landlock."""
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'service.decoding.sandbox.confinement':\n"
        "            from startup.sandbox import landlock\n"
        "            landlock.interface = lambda: 0\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    return folder


def start(policy: str) -> "tuple[str | None, str]":
    """Start a worker: what it is confined by, or why it did not start."""

    async def run() -> tuple[str | None, str]:
        try:
            worker = await DecodeProcess.start(120, lambda worker: None, policy)  # type: ignore[arg-type]
        except WorkerStartError as error:
            return None, str(error)
        assert worker.ready is not None
        status = Path(f"/proc/{worker.pid}/status").read_text()
        threads = list(Path(f"/proc/{worker.pid}/task").iterdir())
        sandbox = worker.ready.sandbox
        await worker.stop()
        assert len(threads) == 1, "threads from before would escape Landlock"
        assert ("Seccomp:\t2" in status) == ("seccomp" in sandbox)
        return sandbox, ""

    return asyncio.run(run())


@pytest.mark.long
@without_landlock
@without_seccomp
def test_a_worker_has_the_whole_sandbox() -> None:
    assert start("require") == ("landlock+seccomp", "")


@pytest.mark.long
def test_a_kernel_that_lacks_something_is_accepted_or_not(
    lacking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.decoding import process

    ours = process._environment
    monkeypatch.setattr(
        process, "_environment",
        lambda: ours() | {"PYTHONPATH": f"{lacking}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    reached = "rlimits" if no_seccomp() else "seccomp"
    assert start("prefer") == (reached, "")
    sandbox, reason = start("require")
    assert sandbox is None
    assert f"no more than {reached}" in reason
    assert "LOOKWHEN_DECODE_SANDBOX=prefer" in reason
    assert start("off") == ("rlimits", "")
