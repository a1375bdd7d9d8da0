"""What happens when there is too much to do, somebody leaves, something dies, or all must end."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from background_requests import in_background, is_free, open_upload
from service_server import Server, wait_for

from benchmarks.processes import cpu_seconds

pytestmark = pytest.mark.long

StartServer = Callable[..., Server]


def test_too_much_is_refused_at_once(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle, max_requests_in_flight=2).wait_until_ready()
    accepted = [in_background(server, white, sparsity=0) for _ in range(2)]
    wait_for(lambda: server.metric("lookwhen_requests_in_flight") == 2, "both to be in")
    assert server.metric("lookwhen_queued_tokens") == 2 * 256
    began = time.monotonic()
    refused = server.classify(white)
    assert time.monotonic() - began < 1
    assert refused.status_code == 503
    assert refused.json()["code"] == "overloaded"
    retry_after = int(refused.headers["retry-after"])
    assert retry_after >= 1
    assert refused.json()["retry_after"] == retry_after
    waiting = 'lookwhen_queue_depth{queue="extract"}'
    assert waiting in server.client.get("/metrics").text
    assert server.client.get("/readyz").status_code == 200, "busy is not broken"
    assert [done.result(60).status_code for done in accepted] == [200, 200]
    assert is_free(server)
    assert server.classify(white).status_code == 200

    # A burst: callers that are not among the first two are refused, and nobody gets a 500.
    burst = [in_background(server, white).result for _ in range(8)]
    statuses = sorted(result(60).status_code for result in burst)
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 2
    assert server.metric("lookwhen_classifications_total", outcome="overloaded") == 1 + (
        statuses.count(503)
    )


def test_who_leaves_or_takes_too_long_frees_the_slot(
    start_server: StartServer, slow_bundle: Path, white: Path, long_clip: Path
) -> None:
    server = start_server(
        slow_bundle, max_requests_in_flight=1, upload_timeout_seconds=3, request_timeout_seconds=3,
        max_batch_tokens=256,
    ).wait_until_ready()  # fmt: skip

    def in_flight() -> bool:
        return server.metric("lookwhen_requests_in_flight") == 1

    data, long = white.read_bytes(), long_clip.read_bytes()
    # In the middle of the upload.
    with open_upload(server, data[:500], len(data)):
        wait_for(in_flight, "the upload to be admitted")
        assert server.classify(white).status_code == 503
    wait_for(lambda: is_free(server), "the slot")

    # While it is decoded, and while it is extracted. Of many views, so that no machine is so
    # fast that it has answered before the caller leaves.
    many = "views=4x3&sparsity=0"
    with open_upload(server, long, len(long), many):
        wait_for(in_flight, "the clip to be admitted")
        time.sleep(0.1)
    wait_for(lambda: is_free(server), "the slot", seconds=3)
    with open_upload(server, data, len(data), many):
        wait_for(in_flight, "the clip to be admitted")
        time.sleep(0.5)
    wait_for(lambda: is_free(server), "the slot", seconds=3)
    assert server.classify(white).status_code == 200
    assert server.metric("lookwhen_classifications_total", outcome="disconnected") == 3
    assert server.metric("lookwhen_decode_worker_restarts_total", reason="crashed") == 0

    # A client that dribbles is cut off, with an answer.
    with open_upload(server, data[:500], len(data)) as connection:
        connection.settimeout(10)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"upload_timeout"' in answer
    wait_for(lambda: is_free(server), "the slot")

    # Twelve runs of a second each are more than the three seconds there are.
    began = time.monotonic()
    response = server.classify(white, views="4x3", sparsity=0)
    assert 2.5 < time.monotonic() - began < 6
    assert response.status_code == 504
    assert response.json()["code"] == "request_timeout"
    assert response.json()["limit"] == 3
    assert is_free(server)


def test_who_leaves_while_waiting_is_gone_at_once(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(
        slow_bundle, decode_timeout_seconds=600, max_batch_tokens=256,
        request_timeout_seconds=3600,
    ).wait_until_ready()  # fmt: skip
    data = white.read_bytes()

    def in_flight(count: int) -> bool:
        return server.metric("lookwhen_requests_in_flight") == count

    def waiting(queue: str) -> float:
        return server.metric("lookwhen_queue_depth", queue=queue)

    # For a decode worker: the only one has a clip and does nothing.
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    with open_upload(server, data, len(data)):
        wait_for(lambda: in_flight(1), "the first to be in")
        with open_upload(server, data, len(data)):
            wait_for(lambda: waiting("decode") == 1, "the second to wait for a worker")
        wait_for(lambda: waiting("decode") == 0 and in_flight(1), "the second to be gone")
    # The first is gone as well, and so is the worker that did not stop when it was told to.
    wait_for(lambda: is_free(server), "the first to be gone")
    wait_for(
        lambda: server.metric("lookwhen_decode_worker_restarts_total", reason="abandoned") == 1,
        "the worker to be replaced",
    )
    server.wait_until_ready()
    assert server.classify(white).status_code == 200

    # For the engine: twelve views of a second each are in its hands.
    with open_upload(server, data, len(data), "views=4x3&sparsity=0"):
        wait_for(lambda: in_flight(1), "the first to be in")
        time.sleep(1)
        with open_upload(server, data, len(data)):
            wait_for(
                lambda: in_flight(2) and waiting("select") + waiting("extract") >= 1,
                "the second to wait for its turn",
            )
        wait_for(lambda: in_flight(1), "the second to be gone")
    wait_for(lambda: is_free(server), "the first to be gone")
    assert server.classify(white).status_code == 200
    assert server.metric("lookwhen_classifications_total", outcome="disconnected") == 4


def test_killed_workers_fail_their_own_clip_alone(
    start_server: StartServer, long_clip: Path, white: Path, tmp_path: Path
) -> None:
    server = start_server(decode_workers=2, decode_timeout_seconds=3).wait_until_ready()
    first, second = server.worker_pids()
    os.kill(first, signal.SIGSTOP)
    os.kill(second, signal.SIGSTOP)
    stuck = [in_background(server, white) for _ in range(4)]
    depth = 'lookwhen_queue_depth{queue="decode"} 2.0'
    wait_for(lambda: depth in server.client.get("/metrics").text, "two to wait for a worker")
    os.kill(first, signal.SIGKILL)
    answers = [done.result(60) for done in stuck]
    statuses = sorted(answer.status_code for answer in answers)
    codes = {answer.json()["code"] for answer in answers if answer.status_code != 200}
    # One worker was stopped until its deadline; the killed one had not begun its clip.
    assert statuses == [200, 200, 200, 504]
    assert codes == {"decode_timeout"}
    for reason in ("crashed", "timeout"):
        wait_for(
            lambda reason=reason: server.metric(
                "lookwhen_decode_worker_restarts_total", reason=reason
            ) == 1,
            f"the worker that {reason}",
        )  # fmt: skip
    assert server.metric("lookwhen_decode_failures_total", code="decode_timeout") == 1

    wait_for(lambda: server.metric("lookwhen_decode_workers") == 2, "both to be back")
    idle = {pid: cpu_seconds(pid) for pid in server.worker_pids()}
    with ThreadPoolExecutor(1) as pool:
        doomed = pool.submit(server.classify, long_clip, views="12x1")
        wait_for(
            # Three of the system's hundredths of a second at least.
            lambda: any(cpu_seconds(pid) > spent + 0.025 for pid, spent in idle.items()),
            "a worker to work",
        )
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        response = doomed.result(60)
    assert response.status_code == 422
    assert response.json()["code"] == "decoder_crashed"
    wait_for(
        lambda: (
            server.metric("lookwhen_decode_worker_restarts_total", reason="crashed") == 3
            and server.metric("lookwhen_decode_workers") == 2
        ),
        "two more workers",
    )
    assert server.classify(white).status_code == 200


def test_accepted_requests_finish(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle).wait_until_ready()
    workers = server.worker_pids()
    accepted = [in_background(server, white, sparsity=0) for _ in range(3)]
    wait_for(lambda: server.metric("lookwhen_requests_in_flight") == 3, "all to be in")
    # To the workers as well, as a terminal or a service manager sends it.
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("shutting down")
    # New ones are told, over new connections and old ones, and the connections end.
    for ask in (httpx.Client(base_url=server.url), server.client):
        ready = ask.get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (503, "it is shutting down")
        assert ask.get("/livez").status_code == 200
        refused = ask.post("/classify", content=white.read_bytes(), headers={
            "content-type": "video/mp4"})  # fmt: skip
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert ready.headers["connection"] == refused.headers["connection"] == "close"
    assert [done.result(60).status_code for done in accepted] == [200, 200, 200]
    assert server.process.wait(20) == 0
    assert server.logs()[-1]["message"] == "stopped"
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_the_second_signal_ends_it_at_once(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle).wait_until_ready()
    workers = server.worker_pids()
    in_background(server, white, views="4x3", sparsity=0)
    wait_for(lambda: server.metric("lookwhen_requests_in_flight") == 1, "the clip to be in")
    server.process.send_signal(signal.SIGINT)
    server.wait_for_log("shutting down", signal="SIGINT")
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(3) == 128 + signal.SIGTERM
    gone = [Path(f"/proc/{pid}/cwd") for pid in workers]
    wait_for(lambda: not any(os.path.lexists(path) for path in gone), "the workers to end")


def test_the_grace_is_an_end(start_server: StartServer, slow_bundle: Path, white: Path) -> None:
    server = start_server(
        slow_bundle, shutdown_grace_seconds=1, decode_timeout_seconds=600,
        request_timeout_seconds=3600,
    ).wait_until_ready()  # fmt: skip
    in_background(server, white, views="4x3", sparsity=0)
    wait_for(lambda: server.metric("lookwhen_requests_in_flight") == 1, "the clip to be in")
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGSTOP)  # nothing that is asked of it is ever done
    stuck = in_background(server, white)
    wait_for(lambda: server.metric("lookwhen_requests_in_flight") >= 1, "the second to be in")
    assert server.stop() == 0
    assert server.logs()[-1]["message"] == "stopped"
    # No answer, or one that says that it is none; the first may have made it in time.
    assert stuck.exception(60) is not None or stuck.result().status_code >= 500
    assert not Path(f"/proc/{worker}").exists()


def test_a_load_balancer_may_be_given_notice(start_server: StartServer) -> None:
    server = start_server(shutdown_notice_seconds=600, shutdown_grace_seconds=3)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("shutting down")
    assert httpx.get(server.url + "/readyz").status_code == 503, "idle, and it answers all the same"
    assert server.process.wait(60) == 0, "the grace is the end of the notice, too"


def test_not_ready_before_it_is_warm_but_alive(start_server: StartServer, white: Path) -> None:
    server = start_server()
    assert server.client.get("/livez").status_code == 200
    if (ready := server.client.get("/readyz")).status_code != 200:  # a slow machine shows it
        assert ready.status_code == 503
        assert ready.json() == {"status": "not ready", "reason": "it is warming up"}
        refused = server.classify(white)
        assert refused.status_code == 503
        assert refused.json()["code"] == "not_ready"
        assert server.metric("lookwhen_ready") == 0
    server.wait_until_ready()
    assert server.metric("lookwhen_ready") == 1
