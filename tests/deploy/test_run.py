"""deploy/run.py: the port is looked at first, and the printed command is one that works."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import run

ROOT = Path(__file__).resolve().parents[2]


def test_a_free_port_is_no_problem() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert run.port_problem("127.0.0.1", port) is None


def test_a_port_in_use_is_named_with_what_to_type() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        problem = run.port_problem("127.0.0.1", port)
        assert problem is not None
        assert f"port {port} is in use" in problem
        assert f"make run PORT={port + 1 if port < 65535 else 8000}" in problem
        started = subprocess.run(
            [sys.executable, str(ROOT / "deploy" / "run.py"), "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert started.returncode == 1
        assert started.stderr.startswith("error: port")


def test_an_address_that_is_not_ours() -> None:
    problem = run.port_problem("192.0.2.1", 8000)
    assert problem is not None
    assert problem.startswith("cannot listen on 192.0.2.1")


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("127.0.0.1", "http://127.0.0.1:8001"),
        ("0.0.0.0", "http://127.0.0.1:8001"),
        ("::1", "http://[::1]:8001"),
    ],
)
def test_the_printed_command_is_complete(host: str, base: str) -> None:
    sample = Path("/a folder/sample.mp4")
    text = run.instructions(host, 8001, sample, "moving left")
    (command,) = [line for line in text.splitlines() if line.startswith("    curl")]
    assert shlex.split(command) == [
        "curl",
        "-F",
        "file=@/a folder/sample.mp4",
        f"{base}/classify?sparsity=0.9",
    ]
    assert "moving left" in text


def test_a_sample_that_is_there_is_kept(tmp_path: Path) -> None:
    sample = tmp_path / "sample.mp4"
    sample.write_bytes(b"a clip")
    sample.with_suffix(".json").write_text(json.dumps({"label": "falling"}), encoding="utf-8")
    assert run.sample_label(sample) == "falling"
    assert sample.read_bytes() == b"a clip"
