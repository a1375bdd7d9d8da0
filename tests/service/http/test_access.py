"""Who may ask what: every route, the headers that keep browsers in bounds, and addresses."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute
from service_server import Server
from starlette.routing import Mount, Route
from typed_command import lookwhen

from bundle.reader import read_bundle
from service.http.access import is_open
from service.http.app import create_app
from service.http.keys import make_key
from service.settings import load_settings

KEY, ENTRY = make_key("a-client-of-ours")

# Each with its reason: probes are asked without a key, and the rest is the same for everybody.
OPEN = {
    "/livez", "/readyz", "/v2/health/live", "/v2/health/ready",  # orchestrators
    # pages and descriptions
    "/", "/assets/{file}", "/docs", "/docs/assets/{file}", "/openapi.json", "/problems/{code}",
}  # fmt: skip


@pytest.fixture
def app(brightness_bundle: Path) -> FastAPI:
    """An application with a key, not started: nothing of it is asked to decode."""
    return create_app(read_bundle(brightness_bundle), load_settings({"api_keys": [ENTRY]}))


def ask(app: FastAPI, method: str, path: str, **request: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **request)

    return asyncio.run(run())


def knock(app: FastAPI, path: str, *protocols: str) -> int:
    """With which status a WebSocket is not opened; everything is refused before it is ready."""
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "websocket", "path": path, "headers": [(b"host", b"test")], "query_string": b"",
        "scheme": "ws", "client": ("127.0.0.1", 1), "subprotocols": [*protocols],
        "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    status: int = said[0]["status"]
    return status


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of every route there is."""
    found = []

    def collect(entries: list[Any]) -> None:
        for route in entries:
            if isinstance(route, Route):
                found.extend((method, route.path) for method in sorted(route.methods or {"GET"}))
            elif isinstance(route, APIWebSocketRoute):
                found.append(("WEBSOCKET", route.path))
            elif isinstance(route, Mount):
                found.append(("GET", route.path + "/{file}"))
            else:  # a router that was included as a whole
                inner = getattr(route, "routes", None) or route.original_router.routes
                collect(inner)

    collect(app.routes)
    return found


@pytest.mark.slow
def test_every_route_needs_a_key_but_those_that_are_listed(app: FastAPI) -> None:
    @app.get("/added/by/somebody")
    async def added() -> str:
        return "secret"

    found = routes(app)
    assert {"/classify", "/model", "/metrics", "/added/by/somebody"} <= {path for _, path in found}
    for method, path in found:
        if method == "WEBSOCKET":
            assert knock(app, path) == 401
            assert knock(app, path, f"lookwhen.key.{KEY}") != 401
            continue
        filled = re.sub(r"{[^}]+}", "not_found", path)
        status = ask(app, method, filled).status_code
        if path in OPEN:
            assert status != 401, path
            continue
        assert status == 401, f"{method} {path} is not protected"
        headers = {"authorization": f"Bearer {KEY}"}
        assert ask(app, method, filled, headers=headers).status_code != 401, path
    assert {path for _, path in found} >= OPEN


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/classify/", "/livez/", "/docs/../model", "/x"])
def test_what_is_no_open_path_to_the_letter_needs_a_key(app: FastAPI, path: str) -> None:
    assert not is_open(path)
    assert ask(app, "GET", path).status_code in (401, 404)
    assert ask(app, "POST", path).status_code in (401, 404)


def test_a_refusal_is_a_problem_that_says_what_to_send(app: FastAPI) -> None:
    response = ask(app, "POST", "/classify", content=b"x" * 100)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["code"] == "unauthorized"
    assert document["request_id"] == response.headers["x-request-id"]
    assert "Authorization: Bearer KEY" in document["detail"]


def test_rate_and_concurrency_of_a_key(brightness_bundle: Path) -> None:
    settings = {"api_keys": [ENTRY], "key_requests_per_minute": 1, "key_burst_requests": 2}
    app = create_app(read_bundle(brightness_bundle), load_settings(settings))
    headers = {"x-api-key": KEY}
    assert [ask(app, "GET", "/model", headers=headers).status_code for _ in range(3)] == [
        200, 200, 429,
    ]  # fmt: skip
    refused = ask(app, "GET", "/model", headers=headers)
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 60

    settings = {"api_keys": [ENTRY], "key_max_requests_in_flight": 1}
    app = create_app(read_bundle(brightness_bundle), load_settings(settings))
    release = asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        await release.wait()
        return "done"

    async def both() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            first = asyncio.create_task(client.get("/slow", headers=headers))
            await asyncio.sleep(0.05)
            second = await client.get("/model", headers=headers)
            release.set()
            return await first, second, await client.get("/model", headers=headers)

    first, second, third = asyncio.run(both())
    assert (first.status_code, second.status_code, third.status_code) == (200, 429, 200)
    assert second.json()["code"] == "too_many_concurrent"
    assert second.headers["retry-after"] == "1"


def test_browsers_are_kept_in_bounds(app: FastAPI) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    for path in ("/", "/docs", "/openapi.json", "/model", "/livez", "/metrics", "/nowhere"):
        answer = ask(app, "GET", path, headers=headers)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["referrer-policy"] == "no-referrer", path
        assert answer.headers["cache-control"] == "no-store", path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "frame-ancestors 'none'" in policy, path
        assert "access-control-allow-origin" not in answer.headers, path
    page = ask(app, "GET", "/")
    assert "script-src 'self'; style-src 'self';" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    # The clip that somebody has chosen is played from memory, and nothing else from there.
    assert page.headers["content-security-policy"].count("blob:") == 1
    assert page.headers["content-security-policy"].endswith("; media-src blob:")
    assert not re.search(r"<style|<script>| style=| on[a-z]+=", page.text), "nothing inline"
    for asset, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
        found = ask(app, "GET", f"/assets/{asset}")
        assert found.headers["content-type"].startswith(kind)
        assert found.headers["cache-control"] == "no-cache"
        again = ask(
            app, "GET", f"/assets/{asset}", headers={"if-none-match": found.headers["etag"]}
        )
        assert again.status_code == 304
        for wrong in (f"/assets/{asset}/", f"/assets//{asset}"):
            assert ask(app, "GET", wrong, headers=headers).status_code == 404, wrong
    description = ask(app, "GET", "/docs")
    scripts = re.search("script-src ([^;]*)", description.headers["content-security-policy"])
    assert scripts is not None
    assert re.fullmatch(r"'self' 'sha256-[^']+'", scripts[1]), "nothing inline but its own"
    assert description.text.count("<script>") == 1


def test_other_origins_only_where_they_are_allowed(brightness_bundle: Path) -> None:
    settings = {"api_keys": [ENTRY], "cors_origins": ["https://app.example.com"]}
    app = create_app(read_bundle(brightness_bundle), load_settings(settings))
    preflight = {
        "access-control-request-method": "POST", "access-control-request-headers": "authorization",
    }  # fmt: skip
    for origin, allowed in (("https://app.example.com", True), ("https://evil.example", False)):
        asked = ask(app, "OPTIONS", "/classify", headers={"origin": origin, **preflight})
        assert (asked.status_code == 200) == allowed
        answer = ask(app, "GET", "/model", headers={"origin": origin, "x-api-key": KEY})
        assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
        refused = ask(app, "GET", "/model", headers={"origin": origin})
        assert refused.status_code == 401
        assert (refused.headers.get("access-control-allow-origin") == origin) == allowed


def test_metrics_leave_the_service_when_they_have_a_port(brightness_bundle: Path) -> None:
    app = create_app(read_bundle(brightness_bundle), load_settings({"metrics_port": 9}))
    assert ask(app, "GET", "/metrics").status_code == 404
    assert "/metrics" not in ask(app, "GET", "/openapi.json").json()["paths"]


def test_a_service_with_keys_from_end_to_end(
    start_server: Callable[..., Server], white: Path, tmp_path: Path, free_port: int
) -> None:
    file = tmp_path / "keys.txt"
    made = lookwhen("key", "the-name-of-a-client", "--json")
    assert made.returncode == 0, made.stderr
    fresh = json.loads(made.stdout)
    file.write_text(fresh["entry"] + "\n")
    server = start_server(
        host="0.0.0.0", api_keys_file=file, metrics_port=free_port
    ).wait_until_ready()  # fmt: skip
    assert server.classify(white).status_code == 401
    assert server.client.get("/metrics").status_code == 401
    for arguments, environment in (
        (("--key", fresh["key"]), {}),
        ((), {"LOOKWHEN_KEY": fresh["key"]}),
    ):
        done = lookwhen("classify", white, "--url", server.url, *arguments, **environment)
        assert done.returncode == 0, done.stderr
    done = lookwhen("classify", white, "--url", server.url)
    assert done.returncode == 1
    assert "(unauthorized)" in done.stderr

    apart = httpx.get(f"http://127.0.0.1:{free_port}/metrics")
    assert 'lookwhen_classifications_total{outcome="ok"} 2.0' in apart.text
    assert 'lookwhen_errors_total{code="unauthorized"} 3.0' in apart.text
    log = json.dumps(server.logs())
    for secret in ("the-name-of-a-client", fresh["key"], fresh["entry"].partition(":")[2]):
        assert secret not in log
        assert secret not in apart.text


@pytest.mark.slow
def test_the_description_says_where_a_key_is_asked_for(
    app: FastAPI, brightness_bundle: Path
) -> None:
    """What generated clients and the page's "Authorize" go by."""
    document = ask(app, "GET", "/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            asked = operation.get("security", [])
            assert asked == ([] if is_open(path) else [{"bearer": []}, {"header": []}]), path
    without = create_app(read_bundle(brightness_bundle), load_settings({}))
    document = ask(without, "GET", "/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert "security" not in json.dumps(document["paths"])


@pytest.mark.slow
def test_a_public_address_without_a_key_is_refused(tmp_path: Path) -> None:
    done = lookwhen("serve", "--host", "0.0.0.0", "--port", 0, "--log-format", "console")
    assert done.returncode == 1
    assert "lookwhen key NAME" in done.stderr
    assert "LOOKWHEN_ALLOW_PUBLIC_WITHOUT_KEY=true" in done.stderr
    done = lookwhen("serve", "--port", 0, LOOKWHEN_API_KEYS_FILE=tmp_path / "absent")
    assert done.returncode == 1
    assert "cannot be read" in done.stderr


def test_a_public_address_may_be_allowed(start_server: Callable[..., Server]) -> None:
    server = start_server(host="0.0.0.0", allow_public_without_key="true")
    assert server.client.get("/model").status_code == 200
    server.wait_for_log("others can reach this address, and nobody is asked for a key")
