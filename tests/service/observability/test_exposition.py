"""The metrics in every format that a scraper may ask for, and the requests behind their samples."""

import contextlib
import gzip
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from service_server import Server, wait_for

from service.observability.exemplars import exemplar_of, trace_id
from service.observability.exposition import expose
from service.observability.metrics import Metrics

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE[1:]}-{PARENT}-01", False),
        (f" 00-{TRACE}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}", False),
        (f"00-{TRACE}-{PARENT}-01\n", False),
        ("", False),
        ("x" * 10_000, False),
    ],
)
def test_a_traceparent_is_valid_to_the_letter_or_ignored(header: str, valid: bool) -> None:
    assert trace_id(header) == (TRACE if valid else None)
    scope = {"headers": [(b"traceparent", header.encode())]}
    expected = {"trace_id": TRACE} if valid else {"request_id": "mine"}
    assert exemplar_of(scope, "mine") == expected
    twice = {"headers": scope["headers"] * 2}
    assert exemplar_of(twice, "mine") == {"request_id": "mine"}


def test_an_exemplar_holds_an_id_as_a_whole_or_nothing() -> None:
    longest = 128 - len("request_id")
    assert exemplar_of({"headers": []}, "x" * longest) == {"request_id": "x" * longest}
    assert exemplar_of({"headers": []}, "x" * (longest + 1)) is None


TEXT = "text/plain; version=0.0.4; charset=utf-8"
NEW_TEXT = "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# As scrapers send it, by their source.
PROMETHEUS_1 = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
PROMETHEUS_2_5 = (
    "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)

AS_THE_CLIENT_CHOOSES = {
    "": TEXT,
    "*/*": TEXT,
    "text/plain": TEXT,
    "text/plain;version=0.0.4": TEXT,
    "text/html,application/xhtml+xml,*/*;q=0.8": TEXT,
    "application/json": TEXT,
    PROMETHEUS_1: TEXT,
    PROMETHEUS_2_5: TEXT,
    PROMETHEUS_2: f"{OPENMETRICS}; escaping=underscores",
    PROMETHEUS_3: f"{OPENMETRICS}; escaping=allow-utf-8",
    "text/plain;version=1.0.0": NEW_TEXT,
    "text/plain; version=1.0.0; escaping=dots": NEW_TEXT.replace("underscores", "dots"),
    "application/openmetrics-text": OPENMETRICS,
}
# Where the client does not look at weights, or repeats whatever it was asked for.
OTHERWISE = {
    "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0": TEXT,
    "application/openmetrics-text;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.5": TEXT,
    "application/openmetrics-text;q=0": TEXT,
    "application/openmetrics-text;version=1.0.0;q=0,*/*": TEXT,
    "application/openmetrics-text;version=9.9.9": TEXT,
    "application/openmetrics-text;version=nonsense": TEXT,
    "text/plain;version=2.0.0": TEXT,
    "application/openmetrics-text;q=x": TEXT,
    "APPLICATION/OpenMetrics-Text; Version=1.0.0": f"{OPENMETRICS}; escaping=underscores",
    'application/openmetrics-text;q=0.9;version="1.0.0"': f"{OPENMETRICS}; escaping=underscores",
    "text/*;q=0.9,application/openmetrics-text;q=0.5": TEXT,
    ",;,=;q=,": TEXT,
}


@pytest.mark.parametrize(("accept", "expected"), (AS_THE_CLIENT_CHOOSES | OTHERWISE).items())
def test_the_format_is_the_one_asked_for(accept: str, expected: str) -> None:
    headers, body = expose(Metrics([0.1, 1.0]).registry, accept, "")
    assert headers["content-type"] == expected
    if accept in AS_THE_CLIENT_CHOOSES:
        assert choose_encoder(accept)[1] == expected
    is_openmetrics = body.endswith(b"# EOF\n")
    assert is_openmetrics == expected.startswith("application/openmetrics-text")
    parse = parse_openmetrics if is_openmetrics else parse_text
    names = {family.name.removesuffix("_info") for family in parse(body.decode())}
    if "escaping=dots" not in accept:  # which spells underscores in another way
        assert {"lookwhen_http_requests", "lookwhen_build"} <= names


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("gzip", True), ("gzip, deflate, br", True), ("GZip;q=0.5", True), ("x-gzip", True),
        ("*", True), ("", False), ("identity", False), ("gzip;q=0", False), ("br", False),
        ("gzip;q=0, *", False), ("identity;q=1, gzip;q=0.5", False), ("gzip;q=nonsense", False),
    ],
)  # fmt: skip
def test_it_is_compressed_where_that_is_accepted(accept_encoding: str, compressed: bool) -> None:
    registry = Metrics([1.0]).registry
    headers, body = expose(registry, "", accept_encoding)
    assert (headers.get("content-encoding") == "gzip") == compressed
    text = gzip.decompress(body) if compressed else body
    assert b"lookwhen_ready" in text
    assert "Accept-Encoding" in headers["vary"]


@pytest.fixture(scope="module")
def ports(
    server: Server, brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Server, str]]]:
    """Both ways to offer metrics: the service, and the address of its metrics."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    apart = Server(brightness_bundle, tmp_path_factory.mktemp("apart") / "log", metrics_port=port)
    try:
        apart.wait_until_ready()
        yield {
            "its own": (server, f"{server.url}/metrics"),
            "apart": (apart, f"http://127.0.0.1:{port}/metrics"),
        }
        assert all(apart.logs()), "every line is JSON, whatever scrapers did"
    finally:
        apart.stop()


@pytest.mark.parametrize("port", ["its own", "apart"])
def test_both_ports_negotiate(ports: dict[str, tuple[Server, str]], port: str) -> None:
    _, address = ports[port]
    for accept, expected in AS_THE_CLIENT_CHOOSES.items():
        answer = httpx.get(address, headers={"accept": accept, "accept-encoding": "gzip"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == expected, accept
        assert answer.headers["content-encoding"] == "gzip"
        assert "Accept" in answer.headers["vary"]
    headers = [("accept", "application/json"), ("accept", "text/plain;version=1.0.0"),
               ("accept-encoding", "identity")]  # fmt: skip
    plain = httpx.get(address, headers=headers, params={"name[]": "lookwhen_ready"})
    assert plain.headers["content-type"] == NEW_TEXT
    assert "content-encoding" not in plain.headers
    (family,) = parse_text(plain.text)
    assert family.name == "lookwhen_ready"
    assert httpx.post(address).status_code == 405


def test_the_port_apart_survives_its_scrapers(ports: dict[str, tuple[Server, str]]) -> None:
    server, address = ports["apart"]
    host, port = urlsplit(address).hostname, urlsplit(address).port
    head = httpx.head(address)
    assert head.status_code == 200
    assert head.content == b""
    assert int(head.headers["content-length"]) > 1000
    for sent in (b"", b"GET", b"GET /metrics HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        with socket.create_connection((host, port), 10) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            gone.sendall(sent)
    assert httpx.get(address).status_code == 200
    assert "Traceback" not in str(server.logs())


def sample_exemplars(text: str, name: str) -> list[dict[str, str]]:
    """Labels of the exemplars of one metric's samples."""
    return [
        sample.exemplar.labels
        for family in parse_openmetrics(text)
        for sample in family.samples
        if sample.name == name and sample.exemplar
    ]


@pytest.mark.parametrize("port", ["its own", "apart"])
@pytest.mark.real
def test_a_real_prometheus_stores_the_traces(
    ports: dict[str, tuple[Server, str]], port: str, white: Path, tmp_path: Path
) -> None:
    server, address = ports[port]
    trace = TRACE[:-1] + str(len(port))  # one that no other test sends
    headers = {"content-type": "video/mp4"}
    sent = {**headers, "traceparent": f"00-{trace}-{PARENT}-01"}
    assert server.client.post("/classify", content=white.read_bytes(), headers=sent).is_success
    refused = server.client.post("/classify?top=0", headers={"x-request-id": "mine"})
    assert refused.status_code == 422
    text = httpx.get(address, headers={"accept": PROMETHEUS_2}).text
    for name in ("lookwhen_http_request_duration_seconds_bucket",
                 "lookwhen_classification_duration_seconds_bucket",
                 "lookwhen_stage_duration_seconds_bucket"):  # fmt: skip
        assert {"trace_id": trace} in sample_exemplars(text, name), name
    assert {"request_id": "mine"} in sample_exemplars(text, "lookwhen_errors_total")
    assert "# {" not in httpx.get(address).text, "the text format has none"

    with prometheus(tmp_path, urlsplit(address).netloc) as api:
        name = "lookwhen_classification_duration_seconds_bucket"
        found = wait_for(lambda: stored_exemplars(api, name), "an exemplar", seconds=60)
        assert {"trace_id": trace} in [exemplar["labels"] for exemplar in found]
        (target,) = api.get("/api/v1/targets").json()["data"]["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")


def stored_exemplars(api: httpx.Client, query: str) -> list[dict[str, Any]]:
    asked = {"query": query, "start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
    series = api.get("/api/v1/query_exemplars", params=asked).raise_for_status().json()["data"]
    return [exemplar for one in series for exemplar in one["exemplars"]]


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes one target, as a client of its API."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs Prometheus")
    configuration = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "it", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
             "--enable-feature=exemplar-storage"],
            stderr=log, process_group=0,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:

            def ready() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    return api.get("/-/ready").is_success
                except httpx.TransportError:
                    return False

            wait_for(ready, "Prometheus")
            yield api
    finally:
        process.terminate()
        process.wait(30)
