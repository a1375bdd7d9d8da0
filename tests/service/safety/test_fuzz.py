"""Damaged clips over HTTP: a small share of what ``make fuzz`` posts, and the judge itself."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from service_server import Server

from benchmarks.safety.answers import judge
from benchmarks.safety.boxes import box, find, insert, walk
from benchmarks.safety.fuzz import Findings, Fuzzer, faults, fuzz
from benchmarks.safety.mutations import mutant
from benchmarks.safety.watch import Sample

pytestmark = pytest.mark.long


def test_mutants_are_the_same_for_the_same_seed(fuzz_clips: dict[str, bytes]) -> None:
    first = [mutant(fuzz_clips, 5, number) for number in range(200)]
    assert first == [mutant(fuzz_clips, 5, number) for number in range(200)]
    assert first != [mutant(fuzz_clips, 6, number) for number in range(200)]
    whats = {what.split(": ")[0] for what, _ in first}
    assert whats == set(fuzz_clips), "every clip is damaged"
    operations = {name for what, _ in first for name in what.split(": ")[1].split(", ")}
    assert {"resize_box", "change_field", "splice", "truncate", "swap_chunks"} <= operations
    unchanged = sum(data in fuzz_clips.values() for _, data in first)
    assert unchanged < 5


def test_boxes_are_found_and_grow_with_what_is_put_in(fuzz_clips: dict[str, bytes]) -> None:
    data = fuzz_clips["h264.mp4"]
    kinds = [found.kind for found in walk(data)]
    assert {b"ftyp", b"moov", b"trak", b"stsz", b"mdat"} <= set(kinds)
    grown = insert(data, b"moov", box(b"free", b"1234"))
    assert len(grown) == len(data) + 12
    assert find(grown, b"moov").end == find(data, b"moov").end + 12
    assert [found.kind for found in walk(grown)] == [*kinds, b"free"]


def test_damaged_clips_are_answered(
    server: Server, fuzz_clips: dict[str, bytes], tmp_path: Path
) -> None:
    findings = fuzz(
        server, fuzz_clips, range(10_000, 10_150), seed=3, saved=tmp_path / "saved",
        deadline_seconds=70, at_once=2,
    )  # fmt: skip
    assert findings.failures == []
    assert findings.requests == 150
    assert findings.answered["ok"] > 10, "some mutants are still clips"
    assert findings.answered["undecodable"] > 10
    assert findings.control == "ok"
    assert findings.workers_at_end >= 1, "two while one is being replaced"
    assert findings.not_believed == 0


def test_what_makes_a_run_fail() -> None:
    findings = Findings(control="ok", workers_at_end=2)
    findings.samples = [
        Sample(requests / 10, requests, 1 << 28, 1 << 28, 20, 3, 9)
        for requests in range(0, 1000, 10)
    ]
    assert faults(findings, 2) == []
    assert faults(findings, 3) == ["2 of 3 workers were left"]
    findings.not_believed = 5
    assert faults(findings, 2) == ["5 workers were ended for what they replied"]
    findings.control = "decoder_crashed"
    assert "at the end" in faults(findings, 2)[0]


@contextmanager
def stub(status: int, body: object, kind: str = "application/problem+json") -> Iterator[str]:
    """A server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (500, {"code": "internal_error"}, "500 internal_error"),
        (200, {"labels": []}, "200 without labels"),
        (422, {"code": "surprise"}, "422 surprise is not in the list of problems"),
        (400, {"code": "undecodable"}, "400 undecodable is not in the list of problems"),
        (422, {"code": "undecodable", "detail": "at x.cpp:7"}, "quotes the inside"),
    ],
)
def test_what_is_answered_wrongly_is_told_and_saved(
    fuzz_clips: dict[str, bytes], tmp_path: Path, status: int, body: object, fault: str
) -> None:
    """Otherwise a run of the fuzzer could not fail."""
    with stub(status, body) as url:
        fuzzer = Fuzzer(url, fuzz_clips, 9, tmp_path, deadline_seconds=60)
        asyncio.run(fuzzer.run(range(3), at_once=1))
    found = sorted(fuzzer.findings.failures, key=lambda failure: int(failure["number"]))
    assert [failure["number"] for failure in found] == [0, 1, 2]
    assert all(fault in str(failure["fault"]) for failure in found)
    assert (tmp_path / "9-1.bin").read_bytes() == mutant(fuzz_clips, 9, 1)[1]


def test_a_run_that_is_ended_early_counts_what_it_did(
    fuzz_clips: dict[str, bytes], tmp_path: Path
) -> None:
    with stub(422, {"code": "undecodable"}) as url:
        fuzzer = Fuzzer(url, fuzz_clips, 9, tmp_path, deadline_seconds=60)

        def done() -> None:
            if fuzzer.findings.requests == 5:
                os.kill(os.getpid(), signal.SIGINT)  # what Ctrl-C sends

        asyncio.run(fuzzer.run(range(10_000), 2, done))
    assert 5 <= fuzzer.findings.requests < 100
    assert fuzzer.findings.failures == []


def test_designed_refusals_are_no_faults() -> None:
    def answer(status: int, code: str) -> httpx.Response:
        headers = {"content-type": "application/problem+json"}
        return httpx.Response(status, json={"code": code}, headers=headers)

    for status, code in ((504, "decode_timeout"), (503, "overloaded"), (422, "undecodable")):
        assert judge(answer(status, code)).fault is None
    plain = httpx.Response(422, json={"code": "undecodable"})
    assert "application/json" in str(judge(plain).fault)
    assert judge(httpx.Response(200, text="<html>")).fault == "200 without a document"
