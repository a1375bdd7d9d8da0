"""README and docs say what is so: their commands exist, and print what they show."""

import shlex
import shutil
from pathlib import Path

import pytest
from documents import DOCUMENTS, LANGUAGES, REASONS, ROOT, Block, blocks, spans
from known_commands import check
from scenarios import PREPARED, Scenario, compare_json, compare_text

ALL = [block for document in DOCUMENTS for block in blocks(document)]
NAMES = [document.relative_to(ROOT).as_posix() for document in DOCUMENTS]
# What README shows is in the lane that everybody runs, but for what it marks; of these, each takes
# long.
LONG = {
    "docs/commands.md", "docs/datasets.md", "docs/http.md", "docs/operating-safely.md",
    "docs/python.md", "docs/training.md", "docs/tutorial.md",
}  # fmt: skip
RUN = [
    pytest.param(name, everything, marks=pytest.mark.long if everything or name in LONG else (),
                 id=f"{name}{' whole' if everything else ''}")
    for name in NAMES
    for everything in (False, True)
    if any(block.is_run and block.is_long == everything
           and block.language in {"sh", "console", "python"} for block in blocks(ROOT / name))
]  # fmt: skip


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.name)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in LANGUAGES, f"{block.name}: {block.language or 'no language'}"
    if not block.is_run:
        assert block.marks["not run"] in REASONS, block.name
    for command in block.commands() if block.language in {"sh", "console"} else []:
        check(command.words)


@pytest.mark.parametrize("document", NAMES)
def test_commands_in_running_text_exist(document: str) -> None:
    for span in spans(ROOT / document):
        words = shlex.split(span)
        check(words if words[0] != "lookwhen" else [*words, "..."])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("document", "everything"), RUN)
def test_what_a_document_shows_is_what_happens(
    document: str, everything: bool, tmp_path: Path
) -> None:
    if document in PREPARED:
        PREPARED[document](tmp_path)
    scenario = Scenario(tmp_path)
    try:
        for block in blocks(ROOT / document):
            if block.is_run and (everything or not block.is_long):
                try:
                    scenario.run(block)
                except AssertionError as error:
                    raise AssertionError(f"{block.name}: {error}") from None
    finally:
        scenario.stop()


def test_a_difference_is_found() -> None:
    compare_text("wrote 3 clips to a...", "wrote 4 clips to a/b\n", {"numbers"})
    with pytest.raises(AssertionError):
        compare_text("wrote 3 clips", "wrote 4 clips", set())
    with pytest.raises(AssertionError):
        compare_text("wrote 3 clips", "read 3 clips", {"numbers"})
    compare_json({"a": 1.0, "b": [2]}, {"a": 0.5, "b": [2]}, {"a"})
    for other in ({"a": 1.0}, {"a": "1", "b": [2]}, {"a": 1.0, "b": [3]}, {"b": [2], "a": 1.0}):
        with pytest.raises(AssertionError):
            compare_json({"a": 1.0, "b": [2]}, other, {"a"})
