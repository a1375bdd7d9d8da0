"""deploy/steps.py: what a person sees who waits, and what is kept for when it fails."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.steps import Steps

ROOT = Path(__file__).resolve().parents[2]


def say(*lines: str, status: int = 0) -> list[str]:
    code = f"import sys; print(*{lines!r}, sep='\\n'); sys.exit({status})"
    return [sys.executable, "-c", code]


def test_a_step_is_a_line_and_its_programs_output_is_in_the_log(tmp_path: Path) -> None:
    out = io.StringIO()
    with Steps(tmp_path / "log", 2, out) as steps:
        with steps.step("the first"):
            assert steps.run(say("one", "two"))
        with steps.step("the second"):
            assert not steps.run([sys.executable, "-c", "import sys; sys.exit('went wrong')"])
            steps.note("a note")
    shown = re.sub(r"\d+ s", "N s", out.getvalue())
    assert shown == "[1/2] the first ... N s\n[2/2] the second ... N s\n"
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "one\ntwo\n" in log
    assert "went wrong\na note\n" in log, "what is said on standard error, too"
    assert steps.tail[-2:] == ["went wrong", "a note"]
    assert not any("one" in line for line in steps.tail), "the tail is of one step"


def test_a_step_that_raises_is_shown_as_failed(tmp_path: Path) -> None:
    out = io.StringIO()
    with (
        Steps(tmp_path / "log", 1, out) as steps,
        pytest.raises(ValueError, match="no"),
        steps.step("it"),
    ):
        raise ValueError("no")
    assert re.fullmatch(r"\[1/1\] it \.\.\. failed after \d+ s\n", out.getvalue())


def test_only_the_last_lines_are_the_tail_and_bytes_that_are_no_text_do_no_harm(
    tmp_path: Path,
) -> None:
    with Steps(tmp_path / "log", 1, io.StringIO()) as steps, steps.step("it"):
        code = "import sys; sys.stdout.buffer.write(b'\\n'.join(b'%d\\xff' % n for n in range(99)))"
        assert steps.run([sys.executable, "-c", code])
    assert len(steps.tail) == 15
    assert steps.tail[-1] == "98\ufffd"
    assert "0\ufffd" in (tmp_path / "log").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_terminal_sees_the_seconds_pass_and_what_is_said(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    said = "import time; print('Down\\tloading' + 200 * 'g', flush=True); time.sleep(3.5)"
    program = (
        "import sys; from pathlib import Path; from deploy.steps import Steps\n"
        f"with Steps(Path({str(tmp_path / 'log')!r}), 1) as steps, steps.step('the step'):\n"
        f"    steps.run([sys.executable, '-c', {said!r}])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "60"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # how a terminal says that nobody writes to it any more
    os.close(ours)
    assert process.wait(60) == 0, shown
    drawn = shown.decode().split("\r\x1b[K")
    alive = [line for line in drawn if line.startswith("[1/1] the step ... ")]
    assert len(alive) >= 3, "more than once while it ran, and at its end"
    assert any("Down loading" in line for line in alive)
    assert all(len(line.rstrip("\r\n")) < 60 for line in drawn)
    assert re.fullmatch(r"\[1/1\] the step \.\.\. \d+ s\r\n", drawn[-1])
