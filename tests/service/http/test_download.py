"""A picture or a film is held until its reader has it, and not for longer than it may take."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.datastructures import MutableHeaders

from service.errors import Overloaded
from service.http.body import HeldMemory
from service.http.download import Download
from service.pipeline.drawing import Drawing

CONTENT = bytes(range(256)) * 4000
Message = MutableMapping[str, Any]


async def receive() -> Message:
    return {"type": "http.disconnect"}


def download(held: HeldMemory, seconds: float) -> Download:
    return Download(Drawing("mp4", CONTENT), held, seconds, MutableHeaders({"server-timing": "x"}))


def test_it_is_sent_in_pieces_and_given_back() -> None:
    held, sent = HeldMemory(len(CONTENT), "downloads"), list[Message]()

    async def send(message: Message) -> None:
        assert held.held_bytes == len(CONTENT)
        sent.append(message)

    answer = download(held, 5.0)
    asyncio.run(answer({"type": "http"}, receive, send))
    assert b"".join(message["body"] for message in sent[1:]) == CONTENT
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    assert len(sent) > 3
    headers = dict(sent[0]["headers"])
    assert headers[b"content-type"] == b"video/mp4"
    assert headers[b"content-length"] == str(len(CONTENT)).encode()
    assert headers[b"server-timing"] == b"x"
    assert held.held_bytes == 0


def test_a_reader_that_takes_too_long_gives_the_memory_back() -> None:
    held, sent = HeldMemory(len(CONTENT), "downloads"), list[Message]()

    async def send(message: Message) -> None:
        if len(sent) == 2:
            await asyncio.Event().wait()
        sent.append(message)

    asyncio.run(download(held, 0.05)({"type": "http"}, receive, send))
    assert len(sent) == 2, "the answer stays incomplete"
    assert held.held_bytes == 0


def test_what_would_be_too_much_is_refused() -> None:
    held = HeldMemory(len(CONTENT) - 1, "downloads")
    with pytest.raises(Overloaded, match="pictures and films"):
        download(held, 1.0)
    assert held.held_bytes == 0
