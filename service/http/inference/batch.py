"""Several clips of one request: each takes the way of all clips, and they are answered together."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from service.decoding.descriptors import Room
from service.decoding.shared_memory import SharedBlock
from service.http import responses, schemas
from service.http.inference.asked import Asked
from service.http.inference.clips import ArrivedClip
from service.http.keys import Ticket
from service.observability.timing import Trace
from service.pipeline.pipeline import Pipeline
from service.pipeline.way import Call, Received


class ClipsSource(Protocol):
    """Where a request's clips come from."""

    async def read(self) -> tuple[Asked, list[ArrivedClip]]:
        """Everything that the request says, and its clips."""
        ...

    async def gone(self) -> None:
        """Return when nobody waits for the answer any more; or never."""
        ...


@dataclass
class ClipBatch:
    """One inference request on its way.

    A slot is reserved for the first clip before anything is read; the others are admitted as soon
    as it is known how many there are. All are answered, or none: where one is refused, the work on
    the others is cancelled, and they count as such.

    Args:
        query: parameters that are known beforehand.
        ticket: of the key; each clip counts as a request.
        store: False passes the cache by.
    """

    pipeline: Pipeline
    source: ClipsSource
    query: list[tuple[str, str]]
    request_id: str
    ticket: Ticket
    store: bool = True

    def __post_init__(self) -> None:
        self._calls: list[Call] = []
        self._clips: list[ArrivedClip] = []
        self._here = asyncio.Event()
        self._gone: asyncio.Task[None] | None = None
        self._asked: Asked | None = None

    async def answer(self) -> tuple[Asked, list[schemas.Classification]]:
        """What was asked, and what `/classify` would answer about each clip.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        tasks = [self._begin(0)]
        here = asyncio.ensure_future(self._here.wait())
        try:
            await asyncio.wait({tasks[0], here}, return_when=asyncio.FIRST_COMPLETED)
            tasks += [self._begin(number) for number in range(1, len(self._clips))]
            answers = await asyncio.gather(*tasks)
        finally:
            waiting = [*tasks, here, *([self._gone] if self._gone else [])]
            for task in waiting:
                task.cancel()
            # Only when the work has really ended are its reservations given back.
            await asyncio.gather(*waiting, return_exceptions=True)
        assert self._asked is not None
        return self._asked, answers

    @property
    def trace(self) -> Trace:
        """The time of each stage of the clip that took longest."""
        traces = [call.trace for call in self._calls]
        return max(traces, key=lambda trace: sum(trace.seconds.values()))

    def _begin(self, number: int) -> "asyncio.Task[schemas.Classification]":
        call = Call(_OneClip(self, number), self.query, self.request_id, store=self.store)
        self._calls.append(call)
        say = partial(responses.classification, self.pipeline.manifest)
        return asyncio.ensure_future(self.pipeline.classify(call, say))

    async def clip(self, number: int) -> tuple[Asked, ArrivedClip]:
        """One of the clips; the first is asked for first, and all are read then."""
        if self._asked is None:
            asked, clips = await self.source.read()
            self.ticket.count(len(clips) - 1)
            self._asked, self._clips = asked, clips
            self._here.set()
        return self._asked, self._clips[number]

    async def gone(self) -> None:
        """Return when nobody waits for the answer; it is watched once for all clips."""
        if self._gone is None:
            self._gone = asyncio.ensure_future(self.source.gone())
        await asyncio.shield(self._gone)


class _OneClip:
    """One of them, as the pipeline takes it."""

    def __init__(self, batch: ClipBatch, number: int) -> None:
        self._batch, self._number = batch, number

    async def read_clip(self, block: Room) -> Received:
        asked, clip = await self._batch.clip(self._number)
        assert isinstance(block, SharedBlock)  # long videos alone go elsewhere
        block.take_over(clip.block)
        return Received(clip.container, asked.parameters)

    async def gone(self) -> None:
        await self._batch.gone()
