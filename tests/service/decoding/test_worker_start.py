"""How a decode worker is started, and what is told of one that does not get ready."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from service.decoding import last_words
from service.decoding.process import DecodeProcess, WorkerStartError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that every worker runs before all else: Python's own hook, in a named folder."""
    folder = tmp_path / "hook"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder / "sitecustomize.py"


def descriptors() -> set[str]:
    """What this process has open, by number, and the one that looks."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def failure(seconds: float = 300) -> str:
    """Why a worker does not start; nothing of it may be left open."""

    async def start() -> str:
        before = descriptors()
        with pytest.raises(WorkerStartError) as caught:
            await DecodeProcess.start(seconds, lambda worker: None)
        assert descriptors() == before
        return str(caught.value)

    return asyncio.run(start())


def test_a_worker_that_ends_is_quoted(first_line: Path) -> None:
    first_line.write_text(
        "import os, sys\n"
        "print('no such thing:\\n\\n  libwhatever.so\\x1b[31m', file=sys.stderr, flush=True)\n"
        "os._exit(3)\n"
    )
    assert failure() == (
        "a decode worker ended before it was ready, with exit status 3; "
        "it said: no such thing: | libwhatever.so?[31m"
    )


def test_a_worker_that_is_killed_has_the_signal_told(first_line: Path) -> None:
    first_line.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert failure() == "a decode worker ended before it was ready, by SIGSEGV"


@pytest.mark.long
def test_a_worker_that_takes_too_long_is_quoted(first_line: Path) -> None:
    first_line.write_text(
        "import sys, time\nprint('waiting for a lock', file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    assert failure(5) == (
        "a decode worker was not ready after 5 seconds; it said: waiting for a lock"
    )


@pytest.mark.slow
def test_a_worker_that_fails_by_itself_is_quoted(first_line: Path) -> None:
    """What it sends through its socket, and what a library wrote on the way there."""
    first_line.write_text(
        "import os, sys\nos.write(2, b'libfoo: version mismatch')\nsys.modules['torch'] = None\n"
    )
    told = failure()
    assert told.startswith("a decode worker could not start: ModuleNotFoundError: ")
    assert told.endswith("; it said: libfoo: version mismatch")


def test_a_worker_may_say_any_amount(first_line: Path) -> None:
    """More than a pipe holds: it would wait for a reader, and the service for it."""
    first_line.write_text(
        "import os, sys\nsys.stderr.write('a lot of words ' * 1_000_000 + 'the end')\n"
        "sys.stderr.flush()\nos._exit(3)\n"
    )
    told = failure()
    assert told.endswith("the end")
    assert "; it said: ... " in told
    assert len(told) < 1500


def test_who_inherits_a_workers_standard_error_holds_nobody_up(first_line: Path) -> None:
    first_line.write_text(
        "import os, subprocess, sys\n"
        "sys.stderr.write('gone')\nsys.stderr.flush()\n"
        "subprocess.Popen(['sh', '-c', 'while sleep 0.1 && echo still here >&2; do :; done'])\n"
        "os._exit(3)\n"
    )
    began = time.monotonic()
    assert "; it said: gone" in failure()
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_nothing_is_read_of_a_worker_that_is_ready(
    first_line: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """FFmpeg quotes clips on standard error. The pipe is gone, at both of its ends."""
    first_line.write_text("import sys\nprint('a warning', file=sys.stderr)\n")
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join(["", ".", "relative", os.environ["PYTHONPATH"], str(tmp_path), ""]),
    )
    monkeypatch.chdir(tmp_path)

    async def check() -> None:
        before = descriptors()
        worker = await DecodeProcess.start(300, lambda worker: None)
        try:
            proc = Path(f"/proc/{worker.pid}")
            for stream in ("1", "2"):
                assert (proc / "fd" / stream).readlink() == Path(os.devnull)
            assert (proc / "cwd").readlink() == Path("/")
            assert b"\0-P\0" in (proc / "cmdline").read_bytes()
            variables = (proc / "environ").read_bytes().decode().split("\0")
            path = f"{ROOT}{os.pathsep}{first_line.parent}{os.pathsep}{tmp_path}"
            assert f"PYTHONPATH={path}" in variables
            assert len(descriptors() - before) == 1, "its socket, nothing else"
        finally:
            await worker.stop()
        assert descriptors() == before

    asyncio.run(check())


def test_last_words_end_with_their_pipe() -> None:
    """It is closed twice, by the start and by the end of a worker; another file that has the number
    by then keeps it."""

    async def check() -> None:
        reading, writing = os.pipe()
        with open(writing, "wb", buffering=0) as theirs:  # noqa: PTH123
            words = last_words.LastWords(open(reading, "rb"))  # noqa: PTH123, SIM115
            theirs.write(b"one\ntwo\n")
            words.close()
            other = os.open(os.devnull, os.O_RDONLY)
            words.close()
            os.fstat(other)
            os.close(other)
            assert words.quoted() == "; it said: one | two"
            with pytest.raises(BrokenPipeError):
                theirs.write(b"three")

    asyncio.run(check())
