"""A stream's socket without a server: what is wrong is told, and blamed on whom it comes from."""

import asyncio
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message

from bundle.reader import read_bundle
from service.http.server import _server
from service.http.signals import Signals
from service.http.stream import router as stream_router
from service.observability.metrics import Metrics
from service.pipeline.live import LiveCall
from service.settings import Settings

TRANSPORT_STREAM = (b"\x47\x1f\xff\x10" + bytes(184)) * 6
WEBM = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm"


class _Watched:
    """The pipeline's part of a stream: packets are taken, and not decoded."""

    draining = False

    def __init__(self, bundle: Path, settings: Settings) -> None:
        self.manifest, self.settings = read_bundle(bundle).manifest, settings
        self.metrics = Metrics(settings.latency_buckets_seconds)
        self.streams = self

    def not_ready_because(self) -> None:
        return None

    def plan(self, query: object) -> None:
        return None

    async def watch(self, call: LiveCall) -> None:
        async with call.source.connect() as connection:
            async for _ in connection.chunks():
                pass


Converse = Callable[..., tuple[list[Message], dict[str, Any]]]


@pytest.fixture
def converse(brightness_bundle: Path) -> Converse:
    """Send messages to a stream's socket; what came back, and what the log is to say."""

    def go(
        *sent: bytes | str, leaves_at: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> tuple[list[Message], dict[str, Any]]:
        app, came = FastAPI(), list[Message]()
        app.include_router(stream_router)
        pipeline: Any = _Watched(brightness_bundle, Settings(decode_sandbox="off"))
        app.state.pipeline, app.state.metrics = pipeline, pipeline.metrics
        state: dict[str, Any] = {"request_id": "id"}
        messages: list[Message] = [{"type": "websocket.connect"}]
        for data in sent:
            part = {"bytes": data} if isinstance(data, bytes) else {"text": data}
            messages.append({"type": "websocket.receive", **part})

        async def receive() -> Message:
            if messages:
                return messages.pop(0)
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == leaves_at:
                raise OSError
            came.append(message)

        scope = {
            "type": "websocket", "path": "/stream", "raw_path": b"/stream", "root_path": "",
            "query_string": b"", "scheme": "ws", "headers": list(headers), "subprotocols": [],
            "state": state, "extensions": {"websocket.http.response": {}},
        }  # fmt: skip
        asyncio.run(asyncio.wait_for(app(scope, receive, send), 20))
        return came, state

    return go


def problem_of(came: list[Message]) -> dict[str, Any]:
    (text,) = [message["text"] for message in came if message["type"] == "websocket.send"]
    problem: dict[str, Any] = json.loads(text)
    return problem


def test_a_client_that_is_paced_may_answer_pings_late(brightness_bundle: Path) -> None:
    """Its pong lies behind what it sent and nobody has read yet."""
    config = _server(Settings(bundle=brightness_bundle), Signals()).config
    assert config.ws_ping_timeout is None
    assert config.ws_ping_interval  # proxies end what is silent


@pytest.mark.parametrize(
    ("program", "words"), [("#!/bin/sh\nexit 127\n", "does not say why"), ("\0", "format error")]
)
def test_a_program_that_cannot_be_run_is_not_the_clients_fault(
    converse: Converse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, program: str, words: str,
) -> None:  # fmt: skip
    (tmp_path / "ffmpeg").write_text(program)
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    came, state = converse(TRANSPORT_STREAM)
    assert problem_of(came)["code"] == "internal_error"
    assert came[-1]["code"] == 1011
    assert state["log"] == {"code": "internal_error"}
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert words in record.__dict__["reason"]


def test_no_program_is_not_the_clients_fault(
    converse: Converse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", str(tmp_path))
    came, _ = converse(TRANSPORT_STREAM)
    assert problem_of(came)["code"] == "internal_error"
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "not installed" in record.__dict__["reason"]


def test_an_end_among_the_first_bytes_is_one(converse: Converse) -> None:
    """Nobody waits for another: FFmpeg ends, and what comes of it is up to the decoder."""
    came, state = converse(WEBM, "end")
    assert [message["type"] for message in came] == ["websocket.accept", "websocket.close"]
    assert came[-1]["code"] == 1000
    assert "log" not in state


@pytest.mark.parametrize(
    ("leaves_at", "headers"),
    [
        ("websocket.accept", ()),
        ("websocket.http.response.start", ((b"origin", b"https://elsewhere.example"),)),
        ("websocket.http.response.body", ((b"origin", b"https://elsewhere.example"),)),
    ],
)
def test_who_leaves_before_it_is_open_is_no_error_of_ours(
    converse: Converse, caplog: pytest.LogCaptureFixture, leaves_at: str,
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:  # fmt: skip
    came, state = converse(leaves_at=leaves_at, headers=headers)
    assert state["log"] == {"code": "client_disconnected"}
    assert "websocket.close" not in [message["type"] for message in came]
    assert not caplog.records
