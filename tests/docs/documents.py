"""The fenced blocks of README and docs: which commands they show, and what they answer.

A block's language says what it is: `sh` holds commands, `console` commands behind `$ ` with what
they print, `json` the answer of the command before it, `python` a program. `text`, `yaml` and the
like show something that is no command. Lines `<!-- ... -->` right above a block mark it:

- `<!-- not run: REASON -->`: its commands are only checked for being commands that exist.
- `<!-- varies: score, timing -->`: members of a JSON answer of which only the type is compared.
- `<!-- varies: numbers -->`: of printed text, everything but the numbers is compared.
- `<!-- run with: this as that -->`: what a test replaces in it, so that it ends soon.
- `<!-- lane: long -->`: its commands are left out where the rest is run in a faster lane.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

LANGUAGES = {"sh", "console", "json", "python", "text", "yaml"}

# Why a block may stay unexecuted.
REASONS = {
    "takes a quarter of an hour",
    "takes half an hour",
    "takes hours",
    "needs a GPU",
    "needs a container engine",
    "needs a data set",
    "needs a network",
    "needs nginx",
    "needs several machines",
    "fill in your own names",
}

_MARK = re.compile(r"<!-- (not run|varies|run with|lane): (.+?) -->")


@dataclass(frozen=True)
class Command:
    """A command with what it prints, where that is shown."""

    text: str
    output: str = ""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


@dataclass
class Block:
    """One fenced block."""

    document: Path
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return "not run" not in self.marks

    @property
    def is_long(self) -> bool:
        return self.marks.get("lane") == "long"

    @property
    def varies(self) -> set[str]:
        return set(self.marks.get("varies", "").replace(",", " ").split())

    def commands(self) -> list[Command]:
        """The commands that an `sh` or a `console` block shows, each on one line."""
        found: list[list[str]] = []
        typed = ""
        for line in self.text.splitlines():
            begins = self.language == "sh" or line.startswith("$ ")
            if typed or begins:
                typed += line.removeprefix("$ ") if not typed else line.lstrip()
                if typed.endswith("\\"):
                    typed = typed[:-1]
                    continue
                found.append([typed])
                typed = ""
            elif found:
                found[-1].append(line)
        return [Command(first, "\n".join(rest)) for first, *rest in found if first.strip()]


def blocks(document: Path) -> list[Block]:
    """The blocks of a document in their order."""
    return list(_blocks(document))


def _blocks(document: Path) -> Iterator[Block]:
    marks: dict[str, str] = {}
    inside: Block | None = None
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        if inside is not None:
            if line == "```":
                yield inside
                inside = None
            else:
                inside.text += line + "\n"
        elif line.startswith("```"):
            inside = Block(document, number, line.removeprefix("```"), "", marks)
            marks = {}
        elif mark := _MARK.fullmatch(line):
            marks[mark[1]] = mark[2]
        elif line.strip():
            marks = {}


def spans(document: Path) -> list[str]:
    """The commands that stand in running text, such as `lookwhen bundle show`."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    found = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    return [span for span in found if re.match(r"(lookwhen|python -m|make|torchrun) ", span)]
