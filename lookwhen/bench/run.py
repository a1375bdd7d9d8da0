"""One measurement from its beginning to its end, within the seconds that it was given."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console

from lookwhen.bench import timetable
from lookwhen.bench.asking import Asker, BenchError
from lookwhen.bench.machine import describe_machine
from lookwhen.bench.measuring import Level, Trial, find_callers, probe, take_turns
from lookwhen.bench.result import describe_service, describe_trials, recorded, row
from lookwhen.bench.service import Service, describe, started, wait_until_ready
from lookwhen.client.errors import Unreachable
from lookwhen.client.exchange import key_header
from lookwhen.client.http import Client
from service import __version__
from service.http.model_schemas import AccuracyAnswer, Model
from startup.console import json_name
from training.progress import counted, uncounted

# Rendered clips that are sent in turns, by their seeds: the same for everybody.
_SEEDS = range(4)
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
# Kept for the last answers, and for the end of a service of our own.
_LAST_SECONDS, _ENDING_SECONDS = 0.5, 1.5
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be measured.

    Attributes:
        begun: when, on the clock of ``time.perf_counter``.
        url: of a service that runs; None starts one.
        bundle: that it is started with; None is that of the settings.
        clips: files to send; empty renders some.
        seconds: for everything, the start of the service included.
    """

    url: str | None
    key: str | None
    bundle: Path | None
    sparsities: tuple[float, ...]
    clips: tuple[Path, ...]
    seconds: float
    begun: float


@dataclass(frozen=True, slots=True)
class _Measured:
    """Levels, densest first, and the numbers of callers that were tried."""

    levels: list[Level]
    trials: list[Trial]


def carry_out(order: Order) -> dict[str, Any]:
    """Measure; returns the document.

    Raises:
        BenchError: it cannot be measured; the text says why.
    """
    until = order.begun + order.seconds - _LAST_SECONDS
    if order.url is None:
        until -= _ENDING_SECONDS
    machine = describe_machine()  # before it has this measurement to do, too
    with contextlib.ExitStack() as held:
        own = None if order.url is not None else held.enter_context(started(order.bundle))
        with _status("rendering clips" if not order.clips else "reading clips"):
            clips = _clips(order.clips)
        with _status("waiting for the service"):
            url = order.url if own is None else own.address(until)
            assert url is not None
            try:
                client = Client(url, key=order.key, retries=0, timeout_seconds=_TIMEOUT_SECONDS)
            except Unreachable as error:
                raise BenchError(str(error)) from None
            held.callback(client.close)
            wait_until_ready(client, url, until, own)
            model = describe(client)
            version = __version__ if own is not None else _version(url, order.key)
        ready = time.perf_counter()
        sparsities = tuple(sorted(set(order.sparsities)))
        asker = Asker(
            url, order.key, [content for _, content in clips], sparsities, until + _LAST_SECONDS
        )
        measured = _run(asker, sparsities, model, until, own)
    levels = measured.levels
    densest = levels[0]
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": machine | {"serves": _serves(order.url)},
        "service": describe_service(model, order.url, version),
        "clips": [{**json_name("name", name), "bytes": len(data)} for name, data in clips],
        "seconds": {
            "asked": order.seconds,
            "until_ready": ready - order.begun,
            "spent": time.perf_counter() - order.begun,
        },
        "callers_tried": describe_trials(measured.trials),
        "turns": len(densest.turns),
        "densest": densest.answer["sparsity"]["used"],
        "levels": [row(level, densest, _recorded(model, level)) for level in levels],
    }


def _recorded(model: Model, level: Level) -> AccuracyAnswer | None:
    return recorded(model.accuracy, level.answer["sparsity"]["used"], model.engine.precision)


def _run(
    asker: Asker, sparsities: Sequence[float], model: Model, until: float, own: Service | None
) -> _Measured:
    came: list[int] = []
    try:
        return asyncio.run(_told(_measure(asker, sparsities, model, until), came))
    except asyncio.CancelledError:
        if came:
            signal.raise_signal(came[0])  # for the handler that the command has
        raise
    except BenchError:
        if own is not None:
            own.require_running()  # says more than that it cannot be asked
        raise


async def _told(work: Coroutine[Any, Any, _Measured], came: list[int]) -> _Measured:
    """Await the work, or cancel it when a signal comes that ends a program.

    The handler of commands raises; in a callback of the event loop that would be lost.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)

    def told(number: int) -> None:
        came.append(number)
        task.cancel()

    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in usual:
        loop.add_signal_handler(number, told, number)
    try:
        return await task
    finally:
        for number, handler in usual.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _measure(
    asker: Asker, sparsities: Sequence[float], model: Model, until: float
) -> _Measured:
    try:
        levels = _distinct(await probe(asker, sparsities))
        # Before callers are looked for: who has given far too little time learns it at once.
        timetable.turns(until - time.perf_counter(), {one.sparsity: one.pace for one in levels})
        # As many as can be at work at the same time.
        first = model.decoding.workers + model.engine.concurrent_inferences
        trials = await find_callers(asker, levels, first, until - time.perf_counter())
        left = until - time.perf_counter()
        turns = timetable.turns(left, {one.sparsity: one.pace for one in levels})
        shown = counted if sys.stderr.isatty() else uncounted
        with shown("measuring", turns * len(levels)) as advance:
            await take_turns(asker, levels, turns, until, advance)
        return _Measured(levels, trials)
    finally:
        asker.close()


def _distinct(levels: Sequence[Level]) -> list[Level]:
    """Those that differ in what is used for them, densest first."""
    found: dict[float, Level] = {}
    for level in levels:
        used = float(level.answer["sparsity"]["used"])
        if used in found:
            print(
                f"lookwhen: the service uses {used:g} for {level.sparsity:g}, too: measured once",
                file=sys.stderr,
            )
        found.setdefault(used, level)
    return [found[used] for used in sorted(found)]


def _clips(files: Sequence[Path]) -> list[tuple[Path, bytes]]:
    if files:
        return [(file, file.read_bytes()) for file in files]
    from training.moving_things.sample import sample_clip

    made = [(seed, *sample_clip(seed)) for seed in _SEEDS]
    return [(Path(f"{label}, seed {seed}"), video) for seed, video, label in made]


def _status(words: str) -> AbstractContextManager[object]:
    """Words with a sign of life on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    return Console(stderr=True).status(words)


def _serves(url: str | None) -> bool:
    """Whether this machine is the service's; an address of another form may be, too."""
    return url is None or urlsplit(url).hostname in _LOOPBACK


def _version(url: str, key: str | None) -> str | None:
    """Of a service that runs; None where it does not say."""
    try:
        address = f"{url.rstrip('/')}/openapi.json"
        answer = httpx.get(address, headers=key_header(key), timeout=_TIMEOUT_SECONDS)
        return str(answer.json()["info"]["version"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
