"""What is told of a package that an extra installs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from startup.packages import EXTRAS, how_to_install, missing

ROOT = Path(__file__).parents[2]


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package, extras in EXTRAS.items():
        for extra in extras:
            listed = [
                re.split(r"[^A-Za-z0-9-]", line)[0]
                for line in project["optional-dependencies"][extra]
            ]
            # timm brings torchvision, and onnxruntime-gpu is imported as onnxruntime
            names = {package, f"{package}-gpu", package.replace("_", "-")}
            names |= {"timm"} if package == "torchvision" else set()
            assert names & set(listed), f"{package} is not in the extra {extra}"


def test_what_to_type() -> None:
    assert how_to_install("matplotlib") == "pip install 'lookwhen[plots]'"
    assert how_to_install("safetensors", "train") == "pip install 'lookwhen[train]'"
    assert how_to_install("onnxruntime", "train") == (
        "pip install 'lookwhen[train,cpu]' (on NVIDIA GPUs 'lookwhen[train,gpu]')"
    )


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libcudart.so is missing", name="onnxruntime"),
        ModuleNotFoundError("No module named 'mine'", name="mine"),
        ValueError("onnxruntime"),
    ],
)
def test_other_errors_are_no_missing_extra(error: Exception) -> None:
    assert missing(error) is None


def test_one_sentence_or_the_traceback_that_there_was() -> None:
    def end(line: str) -> tuple[int, str]:
        code = (
            "import sys\nsys.modules['onnxscript'] = None\n"
            "from startup.packages import explain_missing\nexplain_missing('export', 'train')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code + line], cwd=ROOT, capture_output=True, text=True
        )
        return done.returncode, done.stderr

    assert end("import onnxscript") == (
        1,
        "export: this needs onnxscript, which is not installed: pip install 'lookwhen[train]'\n",
    )
    code, text = end("import no_such_module")
    assert code == 1
    assert text.startswith("Traceback")
    assert "No module named 'no_such_module'" in text


def test_importing_a_package_of_ours_changes_nothing() -> None:
    """Only ``python -m`` makes a command of it: other programs keep their path and their hook."""
    code = (
        "import sys, os\nbefore = (list(sys.path), sys.excepthook, dict(os.environ))\n"
        "import training, export, model\n"
        "assert before == (sys.path, sys.excepthook, dict(os.environ))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_documents_name_no_command_with_an_open_path() -> None:
    """``python -m export`` in a folder with an ``export.py`` runs that one."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    open_path = re.compile(
        r"python3? -m (?:training|export|lookwhen|model)\b|torchrun --(?!.* --no-python lookwhen)"
    )
    found = [
        f"{name}: {match[0]}"
        for name in tracked
        if not name.startswith(("benchmarks/results/", "tests/"))
        and Path(name).suffix in {".md", ".py", ".toml", ".yml", ".sh", ""}
        and (ROOT / name).is_file()
        for match in open_path.finditer((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_command_has_its_path_closed_and_tells_its_name() -> None:
    commands = [
        path
        for package in ("export", "model", "networks", "training")
        for path in sorted((ROOT / package).rglob("*.py"))
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    ]
    assert len(commands) >= 13
    subcommands = {"training.moving_things.sample": "lookwhen sample"}
    for path in commands:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        name = subcommands.get(module, f"python -P -m {module}")
        assert f'(prog_name="{name}")' in path.read_text(encoding="utf-8"), path
    for package in {path.relative_to(ROOT).parts[0] for path in commands}:
        text = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
        assert 'begin_module(__name__, "train")' in text
