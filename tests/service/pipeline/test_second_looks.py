"""Clips that are looked at again: when, how many, and that nobody waits for it."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from background_requests import in_background
from service_server import Server, wait_for

from service.observability.metrics import AGREEMENT_BANDS, Metrics

StartServer = Callable[..., Server]


def fates(server: Server) -> dict[str, float]:
    return {
        fate: server.metric("lookwhen_agreement_clips_total", fate=fate)
        for fate in ("compared", "memory", "traffic", "failed", "ended")
    }


def agreement(server: Server, sparsity: str) -> tuple[float, float]:
    """How many were the same, and how many another."""
    same, other = (
        server.metric("lookwhen_agreement_total", sparsity=sparsity, answer=answer)
        for answer in ("same", "other")
    )
    return same, other


def test_a_pause_shows_what_sparsity_costs(
    start_server: StartServer, white: Path, square: Path
) -> None:
    """A bright square on black is bright when little is looked at, and dark as a whole."""
    server = start_server(agreement_share=1).wait_until_ready()
    for clip, sparsity in ((white, 0.5), (white, 0.95), (square, 0.95)):
        assert server.classify(clip, sparsity=sparsity).status_code == 200
    # As dense as it gets: there is nothing to compare.
    assert server.classify(white, sparsity=0).status_code == 200
    wait_for(lambda: fates(server)["compared"] == 3, "three clips to be looked at again")
    assert agreement(server, "0.5") == (1, 0)
    assert agreement(server, "0.95") == (1, 1)
    assert agreement(server, "0.9") == (0, 0)
    assert server.metric("lookwhen_agreement_held_bytes") == 0
    assert sum(fates(server).values()) == 3


def test_nothing_is_looked_at_again_by_default(server: Server, white: Path) -> None:
    before = sum(fates(server).values())
    assert server.classify(white, sparsity=0.9).status_code == 200
    assert server.metric("lookwhen_agreement_held_bytes") == 0
    time.sleep(1)
    assert sum(fates(server).values()) == before


def test_memory_is_bounded_and_the_newest_are_kept(
    start_server: StartServer, slow_bundle: Path, white: Path, square: Path
) -> None:
    """A clip takes about 200 KB: of four that wait two fit."""
    server = start_server(
        slow_bundle, agreement_share=1, agreement_memory_bytes=512 * 1024
    ).wait_until_ready()
    # Without a pause, because the next is there before the last is answered.
    waiting = [in_background(server, white, sparsity=0.95) for _ in range(4)]
    assert [done.result(60).status_code for done in waiting] == [200] * 4
    assert 0 < server.metric("lookwhen_agreement_held_bytes") <= 512 * 1024
    wait_for(lambda: server.metric("lookwhen_agreement_held_bytes") == 0, "all to be looked at")
    found = fates(server)
    assert found["memory"] == 2
    assert found["compared"] == 2


@pytest.mark.long
def test_a_request_ends_the_look_and_nobody_waits(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle, agreement_share=1).wait_until_ready()
    assert server.classify(white, sparsity=0.95).status_code == 200
    assert server.classify(white, sparsity=0).status_code == 200
    runs = server.metric("lookwhen_batch_rows_count", stage="extract")
    # It looks when half a second has passed, which takes two thirds of one.
    time.sleep(0.65)
    assert fates(server)["compared"] == 0
    answer = server.classify(white, sparsity=0)
    assert answer.status_code == 200
    assert fates(server)["compared"] == 0
    wait_for(lambda: fates(server)["compared"] == 1, "the next pause")
    # That of the caller and that of the pause; what was ended is no run that was measured.
    assert server.metric("lookwhen_batch_rows_count", stage="extract") == runs + 2


@pytest.mark.long
def test_what_no_pause_comes_for_is_dropped(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(
        slow_bundle, agreement_share=1, agreement_patience_seconds=1
    ).wait_until_ready()
    answered = 0
    while not fates(server)["traffic"]:
        assert server.classify(white, sparsity=0.95).status_code == 200
        answered += 1
        assert answered < 50
    assert fates(server)["compared"] == 0


@pytest.mark.long
def test_the_end_does_not_wait_for_it(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle, agreement_share=1).wait_until_ready()
    assert server.classify(white, sparsity=0.95).status_code == 200
    time.sleep(0.65)  # the look is under way
    assert server.stop(signal.SIGTERM, seconds=10) == 0
    assert not [line for line in server.logs() if line["level"] in ("warning", "error")]


def test_every_sparsity_has_a_label() -> None:
    metrics = Metrics((1.0,))
    for sparsity in (0.0, 0.5, 0.51, 0.9, 0.925, 0.99):
        metrics.agreed(sparsity, same=True)
    text = metrics.render().decode()
    for band, count in zip(AGREEMENT_BANDS, (2.0, 1.0, 0.0, 1.0, 1.0, 1.0), strict=True):
        assert f'lookwhen_agreement_total{{answer="same",sparsity="{band:g}"}} {count}' in text
