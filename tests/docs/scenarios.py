"""Carries out what a document shows, in a folder of its own and with a service of its own."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import service_clips
from documents import ROOT, Block, Command
from service_server import Server

from bundle.built_in import default_bundle_path

_ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1):8000")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")


class Scenario:
    """The commands of one document, in their order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        self._server: Server | None = None
        # `lookwhen` is on the path, as a document says, and nothing of this process's settings.
        programs = folder / ".programs"
        programs.mkdir()
        (programs / "lookwhen").write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -P -m lookwhen "$@"\n'
        )
        (programs / "lookwhen").chmod(0o755)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
        self._environment = inherited | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "80",
            "LOOKWHEN_DECODE_START_TIMEOUT_SECONDS": "300",
        }

    def run(self, block: Block) -> None:
        """Carry out a block, and compare what it shows."""
        text = block.text
        if change := block.marks.get("run with"):
            before, _, after = change.partition(" as ")
            assert before in text, f"{block.name} has no {before!r}"
            text = text.replace(before, after)
        changed = Block(block.document, block.line, block.language, text, block.marks)
        if block.language in {"sh", "console"}:
            for command in changed.commands():
                self._command(command, may_fail=bool(command.output))
                if block.language == "console" and command.output:
                    compare_text(command.output, self.said, block.varies)
        elif block.language == "json":
            compare_json(json.loads(text), json.loads(self.said), block.varies)
        elif block.language == "python":
            program = self.folder / "program.py"
            program.write_text(self._here(text))
            self._shell(f'"{sys.executable}" -P program.py')

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _command(self, command: Command, *, may_fail: bool) -> None:
        words = command.words
        if words[0] == ".":  # activates the environment
            return
        if "serve" in words and "--help" not in words:
            self._serve(words)
            return
        text = command.text
        text = self._here(text)
        quietly = text.replace("curl ", "curl -sS ", 1) if text.startswith("curl") else text
        self._shell(quietly, may_fail=may_fail)

    def _here(self, text: str) -> str:
        """The text with the address of the service, which is started where it names one."""
        if not _ADDRESS.search(text):
            return text
        if self._server is None:
            self._serve([])
        assert self._server is not None
        return _ADDRESS.sub(self._server.url, text)

    def _shell(self, text: str, *, may_fail: bool = False) -> None:
        done = subprocess.run(
            ["sh", "-c", text],
            cwd=self.folder, env=self._environment, text=True, timeout=600, check=False,
            # as a terminal shows them; a bar that is no longer there is not shown
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.said = "\n".join(line for line in done.stdout.splitlines() if "━━━ " not in line)
        assert done.returncode == 0 or may_fail, f"{text}\n{done.stdout}"

    def _serve(self, words: list[str]) -> None:
        """Start the service as a document says, but at a free port."""
        self.stop()
        settings: dict[str, Any] = {}
        for word in words[: words.index("lookwhen")] if words else []:
            name, _, value = word.partition("=")
            path = self.folder / value
            settings[name.removeprefix("LOOKWHEN_").lower()] = path if path.exists() else value
        options = words[words.index("serve") + 1 :] if words else []
        for option, value in zip(options[::2], options[1::2], strict=True):
            settings[option.removeprefix("--").replace("-", "_")] = value
        bundle = settings.pop("bundle", default_bundle_path())
        self._server = Server(bundle, self.folder / "service.log", **settings).wait_until_ready()


def compare_text(expected: str, said: str, varies: set[str]) -> None:
    """Compare what was printed; `...` in a line stands for anything."""

    def plain(text: str) -> list[str]:
        lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        return [_NUMBER.sub("N", line) for line in lines] if "numbers" in varies else lines

    wanted, found = plain(expected), plain(said)
    assert len(wanted) == len(found), f"shown:\n{expected}\nprinted:\n{said}"
    for shown, printed in zip(wanted, found, strict=True):
        pattern = ".*".join(re.escape(part) for part in shown.split("..."))
        assert re.fullmatch(pattern, printed), f"shown:   {shown}\nprinted: {printed}"


def compare_json(shown: Any, answered: Any, varies: set[str], name: str = "") -> None:
    """Compare an answer; of members that vary, their type."""
    what = f"{name}: {shown!r} is shown, {answered!r} was answered"
    if name.rpartition(".")[2] in varies:
        assert type(shown) is type(answered), what
    elif isinstance(shown, dict):
        assert isinstance(answered, dict), what
        assert list(shown) == list(answered), f"{name} has other members: {what}"
        for key, value in shown.items():
            compare_json(value, answered[key], varies, f"{name}.{key}")
    elif isinstance(shown, list):
        assert isinstance(answered, list), what
        assert len(shown) == len(answered), what
        for index, value in enumerate(shown):
            compare_json(value, answered[index], varies, f"{name}[{index}]")
    elif isinstance(shown, float):
        assert math.isclose(shown, answered, rel_tol=1e-6), what
    else:
        assert shown == answered, what


def _folders(folder: Path, clips: int, names: tuple[str, str] = ("left", "right")) -> None:
    """A folder of clips per class."""
    for name, colour in zip(names, ("gray", "white"), strict=True):
        (folder / name).mkdir(parents=True)
        first = service_clips.plain(folder / name / "00.mp4", colour)
        for number in range(1, clips):
            shutil.copy(first, folder / name / f"{number:02}.mp4")


def _with_a_damaged_clip(folder: Path) -> None:
    _folders(folder / "clips", 20, ("moving left", "moving right"))
    (folder / "clips" / "moving left" / "07.mp4").write_bytes(b"no clip at all" * 50)


def _with_clips_held_out(folder: Path) -> None:
    _folders(folder / "clips", 10)
    _folders(folder / "held_out", 2)


# What lies in the folder before the first command.
PREPARED: dict[str, Callable[[Path], None]] = {
    "docs/datasets.md": _with_a_damaged_clip,
    "docs/training.md": _with_clips_held_out,
}
