"""Who is believed about a request, and under which prefix it is answered."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from service_server import Server
from starlette.types import Receive, Scope, Send

from bundle.reader import read_bundle
from service.http.app import create_app
from service.http.forwarded import Forwarded
from service.http.keys import make_key
from service.observability.metrics import ROUTES
from service.settings import SettingsError, load_settings
from service.settings.proxies import LONGEST_PREFIX, OWN_ADDRESSES, clean_prefix, trusted_network

PROXY = "10.0.0.7"


def seen(
    *headers: tuple[str, str],
    peer: str = PROXY,
    path: str = "/classify",
    trusted: tuple[str, ...] = ("10.0.0.0/24", "fd00::/8"),
    root_path: str = "",
) -> Scope:
    """The scope of a request as the application gets it."""
    found: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope)

    scope = {
        "type": "http", "path": path, "client": (peer, 1), "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }  # fmt: skip
    forwarded = Forwarded(app, root_path, trusted)
    asyncio.run(forwarded(scope, None, None))  # type: ignore[arg-type]
    return found[0]


FOR = "x-forwarded-for"


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([], PROXY),
        ([(FOR, "203.0.113.9")], "203.0.113.9"),
        # What a client writes itself stands to the left of what proxies add.
        ([(FOR, "198.51.100.1, 203.0.113.9")], "203.0.113.9"),
        ([(FOR, "198.51.100.1, 203.0.113.9, 10.0.0.3")], "203.0.113.9"),
        ([(FOR, "198.51.100.1"), (FOR, "203.0.113.9, 10.0.0.3")], "203.0.113.9"),
        ([(FOR, "10.0.0.5, 10.0.0.3")], "10.0.0.5"),
        ([(FOR, "203.0.113.9:4711")], "203.0.113.9"),
        ([(FOR, "2001:db8::1")], "2001:db8::1"),
        ([(FOR, "[2001:db8::1]:4711, fd00::1")], "2001:db8::1"),
        ([(FOR, "::ffff:203.0.113.9")], "203.0.113.9"),
        # Behind what is no address stands what nobody can vouch for.
        ([(FOR, "203.0.113.9, unknown")], PROXY),
        ([(FOR, "203.0.113.9, <script>, 10.0.0.3")], "10.0.0.3"),
        ([(FOR, "fe80::1%\nforged")], PROXY),
        ([(FOR, " , ,")], PROXY),
        ([(FOR, ",".join(["203.0.113.9", *["10.0.0.3"] * 100]))], "10.0.0.3"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxys(
    headers: list[tuple[str, str]], client: str
) -> None:
    assert seen(*headers)["client"][0] == client


def test_nobody_else_is_believed() -> None:
    said = ((FOR, "203.0.113.9"), ("x-forwarded-proto", "https"), ("x-forwarded-prefix", "/evil"))
    for peer, trusted in (
        ("192.0.2.1", ("10.0.0.0/24",)),
        ("127.0.0.1", ()),  # not even this machine, unless the settings say so
        ("::ffff:192.0.2.1", ("10.0.0.0/24",)),
        ("", ("10.0.0.0/24",)),
    ):
        scope = seen(*said, peer=peer, trusted=trusted)
        assert scope["client"][0] == peer
        assert (scope["scheme"], scope["root_path"]) == ("http", "")
    believed = seen(*said, peer="::ffff:10.0.0.9")
    assert believed["client"][0] == "203.0.113.9"
    assert (believed["scheme"], believed["root_path"]) == ("https", "/evil")


@pytest.mark.parametrize("value", ["ftp", "https\r\nx: y", "", "javascript"])
def test_a_scheme_is_http_or_https(value: str) -> None:
    assert seen(("x-forwarded-proto", value))["scheme"] == "http"
    assert seen(("x-forwarded-proto", f"{value}, HTTPS"))["scheme"] == "https"


@pytest.mark.parametrize(
    "bad",
    ["lookwhen", "//evil.example", "/a//b", "/a/../b", "/./a", "/a?b", "/a#b", '/a"><script>',
     "/a'b", "/a b", "/ä", "/%2e%2e", "/a\r\nx-y: z", "/a\\b", "http://evil.example",
     "/" + "a" * LONGEST_PREFIX, "/docs", "/classify/x", "/a, /b"],
)  # fmt: skip
def test_a_prefix_is_plain_or_refused(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="a path prefix "):
        clean_prefix(bad)
    with pytest.raises(SettingsError, match=r"LOOKWHEN_ROOT_PATH=.*a path prefix "):
        load_settings({"root_path": bad})
    with caplog.at_level(logging.WARNING):
        scope = seen(("x-forwarded-prefix", bad), root_path="/mine")
    assert scope["root_path"] == "/mine"
    (record,) = caplog.records
    assert record.message == "X-Forwarded-Prefix is ignored"


def test_every_address_of_the_service_is_known_to_be_one() -> None:
    assert {route.split("/")[1] for route in ROUTES} - {""} == OWN_ADDRESSES - {"assets"}


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/classify", "/a/b", "/a/b/classify"),
        ("/a/b/classify", "/a/b", "/a/b/classify"),
        ("/a/b", "/a/b", "/a/b/"),
        ("/", "/a/b", "/a/b/"),
        ("/a/bc", "/a/b", "/a/b/a/bc"),
        ("/a/b/a/b", "/a/b", "/a/b/a/b"),
        ("/classify", "", "/classify"),
        ("*", "/a", "/a*"),
    ],
)
def test_requests_arrive_with_the_prefix_or_without(path: str, root: str, expected: str) -> None:
    for scope in (
        seen(path=path, root_path=root),
        seen(("x-forwarded-prefix", root + "/"), path=path, root_path="/other"),
        seen(("x-forwarded-prefix", root), path=path),
    ):
        assert (scope["path"], scope["root_path"]) == (expected, root)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("trusted_proxies", "nginx", "does not appear to be"),
        ("trusted_proxies", "10.0.0.5/8", "host bits"),
        ("trusted_proxies", "0.0.0.0/0", "everybody"),
        ("trusted_proxies", "10.0.0.1,::/0", "everybody"),
        ("trusted_proxies", "*", "does not appear to be"),
    ],
)
def test_a_setting_that_is_none_is_refused(setting: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"LOOKWHEN_{setting.upper()}=.*{reason}"):
        load_settings({setting: value})


KEY, ENTRY = make_key("a-client-of-ours")


@pytest.fixture
def app(brightness_bundle: Path) -> FastAPI:
    """An application below /lookwhen that asks for a key, not started."""
    settings = load_settings({"root_path": "/lookwhen/", "api_keys": [ENTRY]})
    app = create_app(read_bundle(brightness_bundle), settings)

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError

    return app


def ask(app: FastAPI, *paths: str, **request: Any) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.get(path, **request) for path in paths]

    return asyncio.run(run())


def test_a_key_is_asked_for_whatever_the_path_looks_like(app: FastAPI) -> None:
    protected = ("/model", "/metrics", "/classify", "/docs/model", "/lookwhen/lookwhen/livez")
    for answer in ask(app, *protected, *("/lookwhen" + path for path in protected)):
        assert answer.status_code == 401, answer.url
        assert answer.json()["type"] == "/lookwhen/problems/unauthorized"
    open_ones = ("/livez", "/", "/docs", "/openapi.json", "/problems/not_found",
                 "/docs/assets/swagger-ui.css")  # fmt: skip
    for answer in ask(app, *open_ones, *("/lookwhen" + path for path in open_ones), "/lookwhen"):
        assert answer.status_code == 200, answer.url


def test_every_problem_keeps_the_prefix(app: FastAPI) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    paths = ("/boom", "/lookwhen/boom", "/nowhere", "/docs/assets/nothing.js")
    for answer in ask(app, *paths, headers=headers):
        problem = answer.json()
        assert problem["type"] == f"/lookwhen/problems/{problem['code']}"


def test_assets_may_be_kept_and_nothing_else(app: FastAPI) -> None:
    asset, page = ask(app, "/lookwhen/docs/assets/swagger-ui.css", "/lookwhen/")
    assert "no-store" not in asset.headers.get("cache-control", "")
    assert page.headers["cache-control"] == "no-store"
    assert '<base href="/lookwhen/">' in page.text
    assert "base-uri 'self'" in page.headers["content-security-policy"]


def test_nobody_on_this_machine_is_believed_by_default(
    start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own
    server = start_server(root_path="/lookwhen")
    said = {"x-forwarded-for": "203.0.113.9", "x-forwarded-prefix": "/evil"}
    for _ in range(3):
        answer = server.client.get("/lookwhen/nowhere", headers=said)
    assert answer.json()["type"] == "/lookwhen/problems/not_found"
    line = server.wait_for_log("request", request_id=answer.headers["x-request-id"])
    assert (line["client"], line["path"]) == ("127.0.0.1", "/nowhere")
    (told,) = [line for line in server.logs() if "not believed" in line["message"]]
    assert "LOOKWHEN_TRUSTED_PROXIES" in told["setting"]
    assert json.loads(server.client.get("/openapi.json").text)["servers"] == [{"url": "/lookwhen"}]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
        ("fd00::/8", "fd00::/8"),
    ],
)
def test_an_ipv4_network_is_one_however_it_is_written(written: str, meant: str) -> None:
    assert str(trusted_network(written)) == meant
    for everybody in ("::ffff:0.0.0.0/96", "0.0.0.0/0", "::/0"):
        with pytest.raises(ValueError, match="everybody"):
            trusted_network(everybody)
