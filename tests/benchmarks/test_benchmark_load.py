"""The load generator: arrivals, its HTTP client, what it counts, and how late it is."""

import asyncio
import itertools
import json
import math
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.serving.arrivals import MIX, Arrival, poisson
from benchmarks.serving.load import Outcome, Sample, Target, closed_loop, open_loop, run
from benchmarks.serving.nothing import LABEL, answering_nothing, measure_generator
from benchmarks.serving.points import as_text, summarise, throughput_at
from lookwhen.bench.connections import Answer, AnswerError, Client, parse, request_bytes

PATIENT = 60.0
TOGETHER = 4


class _Handler(BaseHTTPRequestHandler):
    """Answers as the body says: ``{"status": ..., "sleep": ..., "label": ...}``."""

    protocol_version = "HTTP/1.1"
    everybody = threading.Barrier(TOGETHER, timeout=PATIENT)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(asked.get("sleep", 0))
        if asked.get("together"):
            self.everybody.wait()
        if asked.get("hang_up"):
            self.close_connection = True
            return
        body = json.dumps({"label": asked.get("label", ""), "path": self.path}).encode()
        self.send_response(asked.get("status", 200))
        if asked.get("chunked"):
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for part in (body[:5], body[5:], b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            return
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        assert isinstance(server, socketserver.TCPServer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def target(url: str, deadline: float = PATIENT, **asked: object) -> Target:
    """One clip, asked for at 0.9 only; its right label is "jump", "walk" when sparser."""
    body = json.dumps({"label": "jump", **asked}).encode()
    return Target(
        url=url,
        requests={(0, 0.9): request_bytes(f"{url}/classify?x=1", "application/json", body)},
        read=lambda body: (json.loads(body)["label"], None),
        truth=lambda clip, sparsity: "jump" if sparsity == 0.9 else "walk",
        deadline=deadline,
    )


def outcomes(of: Target, count: int = 1) -> list[Outcome]:
    arrivals = [Arrival(0.0, 0, 0.9)] * count
    return [sample.outcome for sample in run(open_loop(of, arrivals))]


def test_arrivals_are_a_poisson_process_of_the_mix() -> None:
    drawn = poisson(rate=200, seconds=50, clips=7, seed=3)
    # 10,000 are expected, with a standard deviation of 100.
    assert len(drawn) == pytest.approx(10_000, abs=500)
    due = [arrival.due for arrival in drawn]
    assert due == sorted(due)
    assert due[0] >= 0
    assert due[-1] < 50
    gaps = [b - a for a, b in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    # An exponential's standard deviation is its mean; evenly spaced arrivals would have none.
    assert deviation == pytest.approx(mean, rel=0.1)
    counted = Counter(arrival.sparsity for arrival in drawn)
    for sparsity, share in MIX.items():
        assert counted[sparsity] / len(drawn) == pytest.approx(share, abs=0.03)
    assert {arrival.clip for arrival in drawn} == set(range(7))


def test_arrivals_follow_from_the_seed() -> None:
    assert poisson(50, 2, 3, seed=1) == poisson(50, 2, 3, seed=1)
    assert poisson(50, 2, 3, seed=1) != poisson(50, 2, 3, seed=2)


def test_the_mix_is_whole() -> None:
    assert sum(MIX.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("rate", "seconds", "clips"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_cannot_be_drawn(rate: float, seconds: float, clips: int) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        poisson(rate, seconds, clips, seed=0)


@pytest.mark.long
@pytest.mark.slow
def test_answers_are_judged(url: str) -> None:
    assert outcomes(target(url)) == [Outcome.RIGHT]
    assert outcomes(target(url, chunked=True)) == [Outcome.RIGHT]
    assert outcomes(target(url, label="run")) == [Outcome.WRONG]
    assert outcomes(target(url, status=503)) == [Outcome.REFUSED]
    assert outcomes(target(url, status=429)) == [Outcome.REFUSED]
    assert outcomes(target(url, status=504)) == [Outcome.EXPIRED]
    assert outcomes(target(url, status=500)) == [Outcome.FAILED]
    assert outcomes(target(url, hang_up=True)) == [Outcome.FAILED]
    assert outcomes(target("http://127.0.0.1:1")) == [Outcome.FAILED]
    assert outcomes(target(url, sleep=1.0, deadline=0.2)) == [Outcome.LATE]


@pytest.mark.slow
def test_a_degraded_answer_is_held_against_the_sparsity_used(url: str) -> None:
    asked = target(url, label="walk")
    degraded = Target(
        asked.url, asked.requests, lambda body: (json.loads(body)["label"], 0.95),
        asked.truth, PATIENT,
    )  # fmt: skip
    (sample,) = run(open_loop(degraded, [Arrival(0.0, 0, 0.9)]))
    assert sample.outcome is Outcome.RIGHT
    assert sample.used == 0.95
    assert summarise([sample], 1.0)["degraded"] == 1


@pytest.mark.slow
def test_requests_do_not_wait_for_each_other(url: str) -> None:
    """None of them is answered before all of them have come."""
    assert outcomes(target(url, together=True), TOGETHER) == [Outcome.RIGHT] * TOGETHER


@pytest.mark.slow
def test_latency_counts_from_when_a_request_was_due(url: str) -> None:
    """A generator that is kept busy sends late, and the wait is not left out."""
    busy = target(url)

    async def late() -> list[Sample]:
        asyncio.get_running_loop().call_later(0.05, time.sleep, 0.5)
        return await open_loop(busy, [Arrival(0.1, 0, 0.9)])

    (sample,) = run(late())
    assert sample.due == 0.1
    assert sample.lag >= 0.4
    assert sample.latency >= sample.lag


@pytest.mark.slow
def test_a_closed_loop_asks_again_when_it_is_answered() -> None:
    with answering_nothing() as url:
        request = request_bytes(url, "video/mp4", bytes(70_000))
        requests = {(0, sparsity): request for sparsity in MIX}
        asked = Target(url, requests, lambda body: (LABEL, None), lambda *_: LABEL, PATIENT)
        samples = run(closed_loop(asked, callers=3, seconds=0.5, clips=1, seed=0))
    assert len(samples) > 3
    assert {sample.outcome for sample in samples} == {Outcome.RIGHT}
    assert {sample.sparsity for sample in samples} <= set(MIX)


@pytest.mark.long
@pytest.mark.slow
def test_the_generator_is_measured_by_itself() -> None:
    requests = {(0, sparsity): request_bytes("http://x", "video/mp4", b"clip") for sparsity in MIX}
    found = measure_generator(requests, clips=1, rate=20, seconds=1.0)
    assert found["highest_per_second"] > 20
    assert found["at_that_rate"]["outcomes"]["right"] > 0
    assert found["at_that_rate"]["generator_lag_seconds"]["p99"] >= 0


def test_an_answer_is_read_only_when_it_is_whole() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    assert all(parse(whole[:end]) is None for end in range(len(whole)))
    assert parse(whole) == Answer(200, b"abc")
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert all(parse(chunked[:end]) is None for end in range(len(chunked)))
    assert parse(chunked) == Answer(200, b"abc")
    with pytest.raises(ValueError, match="not HTTP"):
        parse(b"hello\r\n\r\n")
    with pytest.raises(ValueError, match="length"):
        parse(b"HTTP/1.1 200 OK\r\n\r\nabc")


@pytest.mark.parametrize(("keep", "made"), [(True, 1), (False, 5)])
def test_connections_are_used_again_or_not(
    url: str, keep: bool, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> int:
        loop = asyncio.get_running_loop()
        connect, count = loop.create_connection, 0

        def counted(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            return connect(*arguments, **more)

        monkeypatch.setattr(loop, "create_connection", counted)
        client = Client(url, keep=keep)
        request = target(url).requests[0, 0.9]
        for _ in range(5):
            await client.ask(request, PATIENT)
        client.close()
        return count

    assert asyncio.run(ask()) == made


def test_who_hangs_up_closes_the_connection(url: str) -> None:
    async def ask() -> int:
        client = Client(url)
        with pytest.raises(TimeoutError):
            await client.ask(target(url, sleep=1.0).requests[0, 0.9], 0.1)
        with pytest.raises(AnswerError):
            await Client("http://127.0.0.1:1").ask(b"", PATIENT)
        return len(client._idle)

    assert asyncio.run(ask()) == 0


def sample(latency: float, outcome: Outcome, lag: float = 0.0) -> Sample:
    return Sample(due=1.0, sent=1.0 + lag, done=1.0 + latency, sparsity=0.9, outcome=outcome)


def test_a_point_tells_accepted_from_refused() -> None:
    samples = [
        *(sample(0.1, Outcome.RIGHT) for _ in range(98)),
        sample(0.9, Outcome.WRONG),
        sample(1.0, Outcome.LATE, lag=0.2),
        *(sample(0.01, Outcome.REFUSED) for _ in range(100)),
    ]
    point = summarise(samples, seconds=10)
    assert point["offered_per_second"] == 20
    assert point["goodput_per_second"] == 9.8
    assert point["outcomes"]["refused"] == 100
    assert point["right_share"] == {"0.9": 0.49}
    # Quick refusals make no latency; those that were given up do.
    assert point["latency_seconds"]["p50"] == pytest.approx(0.1)
    assert point["latency_seconds"]["p99"] == pytest.approx(0.9)
    assert point["refusal_seconds"]["p99"] == pytest.approx(0.01)
    assert point["generator_lag_seconds"]["highest"] == pytest.approx(0.2)
    assert as_text(samples)["outcomes"].startswith("R" * 98 + "WL" + "B")


def test_a_point_of_refusals_alone_has_no_latency() -> None:
    point = summarise([sample(0.01, Outcome.REFUSED)], seconds=1)
    assert point["latency_seconds"]["p99"] is None
    assert throughput_at([point], 1.0) is None


def test_throughput_at_a_p99_needs_nearly_all_to_be_answered() -> None:
    def point(offered: float, goodput: float, p99: float) -> dict[str, object]:
        return {
            "offered_per_second": offered,
            "goodput_per_second": goodput,
            "latency_seconds": {"p99": p99},
        }

    points = [point(10, 10, 0.05), point(20, 19.9, 0.2), point(30, 29.9, 0.4), point(60, 25, 0.1)]
    assert throughput_at(points, 0.25) == 19.9
    assert throughput_at(points, 0.01) is None
