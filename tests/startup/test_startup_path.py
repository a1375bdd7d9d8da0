"""No child runs what lies in the working directory, and each finds what its parent was told of."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("bundle", "export", "lookwhen", "model", "networks", "service", "training", "video")

# Modules that a child imports before its first own line, and some that it imports later.
OFTEN_IMPORTED = ("json", "pickle", "socket", "random", "tempfile", "bundle", "service", "startup")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder in which every import leaves a mark."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in OFTEN_IMPORTED:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + ' ')\n"
            f"raise ImportError('{name}.py of the working directory')\n"
        )
    return folder


def run(script: Path | str, folder: Path, *flags: str, **variables: str) -> str:
    """What a Python script prints that is run in the folder; an argument names this project."""
    # Nor what measures coverage in children: it imports before the script has closed its path.
    left_out = ("PYTHON", "COVERAGE")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    done = subprocess.run(
        [sys.executable, *flags, str(script), str(ROOT)],
        cwd=folder, env=inherited | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "script.py"
    # As an entry of PYTHONPATH would, but without one.
    path.write_text(f"import sys\nsys.path.append(sys.argv[1])\n{text}")
    return path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [str(ROOT)]),
        ("", [str(ROOT)]),
        (os.pathsep, [str(ROOT)]),
        (f"relative{os.pathsep}/one{os.pathsep}.{os.pathsep}/two", [str(ROOT), "/one", "/two"]),
        (f"/one{os.pathsep}{ROOT}{os.pathsep}", ["/one", str(ROOT)]),
    ],
)
def test_children_get_the_absolute_entries(
    tmp_path: Path, given: str | None, expected: list[str]
) -> None:
    show = script(
        tmp_path / "scripts",
        "import os\n"
        "from startup.path import child_environment\n"
        "print(child_environment({'A': 'b', 'PYTHONPATH': '/not/mine'}))\n",
    )
    variables = {} if given is None else {"PYTHONPATH": given}
    found = ast.literal_eval(run(show, tmp_path, **variables))
    assert found.pop("PYTHONPATH").split(os.pathsep) == expected
    assert found == {"A": "b", "PYTHONSAFEPATH": "1"}


def test_a_parent_that_ignores_its_variables_hands_none_on(tmp_path: Path) -> None:
    show = script(
        tmp_path / "scripts",
        "from startup.path import child_environment\nprint(child_environment({})['PYTHONPATH'])\n",
    )
    assert run(show, tmp_path, "-E", PYTHONPATH="/one").strip() == str(ROOT)


def test_a_child_runs_nothing_of_the_working_directory(hostile: Path, tmp_path: Path) -> None:
    """With the parent's own path open, as an interpreter leaves it."""
    start = script(
        tmp_path / "scripts",
        "import os, subprocess\n"
        "sys.path.insert(0, sys.path.pop())\n"
        "from startup.path import child_environment, python_command\n"
        "os.environ['PYTHONPATH'] = os.pathsep\n"
        "code = 'import json, startup, sys; print(json.dumps([startup.__file__, sys.path]))'\n"
        "child = subprocess.run(python_command('-c', code), env=child_environment(),\n"
        "                       capture_output=True, text=True)\n"
        "print(child.stdout, child.stderr)\n",
    )
    where, path = json.loads(run(start, hostile))
    assert where == str(ROOT / "startup" / "__init__.py")
    assert str(hostile) not in path
    assert "" not in path
    assert not (tmp_path / "ran").exists()


def test_spawned_processes_run_nothing_of_the_working_directory(
    hostile: Path, tmp_path: Path
) -> None:
    """multiprocessing starts two kinds: workers, and one that keeps account of semaphores."""
    pool = script(
        tmp_path / "scripts",
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from startup.path import spawn_context\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(1, spawn_context()) as pool:\n"
        "        print(pool.submit(pow, 2, 5).result())\n",
    )
    assert run(pool, hostile) == "32\n"
    assert not (tmp_path / "ran").exists()


def test_a_command_closes_its_own_path(hostile: Path, tmp_path: Path) -> None:
    """For what it imports later, ``json`` here, and for children that libraries start."""
    kept = tmp_path / "kept"
    (kept / "package_of_mine").mkdir(parents=True)
    command = script(
        hostile,
        "sys.path.insert(0, sys.path.pop())\n"  # the project before the hostile startup.py
        "from startup.command import begin\n"
        "sys.path.append(sys.path.pop(0))\n"
        "begin('command')\n"
        "import json, os, package_of_mine\n"
        "print(json.dumps([sys.path, os.environ['PYTHONPATH'], os.environ['PYTHONSAFEPATH']]))\n",
    )
    path, variable, safe = json.loads(
        run(command, hostile, PYTHONPATH=f"{os.pathsep}.{os.pathsep}{kept}")
    )
    assert str(hostile) not in path
    assert path.index(str(kept)) < path.index(os.path.dirname(os.__file__))  # noqa: PTH120
    assert str(ROOT) in path
    assert variable.split(os.pathsep) == [str(ROOT), str(kept)]
    assert safe == "1"
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_was_named_in_full_stays(tmp_path: Path) -> None:
    """The working directory may be on the path because somebody said so."""
    show = script(
        tmp_path / "scripts",
        "from startup.command import begin\nbegin('command')\nprint(repr(sys.path))\n",
    )
    path = ast.literal_eval(run(show, tmp_path, PYTHONPATH=f"{os.pathsep}{tmp_path}"))
    assert path[0] == str(tmp_path)
    assert str(tmp_path / "scripts") not in path


def test_a_working_directory_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = script(
        tmp_path / "scripts",
        "import os\nos.rmdir(os.getcwd())\n"
        "from startup.command import begin\nbegin('command')\nprint(os.environ['PYTHONPATH'])\n",
    )
    assert run(command, gone, PYTHONPATH=".").strip() == str(ROOT)


def uses(path: Path) -> Iterator[tuple[int, str]]:
    """Where a file names the interpreter, or has multiprocessing start something by itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable":
            yield node.lineno, "sys.executable"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in {"get_context", "set_start_method", "Pool"}:
                yield node.lineno, called
            if called == "ProcessPoolExecutor" and "spawn_context" not in ast.unparse(node):
                yield node.lineno, called
            for keyword in node.keywords:
                value = ast.unparse(keyword.value)
                if keyword.arg == "multiprocessing_context" and "spawn_context" not in value:
                    yield node.lineno, value


@pytest.mark.slow
def test_every_child_is_started_by_one_mechanism() -> None:
    """deploy/ has scripts that run before anything is installed, and see to themselves."""
    found = [
        f"{file.relative_to(ROOT)}:{line} {what}"
        for package in (*SHIPPED, "benchmarks")
        for file in sorted((ROOT / package).rglob("*.py"))
        for line, what in uses(file)
    ]
    assert found == []
    own = {what for _, what in uses(ROOT / "startup" / "path.py")}
    assert own == {"sys.executable", "get_context"}


def test_scripts_of_deploy_start_no_open_path() -> None:
    for file in sorted((ROOT / "deploy").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        starts = [line for line in text.splitlines() if "[sys.executable" in line]
        safe = 'os.environ["PYTHONSAFEPATH"] = "1"' in text
        assert all(safe or '"-P"' in line for line in starts), file.name
