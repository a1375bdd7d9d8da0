"""Requests that arrive at a constant rate, whether or not the ones before were answered.

A client that waits for its answer before it asks again slows down together with the service, and
so hides what happens when there is too much to do. Every request has a connection and an id of its
own: with the id the service's log tells whether it was ever seen.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from benchmarks.safety.answers import judge

# More than can be waiting when everything is answered within its deadline: a service that stops
# answering ends the load instead of taking this process's memory.
_MOST_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Shot:
    """What one request sends, and where to."""

    data: bytes
    query: Mapping[str, str | float] = field(default_factory=dict)
    is_hostile: bool = False
    path: str = "/classify"


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request ended.

    Attributes:
        code: ``ok``, a problem's code, ``refused`` (no connection came about), or ``broken`` (the
            connection ended without an answer).
        fault: what is wrong with the answer, or None.
    """

    shot: Shot
    request_id: str
    code: str
    fault: str | None
    seconds: float


async def arrive(
    url: str,
    pick: Callable[[int], Shot],
    *,
    rate: float,
    until: Callable[[], bool],
    timeout_seconds: float,
    answered: Callable[[Reply], None],
) -> None:
    """Send ``rate`` requests a second until told to stop, then wait for the answers.

    Args:
        url: the service.
        pick: the request of each number, from 0.
        rate: requests a second.
        until: asked before each request; True ends the sending.
        timeout_seconds: a request that takes longer counts as ``broken``.
        answered: called for each that ended.
    """
    began, number = time.monotonic(), 0
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    timeout = httpx.Timeout(timeout_seconds)
    async with (
        httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        slots = asyncio.Semaphore(_MOST_AT_ONCE)
        while not until():
            await slots.acquire()
            task = group.create_task(_send(client, pick(number), f"load-{number}", answered))
            task.add_done_callback(lambda _: slots.release())
            number += 1
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))


async def _send(
    client: httpx.AsyncClient, shot: Shot, request_id: str, answered: Callable[[Reply], None]
) -> None:
    headers = {"content-type": "video/mp4", "x-request-id": request_id}
    began = time.monotonic()
    try:
        response = await client.post(
            shot.path, params=shot.query, content=shot.data, headers=headers
        )
    except httpx.ConnectError:
        code, fault = "refused", None
    except httpx.HTTPError as error:
        code, fault = "broken", type(error).__name__
    else:
        verdict = judge(response)
        code, fault = verdict.code, verdict.fault
    answered(Reply(shot, request_id, code, fault, time.monotonic() - began))
