"""The application without a server around it."""

import asyncio
from pathlib import Path

import httpx
import pytest

from bundle.reader import read_bundle
from service.http.app import create_app
from service.settings import load_settings


def ask(bundle: Path, path: str, **request: object) -> httpx.Response:
    """Ask an application that has not been started."""
    app = create_app(read_bundle(bundle), load_settings())

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("a secret in /etc/shadow")

    @app.get("/typed")
    async def typed(number: int) -> None:
        return None

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request("GET", path, **request)  # type: ignore[arg-type]

    return asyncio.run(run())


def test_an_unexpected_error_is_a_problem_that_tells_nothing(
    brightness_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    response = ask(brightness_bundle, "/boom", headers={"x-request-id": "abc"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["code"] == "internal_error"
    assert document["request_id"] == response.headers["x-request-id"] == "abc"
    assert "secret" not in response.text
    assert "a secret in /etc/shadow" in caplog.text, "the log has it"


def test_the_frameworks_own_validation_is_a_problem(brightness_bundle: Path) -> None:
    response = ask(brightness_bundle, "/typed?number=x")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "invalid_parameter"
    assert response.json()["field"] == "number"


def test_before_warm_up_it_is_alive_and_not_ready(brightness_bundle: Path) -> None:
    assert ask(brightness_bundle, "/livez").status_code == 200
    response = ask(brightness_bundle, "/readyz")
    assert response.status_code == 503
    assert response.json()["reason"] == "it is warming up"
    assert ask(brightness_bundle, "/model").json()["engine"]["execution_providers"] == []
