"""SIGTERM in the middle of a load; ``make drain`` does it twenty times."""

from collections.abc import Callable
from pathlib import Path

import pytest
from brightness_bundle import write_brightness_bundle
from service_server import Server

from benchmarks.safety.drain import GRACE_SECONDS, Drained, clip_for, drain, is_lost
from benchmarks.safety.load import Reply, Shot

pytestmark = pytest.mark.long


def test_no_accepted_request_is_lost(start_server: Callable[..., Server], tmp_path: Path) -> None:
    shot = Shot(clip_for(tmp_path / "clip").data, {"sparsity": 0.9})
    # A quarter of a second each: some are on their way when ten arrive in a second.
    server = start_server(
        write_brightness_bundle(tmp_path / "slow", slow=20),
        shutdown_grace_seconds=GRACE_SECONDS,
        request_timeout_seconds=GRACE_SECONDS,
    ).wait_until_ready()
    drained = drain(server, shot, rate=10, before_seconds=2)
    assert drained.faults() == []
    assert drained.in_flight > 0, "the signal came in the middle of something"
    assert drained.answered["ok"] >= drained.in_flight


def test_what_counts_as_lost() -> None:
    """Otherwise the test above could not fail."""

    def reply(code: str, fault: str | None = None) -> Reply:
        return Reply(Shot(b""), "load-1", code, fault, 1.0)

    for code in ("ok", "overloaded", "not_ready", "refused"):
        assert not is_lost(reply(code), {"load-1"})
    assert is_lost(reply("broken", "ReadError"), {"load-1"})
    assert not is_lost(reply("broken", "ReadError"), {"load-2"}), "it never saw the request"
    assert is_lost(reply("internal_error", "500 internal_error"), set())
    assert is_lost(reply("request_timeout"), set()), "accepted, and not answered in time"
    run = Drained(answered={}, lost=["load-1"], in_flight=1, exit_code=1, seconds=1.0)  # type: ignore[arg-type]
    assert len(run.faults()) == 2
