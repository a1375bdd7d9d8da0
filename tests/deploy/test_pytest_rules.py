"""deploy/pytest_rules.py, by runs of pytest: what fails a run, and what is called flaky."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / ".ci" / "skips.txt"

# each test fails the first time
FIRST_TIME = """
from pathlib import Path

import pytest


def first_time(name):
    seen = Path(__file__).with_name(name)
    if seen.exists():
        return False
    seen.touch()
    return True


"""


def run(folder: Path, *options: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of the given files under the rules."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -q\n", encoding="utf-8")
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
    (folder / "skips.txt").write_text("# why it may be\nneeds a GPU\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "deploy.pytest_rules", "--color=no"]
    # other plugins take seconds to import, in every process
    own = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, "--allowed-skips", "skips.txt", *options],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def lines(done: subprocess.CompletedProcess[str], start: str) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith(start)]


SPREAD = ("-p", "xdist", "--numprocesses", "2", "--dist", "loadfile")


@pytest.mark.long
@pytest.mark.parametrize("options", [(), SPREAD], ids=["one process", "two"])
def test_a_test_that_fails_by_chance_is_named_and_the_run_passes(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    flaky = FIRST_TIME + textwrap.dedent(
        """
        @pytest.mark.parametrize("n", ["a b", "c"])
        def test_now_and_then(n):
            assert not first_time(n[0]), "the reason of the first time"


        @pytest.fixture
        def resource():
            yield
            assert not first_time("teardown")


        def test_teardown(resource):
            pass
        """
    )
    done = run(tmp_path, *options, test_flaky=flaky, test_sound="def test_sound(): pass")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines(done, "FLAKY") == [
        "FLAKY test_flaky.py::test_now_and_then[a b]",
        "FLAKY test_flaky.py::test_now_and_then[c]",
        "FLAKY test_flaky.py::test_teardown",
    ]
    assert "the reason of the first time" in done.stdout
    closing = done.stdout.splitlines()[-1]
    assert "2 passed, 3 flaky in " in closing, "the teardown's test passed, too"


def test_what_another_test_left_behind_is_no_fault_of_the_process_it_runs_in_again(
    tmp_path: Path,
) -> None:
    leavings = """
    left = []


    def test_first():
        left.append(1)


    def test_second():
        assert not left
    """
    done = run(tmp_path, test_leavings=leavings)
    assert done.returncode == 0, done.stdout
    assert lines(done, "FLAKY") == ["FLAKY test_leavings.py::test_second"]


@pytest.mark.long
def test_a_process_that_died_is_no_fault_of_its_next_test(tmp_path: Path) -> None:
    crash = FIRST_TIME + textwrap.dedent(
        """
        import os


        def test_crash():
            if first_time("crashed"):
                os._exit(3)
        """
    )
    done = run(tmp_path, *SPREAD, test_crash=crash, test_sound="def test_sound(): pass")
    assert done.returncode == 0, done.stdout
    assert lines(done, "FLAKY") == ["FLAKY test_crash.py::test_crash"]


@pytest.mark.parametrize("options", [(), SPREAD], ids=["one process", "two"])
def test_a_broken_test_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    tests = FIRST_TIME + textwrap.dedent(
        """
        def test_broken():
            assert 1 == 2


        def test_flaky():
            assert not first_time("flaky")


        def test_skips_the_second_time():
            assert not first_time("skips")
            pytest.skip("needs a GPU")
        """
    )
    done = run(tmp_path, *options, test_some=tests)
    assert done.returncode == 1
    assert lines(done, "FLAKY") == ["FLAKY test_some.py::test_flaky"]
    assert "2 failed, 1 flaky" in done.stdout.splitlines()[-1]
    assert len(lines(done, "FAILED test_some.py::test_broken")) == 1


def test_a_file_that_cannot_be_imported_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, *SPREAD, test_a="import nothing_of_that_name", test_b="def test(): pass")
    assert done.returncode != 0
    assert "nothing_of_that_name" in done.stdout


def test_many_failures_are_not_run_again(tmp_path: Path) -> None:
    many = FIRST_TIME + textwrap.dedent(
        """
        @pytest.mark.parametrize("n", range(11))
        def test_one(n):
            assert not first_time(str(n))
        """
    )
    done = run(tmp_path, test_many=many)
    assert done.returncode == 1
    assert "11 tests failed, too many to run again" in done.stdout
    assert "11 failed" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("options", [(), SPREAD], ids=["one process", "two"])
def test_a_skip_that_is_not_on_the_list_fails_the_run(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    one = """
    import pytest

    pytestmark = pytest.mark.filterwarnings("ignore")


    @pytest.mark.skipif(True, reason="needs a GPU")
    def test_allowed():
        pass


    @pytest.mark.skipif(True, reason="needs Chromium")
    def test_marked():
        pass


    def test_called():
        pytest.skip("needs a GPU and more")


    @pytest.mark.xfail(reason="known")
    def test_expected():
        assert 0
    """
    other = "import pytest\n\npytest.importorskip('nothing_of_that_name')"
    done = run(tmp_path, *options, test_one=one, test_other=other)
    assert done.returncode == 1
    forbidden = lines(done, "SKIPPED ")
    assert len(forbidden) == 3
    assert "SKIPPED test_one.py::test_marked: needs Chromium" in forbidden
    assert "SKIPPED test_one.py::test_called: needs a GPU and more" in forbidden
    assert any(line.startswith("SKIPPED test_other.py: could not import") for line in forbidden)


def test_a_skip_that_is_on_the_list_does_not(tmp_path: Path) -> None:
    one = "import pytest\n\n\ndef test(): pytest.skip('needs a GPU')\n\n\ndef test_2(): pass\n"
    done = run(tmp_path, *SPREAD, test_one=one)
    assert done.returncode == 0, done.stdout
    assert not lines(done, "SKIPPED")
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]


def test_a_list_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "--allowed-skips", "nowhere.txt", test_one="def test(): pass")
    assert done.returncode == 4
    assert "nowhere.txt: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_reason_of_the_list_is_some_tests() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert any(f'"{line}"' in text for text in texts if "pytest_rules" not in text), line
