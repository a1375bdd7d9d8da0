"""What commands print: names that are no text, letters that are not known, readers who leave."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from brightness_bundle import write_brightness_bundle
from click.testing import CliRunner
from service_server import ROOT, Server
from typed_command import AT_ONCE

from lookwhen.command_line import main

pytestmark = pytest.mark.slow

LABELS = ("dunkel", "gräulich", "\u05e9\u05d7\u05d9\u05d9\u05d4 \U0001f60e")
LOOKWHEN = (sys.executable, "-m", "lookwhen")
# A command of each package, with arguments to print more than a line.
COMMANDS = ("", "model cost", "export", "train render", "train evaluate", "sample")


def run(
    *command: object, encoding: str | None = None, **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    variables = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
    variables |= {"LANG": "C.UTF-8", **environment}
    if encoding is not None:
        variables |= {"PYTHONIOENCODING": encoding, "LANG": "C"}
    arguments = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return subprocess.run(arguments, capture_output=True, check=False, cwd=ROOT, env=variables)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose labels are not ASCII."""
    folder = tmp_path_factory.mktemp("foreign")
    server = Server(write_brightness_bundle(folder / "b", labels=LABELS), folder / "log")
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture
def oddly_named(square: Path, tmp_path: Path) -> bytes:
    name = os.fsencode(tmp_path) + b"/caf\xe9 \xff.mp4"
    shutil.copy(os.fsencode(square), name)
    return name


@pytest.mark.long
def test_a_file_whose_name_is_no_text(foreign: Server, oddly_named: bytes, square: Path) -> None:
    done = run(*LOOKWHEN, "classify", oddly_named, square, "--url", foreign.url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0] == oddly_named

    done = run(*LOOKWHEN, "classify", oddly_named, square, "--url", foreign.url, "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    odd, plain = map(json.loads, done.stdout.decode("utf-8").splitlines())
    assert odd["file"] == oddly_named.decode("utf-8", "replace")
    assert base64.b64decode(odd["file_base64"]) == oddly_named
    assert (plain["file"], "file_base64" in plain) == (str(square), False)

    done = run(*LOOKWHEN, "classify", oddly_named + b".absent", "--url", foreign.url)
    assert done.returncode == 1
    assert done.stderr == b"lookwhen: " + oddly_named + b".absent: No such file or directory\n"


@pytest.mark.long
def test_a_file_whose_name_is_no_text_classified_here(
    brightness_bundle: Path, oddly_named: bytes
) -> None:
    done = run(*LOOKWHEN, "classify", oddly_named, "--bundle", brightness_bundle, "--json",
               **AT_ONCE)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert base64.b64decode(json.loads(done.stdout)["file_base64"]) == oddly_named


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "ascii:strict"])
def test_labels_that_the_output_cannot_encode(
    foreign: Server, oddly_named: bytes, encoding: str
) -> None:
    name = encoding.partition(":")[0]
    expected = [label.encode(name, "backslashreplace") for label in LABELS]
    done = run(*LOOKWHEN, "classify", oddly_named, oddly_named, "--url", foreign.url,
               encoding=encoding)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert all(label in done.stdout for label in expected)
    assert done.stdout.startswith(oddly_named)
    done = run(*LOOKWHEN, "classify", oddly_named, "--url", foreign.url, "--sweep", "0,0.95",
               encoding=encoding, COLUMNS="200")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert expected[0] in done.stdout
    assert expected[2] in done.stdout


@pytest.mark.long
def test_arguments_that_are_no_text(foreign: Server, oddly_named: bytes, tmp_path: Path) -> None:
    done = run(*LOOKWHEN, "classify", oddly_named, "--url", foreign.url, "--key", b"schl\xfcssel")
    assert (done.returncode, done.stderr) == (0, b"")
    done = run(*LOOKWHEN, "classify", oddly_named, "--url", b"http://\xff.example")
    assert done.returncode == 1
    assert b"http://\xff.example/classify cannot be asked" in done.stderr
    assert b"Traceback" not in done.stderr
    done = run(*LOOKWHEN, "bundle", "show", oddly_named)
    assert done.returncode == 1
    assert b"lookwhen: " + oddly_named + b" is not a usable bundle" in done.stderr
    done = run(*LOOKWHEN, "key", b"n\xff")
    assert done.returncode == 2
    assert b"a name has 1 to 64 letters" in done.stderr

    bundle = os.fsencode(tmp_path) + b"/b\xff"
    shutil.copytree(os.fsencode(write_brightness_bundle(tmp_path / "bundle")), bundle)
    done = run(*LOOKWHEN, "bundle", "show", bundle, encoding="ascii", COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, b"")
    assert bundle in done.stdout
    done = run(*LOOKWHEN, "bundle", "show", bundle, "--json")
    assert base64.b64decode(json.loads(done.stdout)["path_base64"]) == bundle


@pytest.mark.long
def test_a_sample_under_a_name_that_is_no_text(tmp_path: Path) -> None:
    out = os.fsencode(tmp_path) + b"/s\xff.mp4"
    done = run(*LOOKWHEN, "sample", out, "--seed", 3, "--label", "falling")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == out + b": falling (seed 3)\n"
    assert Path(os.fsdecode(out)).stat().st_size > 1000
    facts = json.loads(run(*LOOKWHEN, "sample", out, "--json").stdout)
    assert base64.b64decode(facts["path_base64"]) == out


def test_sample_says_what_it_is_called() -> None:
    """One process says what it is called; the rest needs none of its own."""
    done = run(*LOOKWHEN, "sample", "--no-such-option")
    said = [(done.returncode, done.stderr.decode())]
    help_ = CliRunner().invoke(main, ["sample", "--help"], prog_name="lookwhen")
    assert help_.output.startswith("Usage: lookwhen sample [OPTIONS] OUT\n")
    for wrong in ([], ["a.mp4", "--label", "nonsense"], ["/no/such/a.mp4"]):
        result = CliRunner().invoke(main, ["sample", *wrong], prog_name="lookwhen")
        said.append((result.exit_code, result.output))
    for code, output in said:
        assert code in (1, 2)
        assert "python" not in output
        if code == 2:
            assert output.startswith("Usage: lookwhen sample [OPTIONS] OUT\n")
            assert "Try 'lookwhen sample --help'" in output


@pytest.mark.long
def test_a_training_command_prints_what_a_folder_is_called(square: Path, tmp_path: Path) -> None:
    for label in (b"caf\xe9", "gräulich".encode()):
        folder = tmp_path / "set" / os.fsdecode(label)
        folder.mkdir(parents=True)
        for name in (b"a.mp4", b"b\xff.mp4"):
            shutil.copy(square, folder / os.fsdecode(name))
    for encoding in ("utf-8", "latin-1", "ascii"):
        done = run(*LOOKWHEN, "train", "data", "check", "folders", tmp_path / "set",
                   encoding=encoding)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"4 clips, 0 missing" in done.stdout
    done = run(*LOOKWHEN, "train", "data", "check", "folders", tmp_path / "set")
    assert b"caf\xe9" in done.stdout


def piped(command: str, reader: str) -> tuple[list[int], bytes]:
    """Exit codes of a command and of the one that reads it, and what both say on standard error."""
    script = f"{command} | {reader}; echo ${{PIPESTATUS[@]}}"
    done = run("bash", "-c", script)
    return [int(code) for code in done.stdout.splitlines()[-1].split()], done.stderr


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_who_does_not_want_it_at_all(command: str) -> None:
    # `exec <&-` closes the pipe before the command has been imported.
    codes, said = piped(f"{shlex.join(LOOKWHEN)} {command} --help", "exec true")
    assert (codes, said) == ([1, 0], b"")


@pytest.mark.long
def test_a_reader_who_has_enough(foreign: Server, square: Path, oddly_named: bytes) -> None:
    lookwhen = shlex.join(LOOKWHEN)
    files = shlex.join([str(square)] * 6)
    for options in ("", "--json", "--sweep 0,0.95"):
        ask = f"{lookwhen} classify {files} --url {foreign.url} {options}"
        assert piped(ask, "head -n 1") == ([1, 0], b""), options
        assert piped(ask, "cat") == ([0, 0], b""), options
    assert piped(f"{lookwhen} bundle show --json", "true") == ([1, 0], b"")
    assert piped(f"{lookwhen} bundle show", "true") == ([1, 0], b"")
    assert piped(f"{lookwhen} key somebody 2>/dev/null", "true") == ([1, 0], b"")


def test_all_commands_print_in_the_same_way() -> None:
    """By their classes, so that none can forget it."""
    found = 0
    for package in ("bundle", "export", "lookwhen", "model", "service", "training"):
        for path in (ROOT / package).rglob("*.py"):
            for made in re.findall(r"^@click\.(?:command|group)\(.*", path.read_text(), re.M):
                assert "cls=" in made, f"{path}: {made}"
                found += 1
    assert found >= 15
