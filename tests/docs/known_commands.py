"""Whether a command that a document shows exists, with its options, without running it."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path

import click

from lookwhen.command_line import main
from lookwhen.deferred import Deferred
from service.settings import Settings

ROOT = Path(__file__).parents[2]
_SETTINGS = {f"LOOKWHEN_{name.upper()}" for name in Settings.model_fields} | {
    "LOOKWHEN_KEY"  # the client's
}
_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def check(words: Sequence[str]) -> None:
    """Fail if the command could not be typed like this.

    Programs that are none of ours are not looked at.
    """
    words = list(words)
    while words and re.match(r"[A-Z_]+=", words[0]):
        name = words.pop(0).partition("=")[0]
        assert name in _SETTINGS or not name.startswith("LOOKWHEN_"), name
    for end in ("&&", "|", ">", ">>"):
        if end in words:
            at = words.index(end)
            if end == "&&":
                check(words[at + 1 :])
            words = words[:at]
    if "--no-python" in words:  # torchrun
        words = words[words.index("--no-python") + 1 :]
    if not words:
        return
    program, *rest = words
    if program == "lookwhen":
        _check_click(main, rest)
    elif program == "python" and rest[0] == "-m" and "..." not in rest[1]:
        _check_module(rest[1], rest[2:])
    elif program == "make":
        for word in rest:
            assert "=" in word or word in _TARGETS, f"the Makefile has no target {word}"


def _check_module(name: str, words: list[str]) -> None:
    if name.split(".")[0] not in {"benchmarks", "deploy", "service"}:
        return
    path = ROOT.joinpath(*name.split("."))
    module = importlib.import_module(f"{name}.__main__" if path.is_dir() else name)
    commands = [value for value in vars(module).values() if isinstance(value, click.Command)]
    if commands:
        _check_click(getattr(module, "main", commands[-1]), words)
    else:
        assert not words, f"{name} takes no arguments"


def _check_click(command: click.Command, words: list[str]) -> None:
    while isinstance(command, click.Group):
        if not words or words[0].startswith(("-", "...")) or words[0].isupper():
            break  # the group itself, or any command of it
        if "own" in command.commands and "/" in words[0]:
            words.insert(0, "own")  # what a path means here
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    if isinstance(command, Deferred):
        command = command.load()
    if "..." in words or not words or "--help" in words or isinstance(command, click.Group):
        return  # an abbreviation, or a name alone
    context = click.Context(command, ignore_unknown_options=False)
    values, rest, _ = command.make_parser(context).parse_args(words)
    assert not rest, f"too many arguments: {rest}"
    for parameter in command.params:
        value = values.get(parameter.name)
        if isinstance(parameter, click.Argument) and parameter.required:
            assert value, f"{parameter.name} is missing"
        if isinstance(parameter.type, click.Choice | click.types.IntParamType) and value:
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, str) and not one.isupper():
                    parameter.type.convert(one, parameter, context)
