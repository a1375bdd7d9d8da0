"""A process that is ended anywhere while it writes a bundle leaves the old one or the new one."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.reader import read_bundle
from bundle.schema import AccuracyPoint
from export.pack import replace_manifest, write_bundle
from startup.stopping import putting_away

pytestmark = [
    pytest.mark.slow,
    # The child writes files and ends; no thread of the parent's is of any use to it.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

POINT = AccuracyPoint(sparsity=0.5, top1=0.25, clips=4)


def ended_at(step: int, number: signal.Signals, write: Callable[[], object]) -> bool:
    """Let a child write, and end it at that system call that Python knows of; whether it came."""
    pid = os.fork()
    if pid == 0:
        left = step

        def count(event: str, _arguments: object) -> None:
            nonlocal left
            if event == "open" or event.startswith(("os.", "fcntl.", "ctypes.dlsym")):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), number)

        with putting_away():
            sys.addaudithook(count)
            write()
            left = 0
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return False
    assert os.WTERMSIG(status) == number
    return True


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("what", ["first", "another", "manifest"])
def test_there_is_always_a_whole_bundle(
    what: str, number: signal.Signals, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle, out = read_bundle(tiny_bundle), tmp_path / "out"
    graphs = bundle.selector, bundle.extractor
    old = bundle.manifest
    new = old.model_copy(update={"version": "2"})
    if what == "manifest":
        new = old.model_copy(update={"accuracy": [POINT]})
    steps = 0
    while True:
        if what != "first":
            write_bundle(out, old, *graphs)
        steps += 1
        ended = ended_at(
            steps,
            number,
            lambda: (
                replace_manifest(out, new)
                if what == "manifest"
                else write_bundle(out, new, *graphs)
            ),
        )
        if out.exists() or what != "first":
            assert read_bundle(out).manifest in (old, new)
        left = {entry.name for entry in tmp_path.iterdir()} - {"out"}
        assert not left or number == signal.SIGKILL
        if not ended:
            break
        if what == "first":
            write_bundle(out, new, *graphs)  # the next one removes what was left
            assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
            for file in out.iterdir():
                file.unlink()
            out.rmdir()
    assert read_bundle(out).manifest == new
    assert steps > 10
