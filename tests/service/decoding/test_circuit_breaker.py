"""A storm of deaths begins and ends; the service's readiness follows."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_server import Server, wait_for

from service.decoding.circuit_breaker import CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_storm_begins_at_its_edge_and_ends_when_it_is_calm() -> None:
    clock = Clock()
    breaker = CircuitBreaker(3, window_seconds=30, calm_seconds=10, clock=clock)
    for seconds in (0, 15, 15.1):  # the third is 30.1 seconds after the first
        clock.now += seconds
        breaker.death()
        assert not breaker.is_open()
    clock.now += 14.9
    breaker.death()  # 30 seconds after the second
    assert breaker.is_open()
    clock.now += 9.9
    assert breaker.is_open()
    breaker.death()
    clock.now += 9.9
    assert breaker.is_open(), "every death puts calm off"
    clock.now += 0.1
    assert not breaker.is_open()
    breaker.death()
    breaker.death()
    assert not breaker.is_open(), "what was before the calm is forgotten"
    breaker.death()
    assert breaker.is_open()


@given(st.lists(st.floats(0, 60), max_size=50), st.integers(1, 6))
def test_a_storm_is_what_its_definition_says(pauses: list[float], deaths: int) -> None:
    clock = Clock()
    breaker, times, raging = CircuitBreaker(deaths, 30, 10, clock), list[float](), False
    for pause in pauses:
        clock.now += pause
        if raging and clock.now - times[-1] >= 10:
            raging, times = False, []
        assert breaker.is_open() == raging
        breaker.death()
        times.append(clock.now)
        raging = raging or len([t for t in times[-deaths:] if clock.now - t <= 30]) == deaths
        assert breaker.is_open() == raging


@pytest.mark.long
def test_a_storm_makes_the_service_not_ready_and_calm_makes_it_ready_again(
    start_server: Callable[..., Server], white: Path
) -> None:
    server = start_server(
        decode_spare_workers=1, decode_storm_deaths=2, decode_storm_window_seconds=600,
        decode_storm_calm_seconds=4,
    ).wait_until_ready()  # fmt: skip
    first, second = server.worker_pids()
    os.kill(first, signal.SIGKILL)
    wait_for(
        lambda: server.metric("lookwhen_decode_worker_restarts_total", reason="crashed") == 1,
        "the death to be seen",
    )
    # One death is no storm, and the spare worker takes the next clip at once.
    assert server.client.get("/readyz").status_code == 200
    assert server.classify(white).status_code == 200
    os.kill(second, signal.SIGSEGV)
    wait_for(lambda: server.client.get("/readyz").status_code == 503, "the storm")
    reason = server.client.get("/readyz").json()["reason"]
    assert reason in ("decode workers die faster than is sound", "no decode worker is running")
    refused = server.classify(white)
    assert refused.status_code == 503
    assert refused.json()["code"] == "not_ready"
    server.wait_for_log("decode workers die again and again; no clips are taken until it is calm")
    server.wait_until_ready()
    server.wait_for_log("decode workers have stopped dying; clips are taken again")
    assert server.classify(white).status_code == 200
    wait_for(lambda: server.metric("lookwhen_decode_workers") == 2, "both to be back")
