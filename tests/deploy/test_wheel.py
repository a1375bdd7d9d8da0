"""The wheel in a fresh environment: it serves from any folder, or says which extra it takes."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from startup.packages import EXTRAS

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bundle", "export", "lookwhen", "model", "networks", "service", "startup", "training",
            "video")  # fmt: skip
# What the extras install.
OPTIONAL = {*EXTRAS, "onnx_ir"}
# The built-in model knows this clip; of clips by chance it takes one in twenty for another.
KNOWN = ("--seed", 3)
# One of each kind: the sentence is made once for a package's commands, and each takes seconds.
COMMANDS = {"export": 1, "train finetune": 1, "train render": 0, "model cost": 0}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a checkout with folders of the user's beside the packages."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bundles", "model_of_mine", "service2", "runs"):
        (tree / name).mkdir()
        (tree / name / "mine.py").write_text("mine = True\n")
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, tree)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What development has installed, but for the project itself and what its extras bring."""
    return links(tmp_path_factory.mktemp("base"), lambda name: name not in OPTIONAL)


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return links(tmp_path_factory.mktemp("extras"), lambda name: name in OPTIONAL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path, base: Path) -> Path:
    """The programs of a fresh environment that has the wheel and no extra."""
    folder = tmp_path_factory.mktemp("environment")
    programs = fresh(folder, base)
    pip("--python", programs / "python", "install", wheel)
    # Beside the script, as in a folder of a person's own programs.
    booby_trap(programs, ("json", "click", "torch", "onnxruntime", "numpy"))
    return programs


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("hostile")
    booby_trap(folder, ("json", "torch", "service/__init__", "model", "export", "pickle", "socket",
                        "random", "bundle", "startup", "training/__init__"))  # fmt: skip
    yield folder
    assert not marks(), "something of the working directory ran"


def marks() -> list[str]:
    return sorted(path.name for path in MARKS.iterdir()) if MARKS.exists() else []


MARKS = Path(os.environ.get("TMPDIR", "/tmp")) / f"lookwhen-marks-{os.getpid()}"


def booby_trap(folder: Path, modules: tuple[str, ...]) -> None:
    """Modules that leave a mark when they are imported, and then fail."""
    for module in modules:
        path = folder / f"{module}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"import os\nos.makedirs({str(MARKS)!r}, exist_ok=True)\n"
            f"open(os.path.join({str(MARKS)!r}, __name__), 'w').close()\n"
            "raise ImportError('this is not the module that was meant')\n"
        )


def links(folder: Path, wanted: Callable[[str], bool]) -> Path:
    site = Path(sysconfig.get_paths()["purelib"])
    for entry in site.iterdir():
        name = entry.name.partition("-")[0].partition(".")[0]
        ours = name == "lookwhen" or entry.suffix == ".pth" or entry.name.startswith("__")
        if not ours and wanted(name):
            (folder / entry.name).symlink_to(entry)
    return folder


def fresh(folder: Path, *packages: Path) -> Path:
    """The programs of a new environment without pip that finds packages there."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text("".join(f"{path}\n" for path in packages))
    return folder / "bin"


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    local = ["--no-index"] if "--python" in arguments or "wheel" in arguments else []
    done = subprocess.run(
        [*command, *map(str, arguments), *local], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def variables(**more: object) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LOOKWHEN_", "PYTHON"))}
    # Importing torch takes minutes on a machine that does much else.
    kept["LOOKWHEN_DECODE_START_TIMEOUT_SECONDS"] = "300"
    return kept | {name: str(value) for name, value in more.items()}


def run(*command: object, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=variables(**more), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    present = {name for name in tracked if (ROOT / name).exists()}
    assert present
    assert packed == present


def test_without_an_extra_each_command_names_it(installed: Path, hostile: Path) -> None:
    asked: dict[str, list[object]] = {
        "serve": [installed / "lookwhen", "serve", "--port", 0],
        "classify": [installed / "lookwhen", "classify", "clip.mp4"],
    } | {name: [installed / "lookwhen", *name.split(), "--help"] for name in COMMANDS}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        answers = threads.map(lambda command: run(*command, cwd=hostile), asked.values())
        for name, done in zip(asked, answers, strict=True):
            if COMMANDS.get(name) == 0:
                assert done.returncode == 0, done.stderr
                assert f"Usage: lookwhen {name} " in done.stdout
                continue
            assert done.returncode == 1, (name, done.stderr)
            (sentence,) = done.stderr.splitlines()
            if name in ("serve", "classify"):
                assert sentence == (
                    "lookwhen: this needs onnxruntime, which is not installed: "
                    "pip install 'lookwhen[cpu]' (on NVIDIA GPUs 'lookwhen[gpu]')"
                )
            else:
                assert sentence.startswith("lookwhen: this needs ")
                assert "pip install 'lookwhen[train" in sentence
    assert not marks()


def test_what_the_sentence_says_to_type_completes_the_installation(installed: Path) -> None:
    """pip takes the LookWhen that is there, and asks an index for what the extra adds alone."""
    command = shlex.split("install 'lookwhen[train]'")
    done = run(sys.executable, "-m", "pip", "--python", installed / "python", *command,
               "--no-index", cwd=installed)  # fmt: skip
    assert done.returncode != 0
    assert "Requirement already satisfied: lookwhen[train]" in done.stdout
    assert "No matching distribution found for safetensors>=" in done.stderr


def test_it_serves_in_a_folder_full_of_traps(
    installed: Path, hostile: Path, extras: Path, tmp_path: Path
) -> None:
    """The extra's packages are where PYTHONPATH says."""
    lookwhen, log = installed / "lookwhen", tmp_path / "log"
    made = run(lookwhen, "sample", tmp_path / "clip.mp4", *KNOWN, "--json", cwd=hostile)
    assert made.returncode == 0, made.stderr
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            [lookwhen, "serve", "--port", "0", "--decode-workers", "1", "--log-format", "json"],
            cwd=hostile, stderr=stderr, process_group=0,
            env=variables(PYTHONPATH=extras, LOOKWHEN_DECODE_SPARE_WORKERS=0,
                          LOOKWHEN_WARM_UP_SECONDS=0, LOOKWHEN_CALIBRATION_SECONDS=0),
        )  # fmt: skip
    try:
        address = address_when_ready(server, log)
        answer = httpx.post(
            f"{address}/classify",
            content=(tmp_path / "clip.mp4").read_bytes(),
            headers={"content-type": "video/mp4"},
            timeout=120,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["labels"][0]["label"] == json.loads(made.stdout)["label"]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert not marks()


def address_when_ready(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline, address = time.monotonic() + 300, None
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            address = line["address"] if line["message"] == "listening" else address
        with contextlib.suppress(httpx.HTTPError):
            if address and httpx.get(f"{address}/readyz", timeout=10).status_code == 200:
                return str(address)
        time.sleep(0.2)
    raise AssertionError("it does not get ready: " + log.read_text())


def test_a_target_folder_and_pythonpath_are_an_installation(
    wheel: Path, base: Path, extras: Path, hostile: Path, tmp_path: Path
) -> None:
    """The decode worker finds the project and torch by nothing but what its parent hands on."""
    python = fresh(tmp_path / "environment") / "python"
    pip("--python", python, "install", "--no-deps", "--target", tmp_path / "target", wheel)
    path = os.pathsep.join(str(folder) for folder in (tmp_path / "target", base, extras))
    lookwhen = (python, tmp_path / "target" / "bin" / "lookwhen")
    clip = tmp_path / "clip.mp4"
    made = run(*lookwhen, "sample", clip, *KNOWN, "--json", cwd=hostile, PYTHONPATH=path)
    assert made.returncode == 0, made.stderr
    done = run(*lookwhen, "classify", clip, "--json", cwd=hostile, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"][0]["label"] == json.loads(made.stdout)["label"]
    assert not marks()
