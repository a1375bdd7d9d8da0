"""What all commands do with a path that cannot be used."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from startup.console import Command


@click.command(cls=Command)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--fails", is_flag=True)
def write(out: Path, fails: bool) -> None:
    """Write."""
    if fails:
        raise OSError("no file has to do with it")
    out.write_text("text")


def test_a_path_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words in (
        (tmp_path / "file" / "x", "Not a directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "no" / "x", "No such file or directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        done = CliRunner().invoke(write, [str(path)])
        assert done.exit_code == 1
        assert done.output == f"Error: {path}: {words}\n"
    assert CliRunner().invoke(write, [str(tmp_path / "y")]).exit_code == 0


def test_what_no_path_is_to_blame_for_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no file has to do with it"):
        CliRunner().invoke(write, ["--fails", str(tmp_path / "x")], catch_exceptions=False)
