"""`lookwhen bench` against real services: what it says of them, and what is wrong with them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from service_server import ROOT, Server
from typed_command import AT_ONCE

from lookwhen.bench.command import bench
from service import __version__
from service.http.keys import make_key

StartServer = Callable[..., Server]


def measured(*arguments: object) -> Result:
    return CliRunner().invoke(bench, [str(argument) for argument in arguments])


def test_it_measures_a_running_service(server: Server, white: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    arguments = ["--url", server.url, "--clip", white, "--sparsity", 0.9, "--sparsity", 0]
    before = server.metric("lookwhen_clip_size_bytes_count")
    done = measured(*arguments, "--seconds", 10, "--json", out)
    assert done.exit_code == 0, done.output
    document = json.loads(out.read_text())
    assert document["seconds"]["spent"] < 10 + 5
    assert document["version"] == document["service"]["version"] == __version__
    assert document["service"]["url"] == server.url
    assert document["service"]["bundle"]["name"] == "brightness"
    assert document["service"]["engine"]["precision"] == "fp32"
    assert document["machine"]["serves"] is True
    assert document["clips"] == [{"name": str(white), "bytes": white.stat().st_size}]
    dense, sparse = document["levels"]
    assert (dense["used"], sparse["used"]) == (0.0, 0.9)
    assert dense["tokens"] == 10 * sparse["tokens"] or dense["tokens"] > sparse["tokens"]
    assert dense["one_caller"]["times_faster"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    counted = 0
    for level in document["levels"]:
        assert len(level["turns"]) == document["turns"] >= 1
        alone, busy = level["one_caller"], level["all_callers"]
        times = [s for turn in level["turns"] for s in turn["latencies_seconds"]]
        assert alone["clips"] == len(times)
        assert min(times) <= alone["latency_seconds"]["median"] <= alone["latency_seconds"]["p95"]
        # What the service says of a clip is part of what its caller waited for.
        stages = alone["stages_seconds"]
        assert stages["decode"]["median"] < stages["total"]["median"]
        assert stages["total"]["median"] <= alone["latency_seconds"]["median"]
        assert busy["clips"] == sum(turn["clips"] for turn in level["turns"])
        counted += alone["clips"] + busy["clips"]
    # The service had at least as many.
    assert server.metric("lookwhen_clip_size_bytes_count") - before >= counted
    assert "top-1" in done.output
    assert "clips/s: with " in done.output


def test_what_is_the_same_level_is_measured_once(server: Server, white: Path) -> None:
    arguments = ["--url", server.url, "--clip", white, "--sparsity", 0.91, "--sparsity", 0.9]
    done = measured(*arguments, "--seconds", 10, "--json", "-")
    assert done.exit_code == 0, done.output
    assert "uses 0.9 for 0.91, too" in done.stderr
    document = json.loads(done.stdout)
    assert [level["sparsity"] for level in document["levels"]] == [0.9]


def test_a_service_that_cannot_be_measured_is_a_sentence(server: Server, white: Path) -> None:
    done = measured("--url", "http://127.0.0.1:1", "--clip", white)
    assert done.exit_code == 1
    assert "http://127.0.0.1:1/ cannot be asked" in done.output
    done = measured("--url", "nothing", "--clip", white)
    assert done.exit_code == 1
    assert "nothing" in done.output
    nothing = white.with_name("nothing.mp4")
    nothing.write_bytes(b"not a video")
    done = measured("--url", server.url, "--clip", nothing, "--sparsity", 0.9)
    assert done.exit_code == 1
    assert "the service refuses: " in done.output
    assert "(not_a_video)" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sparsity", "1"], "1.0 is not in the range 0<=x<=0.99"),
        (["--url", "http://x", "--bundle", "b"], "--bundle is for a service started here"),
        (["--bundle", "nobodys"], "the built-in bundles are moving_things"),
        (["--seconds", "0"], "0.0 is not in the range x>=1"),
        (["--clip", "none.mp4"], "'none.mp4' does not exist"),
        (["--json", "none/bench.json"], "--json: there is no directory none"),
    ],
)
def test_a_mistake_is_told_before_anything_is_started(arguments: list[str], words: str) -> None:
    done = measured(*arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_too_little_time_says_how_much_is_lacking(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    slow = start_server(slow_bundle).wait_until_ready()
    done = measured("--url", slow.url, "--clip", white, "--sparsity", 0.9, "--seconds", 4)
    assert done.exit_code == 1
    assert "more --seconds" in done.output


def test_keys_and_their_limits(start_server: StartServer, white: Path) -> None:
    key, entry = make_key("bench")
    limited = start_server(
        api_keys=entry, key_requests_per_minute=60, key_burst_requests=30
    ).wait_until_ready()
    arguments = ["--url", limited.url, "--clip", white, "--sparsity", 0.9, "--seconds", 10]
    done = measured(*arguments)
    assert done.exit_code == 1
    assert "--key or LOOKWHEN_KEY gives one" in done.output
    done = measured(*arguments, "--key", key)
    assert done.exit_code == 1
    assert "LOOKWHEN_KEY_REQUESTS_PER_MINUTE" in done.output


def test_it_takes_as_many_callers_as_the_service_does(
    start_server: StartServer, white: Path
) -> None:
    narrow = start_server(max_requests_in_flight=2).wait_until_ready()
    arguments = ["--url", narrow.url, "--clip", white, "--sparsity", 0.9, "--seconds", 10]
    done = measured(*arguments, "--json", "-")
    assert done.exit_code == 0, done.output
    (level,) = json.loads(done.stdout)["levels"]
    assert level["all_callers"]["callers"] == 2
    assert level["all_callers"]["clips"] > 0


def command(*arguments: object, **settings: str) -> "subprocess.Popen[str]":
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "lookwhen", "bench", *map(str, arguments)],
        cwd=ROOT, env={**inherited, **AT_ONCE, "PYTHONPATH": str(ROOT), **settings},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def children(of: int) -> list[int]:
    """Those that serve: other programs are asked what this machine is."""
    serving = []
    for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes():
                serving.append(int(pid))
    return serving


@pytest.mark.long
def test_it_starts_a_service_of_its_own(brightness_bundle: Path, tmp_path: Path) -> None:
    """With the settings of the environment, but for keys, and with rendered clips."""
    _, entry = make_key("somebody")
    process = command(
        "--bundle", brightness_bundle, "--sparsity", 0.5, "--sparsity", 0.95,
        "--seconds", 60, "--json", "-", LOOKWHEN_API_KEYS=entry, LOOKWHEN_PORT="1",
    )  # fmt: skip
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    document: dict[str, Any] = json.loads(said)
    assert document["service"]["url"] is None
    assert document["service"]["decoding"]["workers"] == 1
    assert [clip["name"].partition(", ")[2] for clip in document["clips"]] == [
        f"seed {seed}" for seed in range(4)
    ]
    assert [level["used"] for level in document["levels"]] == [0.5, 0.95]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_service_ends_with_it(
    number: signal.Signals, brightness_bundle: Path, white: Path
) -> None:
    process = command("--bundle", brightness_bundle, "--clip", white, "--seconds", 300)
    # At once: who starts it may still be at it.
    while not (found := children(process.pid)):
        assert process.poll() is None
    (service,) = found
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not Path(f"/proc/{service}").exists()


@pytest.mark.slow
def test_a_service_that_does_not_start_says_why(tmp_path: Path, white: Path) -> None:
    (tmp_path / "bundle").mkdir()
    process = command("--bundle", tmp_path / "bundle", "--clip", white)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the service ended with status 1: the bundle cannot be served" in errors
