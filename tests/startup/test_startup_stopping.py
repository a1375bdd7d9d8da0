"""A command that is ended by a signal puts away what it began, and dies of that signal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A background job and `nohup` ignore signals, and so do all processes that they start.
HEEDS = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
# Prints a line, and waits inside of something that has to be put away.
WAITS = """
import contextlib, pathlib, sys, time
import click
from startup.console import Command

@contextlib.contextmanager
def begun(path):
    path.write_text("")
    try:
        yield
    finally:
        path.unlink()

@click.command(cls=Command)
@click.argument("path", type=click.Path(path_type=pathlib.Path))
def wait(path):
    with begun(path):
        try:
            print("here", flush=True)
            time.sleep(60)
        except Exception:
            pass

wait()
"""


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP),
        (signal.SIGINT, 1),  # click's "Aborted!"
    ],
)
def test_a_signal_ends_a_command_in_order(number: int, status: int, tmp_path: Path) -> None:
    path = tmp_path / "begun"
    with subprocess.Popen(
        [sys.executable, "-c", HEEDS + WAITS, str(path)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert path.exists()
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert not path.exists()
    assert "Traceback" not in said


def test_signals_that_others_look_after_stay_theirs(tmp_path: Path) -> None:
    script = WAITS.replace(
        "time.sleep(60)", "print(int(signal.getsignal(signal.SIGHUP)), flush=True)"
    )
    script = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + script
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "begun")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["here", str(int(signal.SIG_IGN))], done.stderr
