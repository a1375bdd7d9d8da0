"""The service behind a real nginx that ends TLS and offers it below a path prefix."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
import uvicorn
from browser import CHROMIUM, Browser
from nginx import CONFIGURATION, NGINX, Nginx
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from service_server import Server, wait_for
from typed_command import lookwhen
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from service.settings import Settings

pytestmark = [pytest.mark.real, pytest.mark.skipif(NGINX is None, reason="needs nginx")]

MiB = 1024 * 1024
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def behind(brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with the settings that the configuration names, and no more."""
    log = tmp_path_factory.mktemp("behind") / "log"
    server = Server(brightness_bundle, log, trusted_proxies="127.0.0.1")
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def proxy(behind: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx"), urlsplit(behind.url).netloc) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def client(proxy: Nginx) -> Iterator[httpx.Client]:
    """Somebody at an address of their own, who follows no redirects."""
    transport = httpx.HTTPTransport(verify=proxy.trust(), local_address="127.0.0.2")
    with httpx.Client(base_url=proxy.url, transport=transport, timeout=120) as client:
        yield client


def post(client: httpx.Client, clip: Path, path: str = "/lookwhen/classify") -> httpx.Response:
    return client.post(path, content=clip.read_bytes(), headers={"content-type": "video/mp4"})


def test_a_clip_is_classified_and_logged_with_its_clients_address(
    client: httpx.Client, behind: Server, white: Path
) -> None:
    answer = post(client, white)
    assert answer.status_code == 200
    assert answer.json()["labels"][0]["label"] == "bright"
    line = behind.wait_for_log("request", request_id=answer.headers["x-request-id"])
    assert (line["client"], line["path"]) == ("127.0.0.2", "/classify")


@pytest.mark.parametrize("path", ["/stream", "/v1/stream"])
def test_a_stream_goes_through(proxy: Nginx, behind: Server, path: str) -> None:
    """Upgraded, of the service's own origin, and with the client's address in the log."""
    url = proxy.url.replace("https", "wss") + f"/lookwhen{path}?window=1"
    with connect(url, ssl=proxy.trust(), origin=proxy.url) as socket:  # type: ignore[arg-type]
        socket.send(b"no video at all" * 100)
        problem = json.loads(socket.recv(timeout=60))
        assert problem["code"] == "not_a_video"
        assert problem["type"].startswith("/lookwhen/problems/")
    line = behind.wait_for_log("stream", request_id=problem["request_id"])
    assert (line["client"], line["path"], line["code"]) == ("127.0.0.1", "/stream", "not_a_video")
    with pytest.raises(InvalidStatus) as refused:
        connect(url, ssl=proxy.trust(), origin="https://elsewhere.example")  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403


def test_a_client_cannot_say_who_it_is(client: httpx.Client, behind: Server, white: Path) -> None:
    forged = {
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-proto": "http",
        "x-forwarded-prefix": "/evil",
        "forwarded": "for=203.0.113.9;proto=http",
    }
    through = client.get("/lookwhen/nowhere", headers=forged)
    assert through.json()["type"] == "/lookwhen/problems/not_found"
    line = behind.wait_for_log("request", request_id=through.headers["x-request-id"])
    assert line["client"] == "127.0.0.2"
    # Past the proxy, from an address that is nobody's proxy.
    transport = httpx.HTTPTransport(local_address="127.0.0.3")
    with httpx.Client(transport=transport, base_url=behind.url) as past:
        direct = past.get("/nowhere", headers=forged)
    assert direct.json()["type"] == "/problems/not_found"
    line = behind.wait_for_log("request", request_id=direct.headers["x-request-id"])
    assert line["client"] == "127.0.0.3"


def test_the_command_line_asks_below_the_prefix(proxy: Nginx, white: Path) -> None:
    for url in (f"{proxy.url}/lookwhen", f"{proxy.url}/lookwhen/"):
        done = lookwhen(
            "classify", str(white), "--url", url, "--json",
            SSL_CERT_FILE=proxy.certificate,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["labels"][0]["label"] == "bright"


def _texts(client: httpx.Client) -> dict[str, httpx.Response]:
    """An answer of every kind."""
    return {
        path: client.get("/lookwhen" + path)
        for path in ("/", "/docs", "/openapi.json", "/model", "/livez", "/readyz", "/nowhere",
                     "/problems/not_found", "/problems/nothing", "/classify", "/classify/",
                     "/docs/assets", "/docs/assets/nothing.js")
    }  # fmt: skip


def test_nothing_leads_out_of_the_prefix_or_out_of_tls(client: httpx.Client, proxy: Nginx) -> None:
    for path, answer in _texts(client).items():
        # The one that is no address: how SVG is told.
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "http://" not in str(answer.headers), path
        if location := answer.headers.get("location"):
            assert urljoin(str(answer.url), location).startswith(f"{proxy.url}/lookwhen/")
        if answer.headers.get("content-type") == PROBLEM:
            problem = answer.json()
            assert problem["type"] == f"/lookwhen/problems/{problem['code']}", path
            described = client.get(urljoin(str(answer.url), problem["type"]))
            assert described.json()["code"] == problem["code"]
    nowhere = client.get("/lookwhen/nowhere").json()
    assert "See /lookwhen/docs for" in nowhere["detail"]
    described = client.get("/lookwhen/problems/http_error").json()
    assert described["advice"] == "Check the request against /lookwhen/openapi.json."


def test_the_interface_says_where_it_is(client: httpx.Client, white: Path) -> None:
    document = client.get("/lookwhen/openapi.json").json()
    (server,) = document["servers"]
    base = urljoin(f"{client.base_url}", server["url"])
    assert post(client, white, f"{base}/classify").status_code == 200
    assert "/v1/model" in document["paths"]


def test_all_that_the_documentation_loads_is_there(client: httpx.Client) -> None:
    page = client.get("/lookwhen/docs")
    named = re.findall(r"""(?:src|href|url)(?:=|: )["']([^"']+)["']""", page.text)
    assert len(named) >= 4
    for address in named:
        assert address.startswith("/lookwhen/"), address
        found = client.get(address)
        assert found.status_code == 200, address
        if "/assets/" in address:
            assert "no-store" not in found.headers.get("cache-control", "")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self' 'sha256-" in policy


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_people_find_their_way_below_the_prefix(proxy: Nginx, square: Path) -> None:
    with Browser() as browser:
        browser.call("Security.setIgnoreCertificateErrors", ignore=True)
        browser.open(f"{proxy.url}/lookwhen/docs")
        browser.wait("document.querySelectorAll('.opblock').length > 5")
        assert browser.run("document.querySelector('.servers')?.innerText").strip() == "/lookwhen"
        assert not browser.errors
        for address in ("/lookwhen/", "/lookwhen"):  # the second is what people type
            browser.open(proxy.url + address)
            browser.wait("document.getElementById('model').textContent.includes('brightness')")
            browser.choose_file("#file", square)
            browser.run("document.getElementById('go').click()")
            browser.wait("!document.getElementById('answer').hidden")
            command = browser.run("document.getElementById('code').innerText")
            assert f"{proxy.url}/lookwhen/classify" in command
            links = browser.run("[...document.links].map((link) => link.href)")
            assert links
            assert all(link.startswith(f"{proxy.url}/lookwhen/") for link in links)
            assert not browser.errors


def test_the_metrics_are_there_too(client: httpx.Client) -> None:
    headers = {"accept": "application/openmetrics-text;version=1.0.0"}
    answer = client.get("/lookwhen/metrics", headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    routes = {sample.labels["route"] for sample in families["lookwhen_http_requests"].samples}
    assert "/classify" in routes
    assert not any("lookwhen" in route for route in routes)


def test_a_body_over_the_limit_gets_the_services_answer(client: httpx.Client) -> None:
    limit = Settings.model_fields["max_body_bytes"].default

    def pieces(size: int) -> Iterator[bytes]:
        piece = bytes(MiB)
        for sent in range(0, size, MiB):
            yield piece[: size - sent]

    headers = {"content-type": "video/mp4"}
    said = {**headers, "content-length": str(limit + 1)}
    for sent in (said, headers):  # the length is known at once, or the bytes have to be counted
        answer = client.post("/lookwhen/classify", content=pieces(limit + 1), headers=sent)
        assert answer.status_code in (413, 415)  # zeros are no video, which may be seen first
        assert answer.headers["content-type"] == PROBLEM
        if sent is said:
            assert answer.json()["code"] == "body_too_large"
            assert answer.json()["limit"] == limit


def test_what_the_proxy_answers_itself_is_not_taken_for_the_services(
    proxy: Nginx, tmp_path: Path
) -> None:
    # The head alone: the answer is there before any of the body.
    head = (
        f"POST /lookwhen/classify HTTP/1.1\r\nHost: localhost:{proxy.port}\r\n"
        f"Content-Type: video/mp4\r\nContent-Length: {66 * MiB}\r\nConnection: close\r\n\r\n"
    )
    plain = socket.create_connection(("127.0.0.1", proxy.port), 60)
    with proxy.trust().wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(head.encode())
        refused = connection.makefile("rb").read().decode().lower()
    nobody = Nginx(tmp_path, "127.0.0.1:1")
    with nobody, httpx.Client(verify=nobody.trust(), base_url=nobody.url) as client:
        answer = client.get("/lookwhen/readyz")
    unreachable = f"http/1.1 {answer.status_code} {answer.headers}\r\n\r\n{answer.text}".lower()
    for text, status in ((refused, 413), (unreachable, 502)):
        assert text.startswith(f"http/1.1 {status}")
        assert "text/plain" in text
        assert "the proxy " in text
        assert "problem" not in text
        assert "x-request-id" not in text
        assert "nginx/" not in text, "its version is nobody's business"


def test_clips_go_through_as_they_arrive(client: httpx.Client, behind: Server) -> None:
    """The service sees an upload that has only begun, and that its client leaves."""

    def under_way() -> bool:
        return behind.metric("lookwhen_requests_in_flight") == 1

    def pieces() -> Iterator[bytes]:
        yield bytes(1024)
        wait_for(under_way, "the upload to begin")
        raise _Left

    headers = {"content-type": "video/mp4", "content-length": "100000"}
    with pytest.raises(_Left):
        client.post("/lookwhen/classify", content=pieces(), headers=headers)
    wait_for(lambda: not under_way(), "the upload to end", seconds=4)  # and not by its deadline


class _Left(Exception):
    """The client goes away in the middle."""


def test_the_shipped_numbers_fit_the_settings() -> None:
    text = CONFIGURATION.read_text("utf-8")

    def number(directive: str, unit: str) -> int:
        found = re.search(rf"^\s*{directive} (\d+){unit};", text, re.MULTILINE)
        assert found, directive
        return int(found[1])

    def default(name: str) -> Any:
        return Settings.model_fields[name].default

    limit = default("max_body_bytes")
    assert limit < number("client_max_body_size", "m") * MiB <= 1.05 * limit
    assert number("proxy_read_timeout", "s") > (
        default("upload_timeout_seconds") + default("request_timeout_seconds")
    )
    assert number("client_header_timeout", "s") <= default("header_timeout_seconds")
    # One that is taken up as the service closes it would be answered 502.
    assert number("keepalive_timeout", "s") < uvicorn.Config(app="none").timeout_keep_alive
