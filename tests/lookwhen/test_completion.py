"""Completion in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with a ``lookwhen`` of this interpreter."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "lookwhen"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m lookwhen "$@"\n')
    program.chmod(0o755)
    return folder


def bash(script: str, programs: Path) -> "subprocess.CompletedProcess[str]":
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**inherited, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def completed(line: str, programs: Path) -> list[str]:
    """What a shell offers for the last word of a line, by the function that is registered."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    done = bash(
        'eval "$(lookwhen completion bash)"\n'
        f"COMP_WORDS=({quoted})\nCOMP_CWORD={len(words) - 1}\n"
        "function=$(complete -p lookwhen | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        '"$function" lookwhen\nprintf "%s\\n" "${COMPREPLY[@]}"\n',
        programs,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lookwhen se", ["serve"]),
        ("lookwhen train f", ["finetune"]),
        ("lookwhen train teachers ", ["image", "video", "store"]),
        ("lookwhen serve --po", ["--port"]),
        ("lookwhen train sheet --se", ["--seed"]),
        ("lookwhen completion z", ["zsh"]),
    ],
)
def test_bash_completes(line: str, offered: list[str], programs: Path) -> None:
    assert completed(line, programs) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_it_takes(shell: str, programs: Path) -> None:
    done = bash(f"lookwhen completion {shell}", programs)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_LOOKWHEN_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell) is None:
        return  # the text alone was looked at
    read = subprocess.run([shell, "-n"], input=done.stdout, text=True, check=False)
    assert read.returncode == 0


@pytest.mark.long
def test_a_missing_extra_completes_nothing_and_says_nothing(programs: Path) -> None:
    (programs / "sitecustomize.py").write_text("import sys\nsys.modules['safetensors'] = None\n")
    script = (
        f"export PYTHONPATH={programs}:$PYTHONPATH COMP_CWORD=3 _LOOKWHEN_COMPLETE=bash_complete\n"
        "COMP_WORDS='lookwhen train probe --se' lookwhen"
    )
    done = bash(script, programs)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
