"""The one command: it lists everything at once, loses nothing, and names what replaces the old."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lookwhen.command_line import main
from lookwhen.deferred import Deferred
from startup.command import SUCCESSORS

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "commands.md"


def commands(group: click.Group = main, *words: str) -> Iterator[tuple[str, Deferred]]:
    """Every command with what people type for it, behind ``lookwhen``."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)
        else:
            assert isinstance(command, Deferred)
            yield " ".join((*words, name)), command


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LOOKWHEN_", "LOCAL_"))}
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=ROOT, env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_help_imports_nothing_that_takes_time() -> None:
    for words in ([], ["train"], ["train", "teachers"], ["serve"], ["classify"]):
        script = (
            "import sys\nfrom lookwhen.command_line import main\n"
            f"main([*{words}, '--help'], standalone_mode=False)\n"
            "print(*sys.modules, file=sys.stderr)\n"
        )
        done = run("-c", script)
        assert done.returncode == 0, done.stderr
        assert "--help" in done.stdout
        heavy = {"torch", "pydantic", "fastapi", "numpy", "onnxruntime", "rich", "httpx", "cv2"}
        assert not heavy & set(done.stderr.split()), words


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_the_listed_help_is_the_commands_own(name: str) -> None:
    command = dict(commands())[name]
    assert command.short_help == command.load().get_short_help_str(limit=200)


def test_no_command_of_before_is_lost() -> None:
    reachable = [command.load() for _, command in commands()]
    for module in SUCCESSORS.keys() - {"service"}:
        path = ROOT.joinpath(*module.split("."))
        found = importlib.import_module(f"{module}.__main__" if path.is_dir() else module)
        command = found.sample if module.endswith("sample") else found.main
        for one in command.commands.values() if isinstance(command, click.Group) else [command]:
            assert one in reachable, f"{module}: {one.name}"


def test_what_takes_the_place_of_an_old_command_exists() -> None:
    # A group stands for its commands: "lookwhen", "lookwhen train teachers".
    known = {f"lookwhen {name}" for name, _ in commands()}
    for successor in SUCCESSORS.values():
        first, *others = successor.split(" or ")
        names = [first, *(f"{first.rpartition(' ')[0]} {other}" for other in others)]
        for name in names:
            assert any(command == name or command.startswith(f"{name} ") for command in known), name


def test_every_command_is_documented() -> None:
    rows = re.findall(r"^\| `lookwhen ([a-z ]+?)(?: [A-Z\[].*?)?` \|", DOCUMENT.read_text(), re.M)
    assert rows == [name for name, _ in commands()]


def test_documents_name_no_command_of_before() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    programs = r"[\w.]*(?:worker|zygote|settings)"  # that no person starts
    old = re.compile(rf"(?<!\w)-m (?:training|export|model|service)(?!{programs})\b")
    allowed = {"CHANGELOG.md", "docs/commands.md", "service/__main__.py"}
    found = [
        f"{name}: {line.strip()}"
        for name in tracked
        if not name.startswith(("benchmarks/results/", "tests/")) and name not in allowed
        and Path(name).suffix in {".md", ".py", ".toml", ".yml", ".sh", ""}
        and (ROOT / name).is_file()
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if old.search(line) and "prog_name=" not in line
    ]  # fmt: skip
    assert found == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nonsense", "lookwhen: No such command 'nonsense'."),
        ("--nonsense", "lookwhen: No such option '--nonsense'."),
        ("train nonsense", "lookwhen: No such command 'nonsense'."),
        ("classify a.mp4 --views 1x2", "lookwhen: --views must be"),
        ("train finetune absent.safetensors out folders clips", "lookwhen: Invalid value for"),
        ("train pool absent.csv", "lookwhen: Invalid value for"),
        ("export absent.safetensors out", "lookwhen: no bundle was written: absent"),
        ("bundle show absent", "lookwhen: absent is not a usable bundle"),
    ],
)
def test_errors_have_one_style(words: str, said: str) -> None:
    result = CliRunner().invoke(main, words.split(), prog_name="lookwhen")
    assert result.exit_code in (1, 2)
    assert result.output.splitlines()[-1].startswith(said), result.output
    if result.exit_code == 2:
        assert result.output.startswith("Usage: lookwhen")
        assert "Try 'lookwhen" in result.output


def test_a_group_alone_shows_its_help() -> None:
    result = CliRunner().invoke(main, ["train"], prog_name="lookwhen")
    assert result.output.startswith("Usage: lookwhen train [OPTIONS] COMMAND")
    assert "  finetune " in result.output


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "successor"),
    [
        ("service", "lookwhen"),
        ("model", "lookwhen model cost"),
        ("training.moving_things", "lookwhen train render or sheet"),
        ("export.unpack", "lookwhen bundle unpack"),
    ],
)
def test_an_old_command_works_and_names_the_new_one(module: str, successor: str) -> None:
    done = run("-m", module, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
    assert done.stderr == (
        f"`python -m {module}` will be gone in the next release: use `{successor}`\n"
    )


@pytest.mark.slow
def test_torchrun_says_it_once_and_decode_workers_never() -> None:
    assert run("-m", "training.moving_things", "--help", LOCAL_RANK="1").stderr == ""
    # Without its socket a worker ends; what matters is what it says.
    assert "lookwhen" not in run("-m", "service.decoding.worker").stderr


def test_classify_has_an_option_for_each_request_parameter() -> None:
    from lookwhen.classify import classify
    from service.sparsity.parameters import Parameters, SweepParameters
    from service.sparsity.reading import names

    options = {parameter.name for parameter in classify.params}
    # Its own name, because it asks another address.
    assert {*names(Parameters), *names(SweepParameters)} - {"sparsities"} | {"sweep"} <= options
