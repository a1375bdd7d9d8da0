"""A picture or a film as an answer, held until its reader has it, and not for longer than that."""

import asyncio
import contextlib

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.http.body import HeldMemory
from service.pipeline.drawing import Drawing, DrawingFormat

MEDIA_TYPES: dict[DrawingFormat, str] = {
    "png": "image/png", "jpeg": "image/jpeg", "mp4": "video/mp4",
}  # fmt: skip

# Sent at once: what a connection has buffered is no longer timed.
_CHUNK_BYTES = 256 * 1024


class Download(Response):
    """Sends a drawing in pieces, because a server takes a single one whole and at once.

    Args:
        held: counts its bytes until it is sent.
        timeout_seconds: how long its reader may take.
        headers: further headers.

    Raises:
        Overloaded: too much is held already.
    """

    def __init__(
        self, drawing: Drawing, held: HeldMemory, timeout_seconds: float, headers: MutableHeaders
    ) -> None:
        held.take(len(drawing.content))
        self._held, self._timeout_seconds = held, timeout_seconds
        super().__init__(drawing.content, headers=dict(headers))
        self.headers["content-type"] = MEDIA_TYPES[drawing.format]
        self.headers["content-disposition"] = f'inline; filename="explained.{drawing.format}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # The server closes a connection whose answer is not complete.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_seconds):
                    await self._send(send)
        finally:
            self._held.give_back(len(self.body))

    async def _send(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        body = memoryview(self.body)
        for place in range(0, len(body), _CHUNK_BYTES):
            piece = bytes(body[place : place + _CHUNK_BYTES])
            more = place + _CHUNK_BYTES < len(body)
            await send({"type": "http.response.body", "body": piece, "more_body": more})
