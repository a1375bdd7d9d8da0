"""A service over HTTP, asked by asyncio."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import BinaryIO, Literal, Self, Unpack

import httpx

from lookwhen.client.clips import Clip, ClipBytes, chunks
from lookwhen.client.errors import Unreachable
from lookwhen.client.exchange import (
    LONGEST_WAIT_SECONDS,
    LOST,
    RETRIES,
    TIMEOUT_SECONDS,
    Lines,
    Patience,
    Request,
    Trial,
    answer_of,
    connected,
    raise_problem,
)
from lookwhen.client.options import (
    ClassifyOptions,
    EmbedOptions,
    ExplainOptions,
    SweepOptions,
    TimelineOptions,
)
from service.http.model_schemas import Model
from service.http.schemas import Classification, Explained, Health, Sweep
from service.http.timeline_schemas import TimelineLine


class AsyncClient:
    """:class:`lookwhen.Client` for asyncio: the same questions, arguments and errors."""

    def __init__(
        self,
        url: str = "http://localhost:8000",
        *,
        key: str | None = None,
        retries: int = RETRIES,
        timeout_seconds: float = TIMEOUT_SECONDS,
        longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> None:
        self._patience = Patience(retries, timeout_seconds, longest_wait_seconds)
        self._http = connected(httpx.AsyncClient, url, key, self._patience)

    async def classify(self, clip: Clip, **options: Unpack[ClassifyOptions]) -> Classification:
        """Labels of a clip; see ``POST /classify``."""
        return answer_of(await self._ask("classify", clip, options), Classification)

    async def embed(self, clip: Clip, **options: Unpack[EmbedOptions]) -> Classification:
        """A clip's embedding, with its labels; see ``POST /embed``."""
        return answer_of(await self._ask("embed", clip, options), Classification)

    async def sweep(self, clip: Clip, **options: Unpack[SweepOptions]) -> Sweep:
        """A clip at several sparsities; see ``POST /sweep``."""
        return answer_of(await self._ask("sweep", clip, options), Sweep)

    async def explain(self, clip: Clip, **options: Unpack[ExplainOptions]) -> Explained:
        """Explain which tokens of a clip were kept; see ``POST /explain``."""
        return answer_of(await self._ask("explain", clip, options), Explained)

    async def draw(
        self,
        clip: Clip,
        format: Literal["png", "jpeg", "mp4"] = "png",
        **options: Unpack[ExplainOptions],
    ) -> bytes:
        """Draw the kept tokens as a picture or a film; returns the file's bytes."""
        response = await self._ask("explain", clip, {**options, "format": format})
        raise_problem(response)
        return response.content

    async def timeline(
        self, video: Clip, **options: Unpack[TimelineOptions]
    ) -> AsyncIterator[TimelineLine]:
        """What happens when in a long video, line by line as the service finds it.

        The first line is a BegunLine. A WindowLine follows for each window, and a SegmentLine for
        each segment once it has ended; a LostLine says that a decode worker died. The last is a
        DoneLine. See ``POST /timeline``. Ending the iteration ends the service's work.
        """
        request = Request.of("timeline", ClipBytes(video), options)
        trial = Trial(self._patience, None if request.clip.again else 0)
        url = f"{self._http.base_url}timeline"
        lines = Lines(url)
        while True:
            try:
                with request.clip.opened() as file:
                    async with self._http.stream(
                        "POST", request.path, params=request.query, content=_read(file),
                        headers=request.headers,
                    ) as response:  # fmt: skip
                        if response.is_success:
                            async for line in response.aiter_lines():
                                yield lines.read(line)
                            lines.end()
                            return
                        await response.aread()
            except LOST as error:
                if lines.begun:
                    raise Unreachable(f"{url} was lost on the way: {error}") from error
                await asyncio.sleep(trial.wait_after_loss(error, url))
                continue
            if (wait := trial.wait_after(response)) is None:
                raise_problem(response)
            await asyncio.sleep(wait or 0.0)

    async def model(self) -> Model:
        """Describe the model that is served; see ``GET /model``."""
        return answer_of(await self._send(lambda: self._http.get("model")), Model)

    async def ready(self) -> Health:
        """Say whether the service takes clips, and why not; raises Unreachable alone."""
        response = await self._send(lambda: self._http.get("readyz"), 0)
        return Health.model_validate_json(response.content)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, path: str, clip: Clip, options: Mapping[str, object]) -> httpx.Response:
        request = Request.of(path, ClipBytes(clip), options)

        async def post() -> httpx.Response:
            with request.clip.opened() as file:
                return await self._http.post(
                    path, params=request.query, content=_read(file), headers=request.headers
                )

        return await self._send(post, None if request.clip.again else 0)

    async def _send(
        self, send: Callable[[], Awaitable[httpx.Response]], retries: int | None = None
    ) -> httpx.Response:
        trial = Trial(self._patience, retries)
        while True:
            try:
                response = await send()
            except LOST as error:
                await asyncio.sleep(trial.wait_after_loss(error, self._http.base_url))
            else:
                if (wait := trial.wait_after(response)) is None:
                    return response
                await asyncio.sleep(wait)


async def _read(file: BinaryIO) -> AsyncIterator[bytes]:
    """Its bytes, read beside the event loop: a disk or a pipe may wait."""
    pieces = chunks(file)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
