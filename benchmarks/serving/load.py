"""The load generator: open loop by a schedule, or a closed loop of some callers.

Latency counts from when a request was due, not from when it was sent: a generator that waits for a
slow server would otherwise leave out the very requests that suffer (coordinated omission).
"""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np

from benchmarks.serving.arrivals import Arrival, draw
from lookwhen.bench.connections import Answer, AnswerError, Client

_T = TypeVar("_T")

# Steps of niceness by which the generator goes before the servers.
_AHEAD = 5


class Outcome(StrEnum):
    """What became of a request."""

    RIGHT = "right"  # in time, with the label that the clip gets at that sparsity
    WRONG = "wrong"  # in time, with another label
    LATE = "late"  # no answer by the deadline; the caller has hung up
    EXPIRED = "expired"  # the server said that it would not be in time (408, 504)
    REFUSED = "refused"  # the server said that it is too busy (429, 503)
    FAILED = "failed"  # anything else


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; times in seconds from the start of the run.

    ``used`` is the sparsity that the server says it used, NaN where it says nothing.
    """

    due: float
    sent: float
    done: float
    sparsity: float
    outcome: Outcome
    used: float = float("nan")

    @property
    def latency(self) -> float:
        return self.done - self.due

    @property
    def lag(self) -> float:
        """How late the generator was."""
        return self.sent - self.due


# The label of an answer's body and the sparsity it was made at (None: as asked).
Reader = Callable[[bytes], tuple[str, float | None]]
# The right label of a clip at a sparsity.
Truth = Callable[[int, float], str]


@dataclass(frozen=True, slots=True)
class Target:
    """A server to ask.

    Attributes:
        requests: ready-made bytes by (clip, sparsity).
        deadline: seconds after which a caller hangs up.
    """

    url: str
    requests: dict[tuple[int, float], bytes]
    read: Reader
    truth: Truth
    deadline: float


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end: no pauses for garbage, and, where that is allowed, before the servers.

    A generator that waits for a CPU behind the server that it loads would be late by as much.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, usual - _AHEAD)
    try:
        return asyncio.run(work)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)
        gc.enable()
        gc.unfreeze()


def _client(target: Target) -> Client:
    """A client for callers that know nothing of each other.

    With kept connections chance would decide which worker serves them: where workers accept for
    themselves, all may end at one.
    """
    return Client(target.url, keep=False)


async def open_loop(target: Target, arrivals: Sequence[Arrival]) -> list[Sample]:
    """Send every request when it is due, and wait for the last answer."""
    client = _client(target)
    start = time.perf_counter()
    waiting = []
    for arrival in arrivals:
        ahead = arrival.due - (time.perf_counter() - start)
        # Also when nothing is ahead: answers must be read between requests.
        await asyncio.sleep(max(0.0, ahead))
        waiting.append(
            asyncio.create_task(
                _ask(client, target, start, arrival.due, arrival.clip, arrival.sparsity)
            )
        )
    samples = await asyncio.gather(*waiting)
    client.close()
    return list(samples)


async def closed_loop(
    target: Target, callers: int, seconds: float, clips: int, seed: int
) -> list[Sample]:
    """``callers`` that each ask again as soon as they are answered, for some seconds."""
    client = _client(target)
    start = time.perf_counter()

    async def caller(number: int) -> list[Sample]:
        asks = draw(1000, clips, np.random.default_rng([seed, number]))
        samples: list[Sample] = []
        while (now := time.perf_counter() - start) < seconds:
            clip, sparsity = asks[len(samples) % len(asks)]
            samples.append(await _ask(client, target, start, now, clip, sparsity))
            if samples[-1].outcome in (Outcome.REFUSED, Outcome.FAILED):
                await asyncio.sleep(0.05)  # a refused caller that insists is no load, but a storm
        return samples

    groups = await asyncio.gather(*(caller(number) for number in range(callers)))
    client.close()
    return [sample for group in groups for sample in group]


async def _ask(
    client: Client, target: Target, start: float, due: float, clip: int, sparsity: float
) -> Sample:
    sent = time.perf_counter() - start
    used: float | None = None
    try:
        # The deadline, too, counts from when the request was due.
        answer = await client.ask(
            target.requests[clip, sparsity], max(0.001, target.deadline - (sent - due))
        )
    except TimeoutError:
        outcome = Outcome.LATE
    except AnswerError:
        outcome = Outcome.FAILED
    else:
        done = time.perf_counter() - start
        outcome, used = judge(answer, target, clip, sparsity)
        return Sample(due, sent, done, sparsity, outcome, float("nan") if used is None else used)
    return Sample(due, sent, time.perf_counter() - start, sparsity, outcome)


def judge(
    answer: Answer, target: Target, clip: int, sparsity: float
) -> tuple[Outcome, float | None]:
    """What an answer that came in time is worth."""
    if answer.status in (429, 503):
        return Outcome.REFUSED, None
    if answer.status in (408, 504):
        return Outcome.EXPIRED, None
    if answer.status != 200:
        return Outcome.FAILED, None
    try:
        label, used = target.read(answer.body)
    except (ValueError, KeyError, IndexError, TypeError):
        return Outcome.FAILED, None
    right = target.truth(clip, sparsity if used is None else used)
    return Outcome.RIGHT if label == right else Outcome.WRONG, used
