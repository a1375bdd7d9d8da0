"""What deploy/bootstrap.py and deploy/find_python.sh decide, for machines that are not here."""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import bootstrap
from deploy.bootstrap import Machine
from deploy.steps import Steps

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path("/environment/bin/python")


def machine(
    system: str = "Linux", root: bool = False, programs: str = "", sudo: bool = False
) -> Machine:
    return Machine(system, root, frozenset(programs.split()), sudo)


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[Steps]:
    with Steps(tmp_path / "setup.log", 1, io.StringIO()) as steps:
        yield steps


def test_torch_never_comes_from_a_plain_install_on_linux() -> None:
    attempts = bootstrap.torch_attempts("Linux", PYTHON, "2.13.0")
    installs = [c for commands in attempts for c in commands if any("torch==" in w for w in c)]
    assert len(installs) == 2
    for command in installs:
        assert "torch==2.13.0+cpu" in command or "--torch-backend=cpu" in command
        assert "--no-deps" in command


def test_uv_is_installed_from_its_own_lock_before_it_is_used() -> None:
    lock, use = bootstrap.torch_attempts("Linux", PYTHON, "2.13.0")[-1]
    assert lock[-1] == str(bootstrap.BOOTSTRAP_LOCK)
    assert "--require-hashes" in lock
    assert use[:3] == [str(PYTHON), "-m", "uv"]


def test_elsewhere_the_lock_installs_torch() -> None:
    assert bootstrap.torch_attempts("Darwin", PYTHON, "2.13.0") == []


@pytest.mark.parametrize(
    ("system", "installed", "right"),
    [
        ("Linux", "2.13.0+cpu", True),
        ("Linux", "2.13.0", False),  # the package index's build: CUDA
        ("Linux", "2.13.0+cu130", False),
        ("Linux", "2.12.0+cpu", False),
        ("Linux", None, False),
        ("Darwin", "2.13.0", True),
        ("Darwin", "2.12.0", False),
    ],
)
def test_which_torch_is_right(system: str, installed: str | None, right: bool) -> None:
    assert bootstrap.torch_is_right(system, installed, "2.13.0") is right


def test_pinned_version_reads_the_lock() -> None:
    lock = "other-torch==1.0\ntorch==2.13.0 \\\n    --hash=sha256:00\ntorchcodec==0.13.0\n"
    assert bootstrap.pinned_version(lock, "torch") == "2.13.0"
    with pytest.raises(bootstrap.SetupError, match="make lock"):
        bootstrap.pinned_version("numpy==2.0\n", "torch")


def test_root_installs_debian_packages() -> None:
    commands = bootstrap.system_install(machine(root=True, programs="apt-get"), "ffmpeg")
    assert commands is not None
    assert [c[-1] for c in commands] == ["update", "ffmpeg"]
    assert all("sudo" not in c and "DEBIAN_FRONTEND=noninteractive" in c for c in commands)


def test_sudo_is_used_only_where_it_asks_nothing() -> None:
    asks_nothing = machine(programs="apt-get sudo", sudo=True)
    commands = bootstrap.system_install(asks_nothing, "ffmpeg")
    assert commands is not None
    assert all(c[:2] == ["sudo", "-n"] for c in commands)
    assert bootstrap.system_install(machine(programs="apt-get sudo"), "ffmpeg") is None


def test_brew_installs_without_root() -> None:
    mac = machine(system="Darwin", programs="brew")
    assert bootstrap.system_install(mac, "ffmpeg") == [["brew", "install", "ffmpeg"]]
    assert bootstrap.system_install(machine(system="Darwin"), "ffmpeg") is None


@pytest.mark.parametrize(
    ("here", "typed"),
    [
        (machine(programs="apt-get sudo"), "sudo apt-get install ffmpeg"),
        (machine(root=True, programs="dnf"), "    dnf install ffmpeg-free"),
        (machine(programs="pacman sudo"), "sudo pacman -S ffmpeg"),
        (machine(system="Darwin", programs="brew"), "brew install ffmpeg"),
        (machine(system="Darwin"), "Homebrew"),
        (machine(), "FFmpeg 4 to 8"),
    ],
)
def test_advice_says_what_to_type(here: Machine, typed: str) -> None:
    assert typed in bootstrap.advice(here, "ffmpeg")


def test_advice_for_pythons_own_library() -> None:
    text = bootstrap.advice(machine(programs="apt-get"), "libpython3.12")
    assert "apt-get install libpython3.12" in text
    assert "--enable-shared" in text


@pytest.mark.parametrize(
    ("complaint", "package"),
    [
        ("OSError: libavutil.so.56: cannot open shared object file: No such file", "ffmpeg"),
        # FFmpeg 5 loads but Python's library is missing; the other FFmpegs are not there
        (
            "OSError: libavutil.so.60: cannot open shared object file: No such file\n"
            "OSError: libpython3.11.so.1.0: cannot open shared object file: No such file",
            "libpython3.11",
        ),
        ("Library not loaded: @rpath/libavutil.56.dylib", "ffmpeg"),
        ("ModuleNotFoundError: No module named 'torchcodec'", None),
    ],
)
def test_what_torchcodec_misses(complaint: str, package: str | None) -> None:
    assert bootstrap.missing_package(complaint) == package


@pytest.mark.long
def test_the_decoder_loads_here() -> None:
    assert bootstrap.decoder_complaint(Path(sys.executable)) is None


def test_what_cannot_be_repaired_ends_in_advice(
    monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    complaint = "libavutil.so.60: cannot open shared object file"
    monkeypatch.setattr(bootstrap, "decoder_complaint", lambda python: complaint)
    with pytest.raises(bootstrap.SetupError, match="sudo apt-get install ffmpeg"):
        bootstrap.ensure_decoder(PYTHON, machine(programs="apt-get sudo"), steps)


def test_a_package_that_does_not_help_is_installed_once(
    monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    ran: list[list[str]] = []
    complaint = "libavutil.so.60: cannot open shared object file"
    monkeypatch.setattr(bootstrap, "decoder_complaint", lambda python: complaint)
    monkeypatch.setattr(steps, "run", lambda command: ran.append(command) or True)
    with pytest.raises(bootstrap.SetupError, match="apt-get install ffmpeg"):
        bootstrap.ensure_decoder(PYTHON, machine(root=True, programs="apt-get"), steps)
    assert [command[-1] for command in ran] == ["update", "ffmpeg"]


def test_two_set_ups_of_one_environment_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    program = (
        "from pathlib import Path; from deploy import bootstrap\n"
        f"bootstrap.ROOT = Path({str(tmp_path)!r})\n"
        "with bootstrap.one_at_a_time(): print('mine')"
    )
    with bootstrap.one_at_a_time():
        other = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert "waiting" in other.stdout.readline()
        assert other.poll() is None
    assert other.communicate(timeout=60)[0] == "mine\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_step_that_fails_is_shown_with_its_last_lines_and_the_log(tmp_path: Path) -> None:
    lock, environment = tmp_path / "lock.txt", tmp_path / "environment"
    lock.write_text("torch==0.0.1\n", encoding="utf-8")
    command = [sys.executable, "-m", "deploy.bootstrap", environment, "--requirements", lock]
    no_index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    (environment / "leavings").mkdir(parents=True)
    for time in ("first", "second"):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **no_index},
            capture_output=True,
            text=True,
            check=False,
        )
        shown = re.sub(r"\d+ s\n", "N s\n", done.stdout)
        assert done.returncode == 1, done.stderr
        assert shown == (
            "[1/4] a virtual environment ... N s\n[2/4] torch without CUDA ... failed after N s\n"
        )
        log = environment / "setup.log"
        assert f"(all of it is in {log})" in done.stderr
        assert "    ERROR: No matching distribution found" in done.stderr
        assert done.stderr.index("ERROR: No matching") < done.stderr.index("error: No CPU build")
        assert "torch==0.0.1+cpu" in log.read_text(encoding="utf-8")
        # what was no environment is cleared; one that works is kept
        left = environment / "leavings"
        assert left.exists() == (time == "second")
        left.touch()


def test_a_place_that_cannot_be_had_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lock = str(ROOT / "requirements" / "runtime-cpu.txt")
    command = [sys.executable, "-m", "deploy.bootstrap", str(tmp_path / "file"), "--requirements"]
    done = subprocess.run([*command, lock], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {tmp_path / 'file'} cannot be made: File exists"


# --- the lock files -----------------------------------------------------------------------------


def pins(name: str) -> set[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^([\w.-]+==[\w.]+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    "name",
    ["bootstrap", "development", "openvino", "runtime-cpu", "runtime-cuda", "training-cpu"],
)
def test_every_line_of_a_lock_is_pinned_hashed_and_without_cuda(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text.strip())
    packages = [block for block in blocks if not block.startswith("#")]
    assert packages
    for block in packages:
        assert re.match(r"[\w.-]+==[\w.]+", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]
        assert not re.match(r"nvidia|cuda|triton(?!client)", block)
    assert "://" not in text, "a lock names packages, not where they are downloaded"


def test_the_locks_agree() -> None:
    assert pins("runtime-cpu") < pins("training-cpu") < pins("development")
    cpu, cuda = pins("runtime-cpu"), pins("runtime-cuda")
    assert {p.split("==")[0] for p in cpu ^ cuda} == {"onnxruntime", "onnxruntime-gpu"}
    assert {p.split("==")[1] for p in cpu ^ cuda} == {
        p.split("==")[1] for p in cpu if p.startswith("onnxruntime==")
    }


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("runtime-cpu", ["cpu"]),
        ("runtime-cuda", ["gpu-system"]),
        ("development", ["cpu", "train", "dev"]),
        ("training-cpu", ["cpu", "train", "plots"]),
    ],
)
def test_the_locks_pin_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    """After a change of dependencies: make lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"]]
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    pinned: dict[str, list[str]] = {}
    for pin in pins(name):
        package, _, version = pin.partition("==")
        pinned.setdefault(package, []).append(version)
    for text in asked:
        requirement = Requirement(text)
        versions = pinned.get(canonicalize_name(requirement.name))
        assert versions, f"requirements/{name}.txt does not pin {requirement.name}"
        assert all(requirement.specifier.contains(version) for version in versions), text


def test_what_is_said_of_torchs_requirements_is_true() -> None:
    """pyproject.toml repeats them without CUDA's; a new torch may bring new ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (said,) = [m for m in project["tool"]["uv"]["dependency-metadata"] if m["name"] == "torch"]
    real = importlib.metadata.requires("torch") or []
    needed = {
        requirement
        for requirement in real
        if "extra ==" not in requirement and not re.match(r"nvidia|cuda|triton", requirement)
    }
    assert set(said["requires-dist"]) == needed
    assert said["version"] == importlib.metadata.version("torch").partition("+")[0]


def test_what_is_said_of_timms_requirements_is_true() -> None:
    """The same, without torchvision."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (said,) = [m for m in project["tool"]["uv"]["dependency-metadata"] if m["name"] == "timm"]
    real = set(importlib.metadata.requires("timm") or [])
    assert real - set(said["requires-dist"]) == {"torchvision"}
    assert set(said["requires-dist"]) < real


# --- the choice of a Python ---------------------------------------------------------------------


def find_python(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    shell = shutil.which("sh")
    assert shell is not None
    return subprocess.run(
        [shell, str(ROOT / "deploy" / "find_python.sh")],
        env={"PATH": str(path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def fake_python(directory: Path, name: str, new_enough: bool) -> Path:
    program = directory / name
    answer = f'exec {sys.executable} "$@"' if new_enough else 'echo "Python 3.9.2"; exit 1'
    program.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_a_newer_python_is_found_beside_an_old_one(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", new_enough=False)
    newer = fake_python(tmp_path, "python3.12", new_enough=True)
    assert find_python(tmp_path).stdout.strip() == str(newer)


def test_the_python_that_was_named_is_the_only_candidate(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", new_enough=True)
    old = fake_python(tmp_path, "old", new_enough=False)
    answer = find_python(tmp_path, PYTHON=str(old))
    assert answer.returncode == 1
    assert f"PYTHON={old} is not" in answer.stderr


def test_no_python_that_is_new_enough(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", new_enough=False)
    answer = find_python(tmp_path)
    assert answer.returncode == 1
    assert "3.11 to 3.14 is needed" in answer.stderr
    assert "python3-venv" in answer.stderr


def test_nothing_is_installed_where_all_is_there(steps: Steps) -> None:
    """A second run of the set-up on this very environment only asks pip, and changes nothing."""
    if os.environ.get("VIRTUAL_ENV") is None and sys.prefix == sys.base_prefix:
        pytest.skip("not in a virtual environment")
    version = importlib.metadata.version("torch")
    python = Path(sys.executable)
    system = bootstrap.platform.system()
    bootstrap.install_torch(python, version.partition("+")[0], system, steps)
    assert not steps.log.read_text(encoding="utf-8"), "no program was run"
    assert importlib.metadata.version("torch") == version
