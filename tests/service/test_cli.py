"""The command ``lookwhen`` as people type it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from service_server import ROOT, Server
from typed_command import lookwhen

import service

pytestmark = pytest.mark.slow


def test_version_and_help_come_at_once() -> None:
    began = time.monotonic()
    done = lookwhen("--version")
    assert done.stdout == f"lookwhen, version {service.__version__}\n"
    assert time.monotonic() - began < 2
    modules = subprocess.run(
        [sys.executable, "-c", "import lookwhen.command_line, sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout.split()  # fmt: skip
    assert not {"onnxruntime", "fastapi", "pydantic", "numpy", "torch", "rich"} & set(modules)


@pytest.mark.parametrize("command", ["", "serve", "classify", "bundle", "bundle show"])
def test_help(command: str) -> None:
    done = lookwhen(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage: lookwhen" in done.stdout


def test_classify_here(brightness_bundle: Path, white: Path, square: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"GIF89a" + bytes(100))
    done = lookwhen("classify", white, broken, tmp_path / "absent.mp4", square, "--sparsity", 0.95,
                    "--bundle", brightness_bundle, "--json")  # fmt: skip
    assert done.returncode == 1, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["file"] == str(white)
    assert first["labels"][0]["label"] == second["labels"][0]["label"] == "bright"
    assert first["tokens"]["kept"] == 13
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    swept = lookwhen(
        "classify", square, "--sweep", "0,0.95", "--bundle", brightness_bundle, "--json"
    )
    points = json.loads(swept.stdout)["points"]
    assert [point["labels"][0]["label"] for point in points] == ["dark", "bright"]
    assert f"{broken}: This looks like a GIF image" in errors[0]
    assert "absent.mp4: No such file or directory" in errors[1]


@pytest.mark.long
def test_classify_there(server: Server, white: Path, square: Path, tmp_path: Path) -> None:
    done = lookwhen("classify", white, square, "--url", server.url, "--top", 2, "--sparsity", 0)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == str(white)
    assert lines[1].split() == ["100.0%", "bright"]
    assert "256 of 256 tokens" in lines[3]
    assert lines[5].split()[1] == "dark"

    done = lookwhen("classify", white, "--url", server.url, "--sparsity", "auto", "--coverage", 1,
                    "--budget-ms", 60000, "--max-sparsity", 0.95)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "coverage 1.000 of 1 asked for" in done.stdout
    assert "budget 60000 ms met" in done.stdout
    done = lookwhen("classify", white, "--url", server.url, "--cascade", "--margin", 1, "--strict")
    assert "cascade, stopped by " in done.stdout
    assert "0.95: bright +" in done.stdout
    done = lookwhen("classify", square, "--url", server.url, "--sweep", "0,0.95")
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [
        ["0", "256"], ["0.95", "13"]
    ]  # fmt: skip
    assert ["dark" in done.stdout, "bright" in done.stdout] == [True, True]

    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    done = lookwhen("classify", empty, "--url", server.url)
    assert done.returncode == 1
    assert "(empty_body)" in done.stderr
    done = lookwhen("classify", white, "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be asked" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("classify",), "FILE"),
        (("classify", "a.mp4", "--sparsity", "1"), "--sparsity must be"),
        (("classify", "a.mp4", "--views", "1x2"), "--views must be"),
        (("classify", "a.mp4", "--sweep", "0,2"), "--sweep must be"),
        (("classify", "a.mp4", "--sweep", "0", "--strict"), "--strict does not go with --sweep"),
        (("classify", "a.mp4", "--coverage", "0.5"), "coverage needs sparsity=auto"),
        (("classify", "a.mp4", "--cascade", "--sparsity", "auto"), "ask for one of them"),
        (("classify", "a.mp4", "--url", "http://x", "--bundle", "y"), "--bundle"),
        (("serve", "--port", "99999"), "65535"),
        (("serve", "--log-format", "xml"), "xml"),
        (("nonsense",), "nonsense"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    done = lookwhen(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_bundle_show(brightness_bundle: Path, tmp_path: Path) -> None:
    done = lookwhen("bundle", "show", brightness_bundle, COLUMNS=120)
    assert done.returncode == 0, done.stderr
    assert "brightness 7" in done.stdout
    assert "75.0%" in done.stdout
    document = json.loads(lookwhen("bundle", "show", brightness_bundle, "--json").stdout)
    assert document["labels"] == ["dark", "grey", "bright"]
    assert {"sparsity": 0.9, "tokens": 26, "macs": 2036} in document["costs"]

    done = lookwhen("bundle", "show", tmp_path)
    assert done.returncode == 1
    assert "not a usable bundle: bundle.json: is missing" in done.stderr


def test_the_built_in_bundle_is_shown() -> None:
    done = lookwhen("bundle", "show")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_serve_says_why_it_cannot(brightness_bundle: Path, tmp_path: Path, server: Server) -> None:
    done = lookwhen("serve", "--bundle", tmp_path, "--log-format", "console")
    assert done.returncode == 1
    assert "bundle.json: is missing" in done.stderr

    port = server.url.rpartition(":")[2]
    done = lookwhen("serve", "--bundle", brightness_bundle, "--port", port)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr

    done = lookwhen("serve", "--bundle", brightness_bundle, "--port", 0,
                    LOOKWHEN_EXECUTION_PROVIDERS="NoSuchExecutionProvider")  # fmt: skip
    assert done.returncode == 1
    assert "asks for NoSuchExecutionProvider" in done.stderr
    assert "Traceback" not in done.stderr

    done = lookwhen("serve", LOOKWHEN_MAX_VIEWS="0")
    assert done.returncode == 2
    assert "LOOKWHEN_MAX_VIEWS='0'" in done.stderr


@pytest.mark.long
def test_sample_passes_everything_through(tmp_path: Path) -> None:
    out = tmp_path / "sample.mp4"
    done = lookwhen("sample", out, "--seed", 3, "--label", "falling", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "falling"
    assert out.stat().st_size > 1000
    wrong = lookwhen("sample", "--no-such-option")
    assert wrong.returncode == 2
    assert "--no-such-option" in wrong.stderr
