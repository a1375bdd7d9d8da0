"""Bodies of requests, read without a server."""

import asyncio
from collections.abc import Iterable, MutableMapping
from typing import Any

from service.decoding.shared_memory import SharedBlock
from service.http.body import BodyLimits, HeldMemory, RequestBody
from service.pipeline.way import Received

LIMITS = BodyLimits(
    max_body_bytes=20_000,
    max_form_fields=4,
    max_form_field_bytes=100,
    upload_timeout_seconds=1.5,
    min_upload_bytes_per_second=1000,
    upload_grace_seconds=10,
)


def read(
    pieces: Iterable[bytes],
    content_type: str = "video/mp4",
    *,
    ends: str = "complete",
    limits: BodyLimits = LIMITS,
    pause: float = 0.0,
    memory: HeldMemory | None = None,
    **headers: str,
) -> tuple[bytes, Received]:
    """Read a body that arrives in these pieces, ``pause`` seconds apart; ``ends`` says how."""
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    if ends == "complete":
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    elif ends == "disconnect":
        messages.append({"type": "http.disconnect"})

    async def receive() -> MutableMapping[str, Any]:
        if messages:
            if pause:
                await asyncio.sleep(pause)
            return messages.pop(0)
        await asyncio.sleep(60)
        raise AssertionError("read on after the end")

    async def run() -> tuple[bytes, Received]:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        body = RequestBody({"content-type": content_type, **named}, receive, limits, memory)
        try:
            with SharedBlock("clip") as block:
                received = await body.read_clip(block)
                return block.read(block.size), received
        finally:
            body.release()

    return asyncio.run(run())
