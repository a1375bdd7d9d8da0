"""Make the virtual environment: pinned packages, a torch for CPUs, FFmpeg's libraries.

    python3 -m deploy.bootstrap .venv --requirements requirements/runtime-cpu.txt --editable .

Needs nothing but the standard library, because it is what runs before anything is installed.
Running it again repairs what is missing and leaves the rest alone. It shows a line for each step;
what pip and the others say is kept in ``setup.log`` in the environment's directory.

Three things here are more than ``pip install -r``:

torch. The package index's torch for Linux brings gigabytes of CUDA libraries along, and nothing
here runs torch on a GPU: the service decodes with it, and the engine is onnxruntime. So a CPU
build is installed first and the lock, which it satisfies, second. A lock is whole, but for torch's
requirements of CUDA and timm's of torchvision, and pip installs what it lists and no more: CUDA
libraries cannot come in by another way.

Shared libraries. torchcodec loads the machine's FFmpeg, and Python's own library, which Debian
keeps in a package apart. Whether it can is found out by loading its decoder, not by looking for
a program called ffmpeg.

The machine. Debian's packages and Homebrew's are installed where that needs no password;
everywhere else the command to type is printed and nothing is changed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.steps import Steps

ROOT = Path(__file__).resolve().parent.parent
BOOTSTRAP_LOCK = ROOT / "requirements" / "bootstrap.txt"
LOG = "setup.log"

Command = list[str]


class SetupError(Exception):
    """What cannot be set up, in words that end with what to type."""


@dataclass(frozen=True)
class Machine:
    """What the decisions below depend on."""

    system: str  # "Linux", "Darwin", ... as platform.system() names it
    root: bool
    programs: frozenset[str]  # those of apt-get, sudo, brew, dnf and pacman that are on PATH
    sudo_without_password: bool

    @classmethod
    def here(cls) -> Machine:
        names = ("apt-get", "sudo", "brew", "dnf", "pacman")
        programs = frozenset(name for name in names if shutil.which(name))
        return cls(
            system=platform.system(),
            root=os.geteuid() == 0,
            programs=programs,
            sudo_without_password="sudo" in programs and succeeds(["sudo", "-n", "true"]),
        )


def pinned_version(lock: str, name: str) -> str:
    """The version that a lock file pins a package to.

    Raises:
        SetupError: the lock does not pin it.
    """
    match = re.search(rf"^{re.escape(name)}==([^\s;\\]+)", lock, re.MULTILINE)
    if match is None:
        raise SetupError(f"The lock file pins no {name}. Restore it, or type: make lock")
    return match[1]


def torch_attempts(system: str, python: Path, version: str) -> list[list[Command]]:
    """Ways to a torch without CUDA, best first; each is a list of commands to run in order.

    Only on Linux does the index's own torch bring CUDA, so elsewhere the lock installs it.

    1. pip, for the build that is called "+cpu". The package index never has one, so this either
       finds what the person configured (an index, a folder of wheels) or fails within a second.
    2. uv, which knows where PyTorch keeps its CPU builds.
    """
    if system != "Linux":
        return []
    pip = [str(python), "-m", "pip", "install", "--no-deps"]
    # reinstall: a CUDA build of the same version would count as installed
    uv = [str(python), "-m", "uv", "pip", "install", "--python", str(python)]
    return [
        [[*pip, f"torch=={version}+cpu"]],
        [
            [*pip, "--require-hashes", "--requirement", str(BOOTSTRAP_LOCK)],
            [*uv, "--no-deps", "--reinstall", "--torch-backend=cpu", f"torch=={version}"],
        ],
    ]


def torch_is_right(system: str, installed: str | None, version: str) -> bool:
    """Whether the installed torch is the pinned one and, on Linux, a build without CUDA."""
    if installed is None:
        return False
    public, _, local = installed.partition("+")
    return public == version and (system != "Linux" or local == "cpu")


def system_install(machine: Machine, package: str) -> list[Command] | None:
    """Commands that install a system package without asking for a password; None if none can."""
    if "apt-get" in machine.programs and (machine.root or machine.sudo_without_password):
        as_root = [] if machine.root else ["sudo", "-n"]
        apt_get = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        return [
            [*apt_get, "-qq", "update"],
            [*apt_get, "-qq", "install", "--yes", "--no-install-recommends", package],
        ]
    if machine.system == "Darwin" and "brew" in machine.programs:
        return [["brew", "install", package]]
    return None


def advice(machine: Machine, package: str) -> str:
    """The name of what is missing and what to type to get it on this machine."""
    sudo = "" if machine.root else "sudo "
    apt_get = f"    {sudo}apt-get update && {sudo}apt-get install {package}"
    if package.startswith("libpython"):
        return (
            f"the shared library of Python ({package}), which this Python came without.\n"
            f"With Debian's or Ubuntu's own Python, type:\n{apt_get}\n"
            "With one built from source (pyenv), build it with:\n"
            "    PYTHON_CONFIGURE_OPTS=--enable-shared\n"
            "or name another Python: rm -r .venv; make run PYTHON=/path/to/python3"
        )
    if machine.system == "Darwin":
        lines = ["    brew install ffmpeg"]
        if "brew" not in machine.programs:
            lines.insert(0, "    (install Homebrew, which is not here, first)")
        lines.append("and, if your Python is not Homebrew's:")
        lines.append('    export DYLD_FALLBACK_LIBRARY_PATH="$(brew --prefix)/lib"')
        return "FFmpeg's shared libraries. Type:\n" + "\n".join(lines)
    for program, command in (
        ("apt-get", apt_get),
        ("dnf", f"    {sudo}dnf install ffmpeg-free"),
        ("pacman", f"    {sudo}pacman -S ffmpeg"),
    ):
        if program in machine.programs:
            return f"FFmpeg's shared libraries. Type:\n{command}"
    return "FFmpeg's shared libraries (FFmpeg 4 to 8). Install them, then try again."


def succeeds(command: Command) -> bool:
    """Whether a command exits 0; what it prints is dropped."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run_or_fail(steps: Steps, command: Command, advice: str) -> None:
    if not steps.run(command):
        raise SetupError(f"This command failed:\n    {shlex.join(command)}\n{advice}")


def python_of(directory: Path) -> Path:
    return directory / "bin" / "python"


def environment_works(directory: Path) -> bool:
    """Whether there is a virtual environment with pip and a Python that is new enough."""
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return succeeds([str(python_of(directory)), "-c", check])


def clear(directory: Path) -> None:
    """Remove what is in the environment's directory, as ``venv --clear`` does; make it if need be.

    It is done here because the log of the set-up lies in there before the environment does.

    Raises:
        SetupError: it cannot be made or emptied.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        place = "" if error.filename == str(directory) else f" ({error.filename})"
        raise SetupError(f"{directory} cannot be made: {error.strerror}{place}") from None


def make_environment(directory: Path, machine: Machine, steps: Steps) -> None:
    """Make the virtual environment unless there is a working one."""
    if environment_works(directory):
        return
    if not succeeds([sys.executable, "-c", "import ensurepip, venv"]):
        # Debian and its descendants keep this part of the standard library in a package
        package = f"python3.{sys.version_info.minor}-venv"
        for command in system_install(machine, package) or []:
            steps.run(command)
        if not succeeds([sys.executable, "-c", "import ensurepip, venv"]):
            raise SetupError(
                f"{sys.executable} cannot make virtual environments. On Debian and Ubuntu, type:\n"
                f"    sudo apt-get install {package}"
            )
    run_or_fail(
        steps,
        [sys.executable, "-m", "venv", str(directory)],
        "It makes the virtual environment; see what it said above.",
    )


def installed_version(python: Path, package: str) -> str | None:
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    answer = subprocess.run(
        [str(python), "-c", code, package], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() if answer.returncode == 0 else None


def install_torch(python: Path, version: str, system: str, steps: Steps) -> None:
    """Install the pinned torch as a build without CUDA, or say how to."""
    if torch_is_right(system, installed_version(python, "torch"), version):
        return
    for attempt in torch_attempts(system, python, version):
        done = all(steps.run(command) for command in attempt)
        if done and torch_is_right(system, installed_version(python, "torch"), version):
            return
        steps.note("That gave no CPU build of torch.")
    if system == "Linux":
        raise SetupError(
            f"No CPU build of torch {version} could be installed, and the package index's own\n"
            "build, with its gigabytes of CUDA libraries, is not installed unasked. Get the file\n"
            f"torch-{version}+cpu-...whl that fits this Python from PyTorch's site, put it into a\n"
            "folder, and type:\n"
            "    PIP_FIND_LINKS=/that/folder make run"
        )


def install_packages(python: Path, lock: Path, steps: Steps) -> None:
    """Install what the lock pins, each file checked against its hash, and nothing else."""
    pip = [str(python), "-m", "pip", "install", "--no-deps", "--require-hashes"]
    run_or_fail(
        steps,
        [*pip, "--requirement", str(lock)],
        "See what pip said above; most often the package index could not be reached.",
    )


def install_project(python: Path, project: Path, steps: Steps) -> None:
    """Install the project in place."""
    pip = [str(python), "-m", "pip", "install"]
    # the lock holds setuptools: the build needs no environment, and no index, of its own
    run_or_fail(
        steps,
        [*pip, "--no-deps", "--no-build-isolation", "--editable", str(project)],
        "See what pip said above.",
    )


def missing_package(complaint: str) -> str | None:
    """The Debian package of the library that torchcodec's loading misses; None for other trouble.

    torchcodec tries one FFmpeg after the other and reports each failure, so that libraries of
    FFmpeg versions that nobody has are named too. Only where FFmpeg loads can libpython be what
    is missing, and then it is.
    """
    python = re.search(r"(libpython3\.\d+)\S*: cannot open shared object file", complaint)
    if python is not None:
        return python[1]
    if re.search(r"lib(av|sw)\w+\.\S+: (cannot open shared object file|no such file)", complaint):
        return "ffmpeg"
    # macOS's loader words it differently
    return "ffmpeg" if re.search(r"Library not loaded: \S*lib(av|sw)", complaint) else None


def decoder_complaint(python: Path) -> str | None:
    """What goes wrong when torchcodec loads its decoder; None if nothing does."""
    load = [str(python), "-c", "from torchcodec.decoders import VideoDecoder"]
    loaded = subprocess.run(load, capture_output=True, text=True, check=False)
    return None if loaded.returncode == 0 else loaded.stderr


def ensure_decoder(python: Path, machine: Machine, steps: Steps) -> None:
    """Have torchcodec load its decoder; install the libraries that it misses where we may."""
    tried = set[str]()
    while (complaint := decoder_complaint(python)) is not None:
        package = missing_package(complaint)
        if package is None:
            raise SetupError(f"torchcodec cannot be loaded. It says:\n{complaint}")
        commands = None if package in tried else system_install(machine, package)
        if commands is None:
            raise SetupError(f"torchcodec cannot be loaded without {advice(machine, package)}")
        tried.add(package)
        steps.note(f"torchcodec cannot be loaded without {package}; installing it.")
        for command in commands:
            steps.run(command)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the project for one set-up: two pips in one environment break it.

    ``make run`` and ``make test`` in two terminals of a fresh clone are enough for that. The
    directory itself is what is locked, so that no file is left behind.
    """
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this environment is running; waiting for it.", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path, help="the virtual environment, made if missing")
    parser.add_argument("--requirements", type=Path, required=True, help="the lock to install")
    parser.add_argument("--editable", type=Path, help="the project to install in place")
    return parser.parse_args(arguments)


def set_up(directory: Path, lock: Path, editable: Path | None, steps: Steps) -> None:
    """Do each step, or find that it is done.

    Raises:
        SetupError: a step failed.
    """
    machine = Machine.here()
    python = python_of(directory)
    with steps.step("a virtual environment"):
        make_environment(directory, machine, steps)
    with steps.step("torch without CUDA"):
        version = pinned_version(lock.read_text(encoding="utf-8"), "torch")
        install_torch(python, version, machine.system, steps)
    with steps.step(f"the packages of {lock.name}"):
        install_packages(python, lock, steps)
    if editable is not None:
        with steps.step("the project itself"):
            install_project(python, editable, steps)
    with steps.step("FFmpeg's libraries"):
        ensure_decoder(python, machine, steps)


def explain(error: SetupError, steps: Steps | None) -> None:
    """Say what went wrong, after the last lines of what was said in the step that failed."""
    if steps is not None:
        tail = "".join(f"    {line}\n" for line in steps.tail)
        print(f"\n{tail}    (all of it is in {steps.log})", file=sys.stderr)
    print(f"\nerror: {error}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    # what is started here looks for code in no working directory
    os.environ["PYTHONSAFEPATH"] = "1"
    directory = options.directory.absolute()
    steps: Steps | None = None
    try:
        with one_at_a_time():
            if not environment_works(directory):
                clear(directory)
            with Steps(directory / LOG, 4 if options.editable is None else 5) as steps:
                set_up(directory, options.requirements, options.editable, steps)
    except SetupError as error:
        explain(error, steps)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
