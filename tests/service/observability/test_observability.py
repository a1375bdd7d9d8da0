"""What operators see: metrics that add up, logs that cannot be forged, and ids in both."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_server import Server

from service.observability import logs
from service.observability.metrics import OUTCOMES, Metrics, outcome_of
from service.observability.timing import ANSWER_STAGES, STAGES

ROOT = Path(__file__).parents[3]


@pytest.fixture
def fresh(start_server: Callable[..., Server]) -> Server:
    return start_server(latency_buckets_seconds="0.001,0.1,60").wait_until_ready()


def test_metrics_add_up(fresh: Server, white: Path) -> None:
    for sparsity in (0.9, 0.9, 0.93):
        assert fresh.classify(white, sparsity=sparsity).status_code == 200
    assert fresh.classify(white, views="1x3").status_code == 200
    json = {"content-type": "application/json"}
    fresh.client.post("/classify", content=b"nothing of the kind", headers=json)
    fresh.client.post("/classify?top=0")
    fresh.client.get("/a/b?c=d")
    fresh.client.get("/docs")

    metric = fresh.metric
    assert metric("lookwhen_classifications_total", outcome="ok") == 4
    assert metric("lookwhen_classifications_total", outcome="clip_error") == 0
    assert metric("lookwhen_classifications_total", outcome="request_error") == 2
    assert metric("lookwhen_errors_total", code="invalid_parameter") == 1
    assert metric("lookwhen_errors_total", code="unsupported_content_type") == 1
    assert metric("lookwhen_errors_total", code="not_found") == 1
    assert metric("lookwhen_http_requests_total", route="/classify", status="2xx") == 4
    assert metric("lookwhen_http_requests_total", route="/classify", status="4xx") == 2
    assert metric("lookwhen_http_requests_total", route="unmatched", status="4xx") == 1
    assert metric("lookwhen_http_requests_total", route="/docs", status="2xx") == 1

    kept = 26 + 26 + 19 + 3 * 128  # 0.93 becomes 0.925; nobody asking means 0.5
    assert metric("lookwhen_tokens_kept_total") == kept
    assert metric("lookwhen_tokens_seen_total") == 6 * 256
    assert metric("lookwhen_sparsity_asked_ratio_count") == 3
    assert metric("lookwhen_sparsity_asked_ratio_sum") == pytest.approx(2.73)
    assert metric("lookwhen_sparsity_used_ratio_sum") == pytest.approx(0.9 + 0.9 + 0.925 + 0.5)
    assert metric("lookwhen_sparsity_used_ratio_bucket", le="0.9") == 3
    assert metric("lookwhen_sparsity_rules_total", rule="fixed") == 4
    assert metric("lookwhen_cache_uses_total", use="off") == 4
    assert metric("lookwhen_cache_bytes") == metric("lookwhen_load_ratio") == 0

    for stage in ("decode", "select", "queue", "extract"):
        assert metric("lookwhen_stage_duration_seconds_count", stage=stage) == 4
        assert metric("lookwhen_stage_duration_seconds_bucket", stage=stage, le="60.0") == 4
    assert metric("lookwhen_stage_duration_seconds_count", stage="upload") == 5
    assert metric("lookwhen_stage_duration_seconds_bucket", stage="decode", le="0.001") == 0
    assert metric("lookwhen_classification_duration_seconds_count") == 4
    assert metric("lookwhen_clip_size_bytes_sum") == 4 * white.stat().st_size
    assert metric("lookwhen_requests_in_flight") == 0
    assert metric("lookwhen_queued_tokens") == 0
    assert metric("lookwhen_tokens_per_second") > 0
    assert metric("lookwhen_decode_workers") == 1
    assert metric("lookwhen_model_info", name="brightness", version="7",
                  execution_providers="CPUExecutionProvider") == 1  # fmt: skip
    assert metric("process_resident_memory_bytes") > 0


def test_metrics_follow_the_conventions() -> None:
    families = list(text_string_to_metric_families(Metrics([0.1, 1.0]).render().decode()))
    ours = [family for family in families if family.name.startswith("lookwhen_")]
    assert len(ours) > 20
    for family in ours:
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_bytes", "_ratio", "_rows")), family.name
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith("_total")
                assert sample.value == 0, "label sets are there from the start"
            assert "path" not in sample.labels
    labels = {
        family.name: {tuple(sorted(set(s.labels) - {"le"})) for s in family.samples}
        for family in ours
    }
    assert labels["lookwhen_stage_duration_seconds"] == {("stage",)}
    stages = next(f for f in ours if f.name == "lookwhen_stage_duration_seconds").samples
    assert {sample.labels["stage"] for sample in stages} == set(STAGES)
    outcomes = next(f for f in ours if f.name == "lookwhen_classifications").samples
    assert {sample.labels["outcome"] for sample in outcomes} == set(OUTCOMES)
    assert len(OUTCOMES) < 10


def test_every_error_has_an_outcome() -> None:
    from service.errors import all_errors

    for error in all_errors().values():
        assert outcome_of(error.__new__(error)) in OUTCOMES


def test_every_metric_and_code_is_documented() -> None:
    from service.errors import all_errors

    page = (ROOT / "docs" / "http.md").read_text()
    for family in text_string_to_metric_families(Metrics([1.0]).render().decode()):
        if family.name.startswith("lookwhen_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            assert f"`{name}`" in page, f"{name} is missing from docs/http.md"
    for code, error in all_errors().items():
        assert f"| `{code}` | {error.status} |" in page, f"{code} is missing from docs/http.md"
    documented = set(re.findall(r"^\| `(lookwhen_\w+)`", page, re.MULTILINE))
    exposed = Metrics([1.0]).render().decode()
    for name in documented:
        assert name.removesuffix("_total") in exposed, f"{name} does not exist"


def test_a_request_id_is_taken_echoed_and_logged(server: Server, white: Path) -> None:
    mine = "job-7/part:3@x=1+2_a.b"
    headers = {"content-type": "video/mp4", "x-request-id": mine}
    response = server.client.post("/classify", content=white.read_bytes(), headers=headers)
    assert response.headers["x-request-id"] == response.json()["request_id"] == mine
    line = server.wait_for_log("request", request_id=mine)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/classify", 200)
    assert set(line["stages"]) == set(ANSWER_STAGES)
    assert line["label"] == "bright"
    assert line["tokens"] == 128


@pytest.mark.parametrize("bad", ["x" * 129, "a b", "a\tb", "", "é".encode(), "\x1b[31m", "<i>"])
def test_a_request_id_that_could_hurt_is_replaced(server: Server, bad: str | bytes) -> None:
    try:
        response = server.client.get("/model", headers=[("x-request-id", bad)])  # type: ignore[list-item]
    except httpx.LocalProtocolError:
        return  # not even the client sends it
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_requests_cannot_forge_lines(server: Server) -> None:
    before = len(server.logs())
    forged = '%0a{"message":"forged"}%0d%0a%1b[31mred'
    server.client.get(f"/{forged}", headers={"user-agent": 'x"\\n{"message":"forged"}'})
    server.wait_for_log("request", path='/\n{"message":"forged"}\r\n\x1b[31mred')
    lines = server.logs()[before:]
    assert all(line["message"] != "forged" for line in lines)


def test_probes_are_not_logged(server: Server) -> None:
    before = len(server.logs())
    for path in ("/livez", "/readyz", "/metrics"):
        server.client.get(path)
    lines = server.logs()[before:]
    assert not any(line.get("path") in ("/livez", "/metrics") for line in lines)


def _record(message: str, **extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "test", "msg": message, "levelname": "INFO"})
    vars(record).update(extra)
    return record


@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.ConsoleFormatter()])
def test_a_record_is_a_line(formatter: logging.Formatter) -> None:
    hostile = "a\nb\r\x1b[2J\x85\u2028 c"
    line = formatter.format(_record(hostile, path=hostile, number=0.12345678))
    assert line.isprintable()
    assert line.isascii()


def test_json_lines_hold_everything() -> None:
    token = logs.request_id.set("abc")
    try:
        document = json.loads(logs.JsonFormatter().format(_record("hello", path="/x")))
    finally:
        logs.request_id.reset(token)
    assert document["message"] == "hello"
    assert document["path"] == "/x"
    assert document["request_id"] == "abc"
    assert document["level"] == "info"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["time"])


def test_a_traceback_cannot_pass_for_lines() -> None:
    try:
        raise ValueError("x\n12:00:00 info    forged")
    except ValueError as error:
        record = _record("failed", exc_info=(type(error), error, error.__traceback__))
    lines = logs.ConsoleFormatter().format(record).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("  | ") for line in lines[1:])
