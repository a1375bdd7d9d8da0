"""What ``lookwhen classify`` does: the pipeline in this process, or a service over HTTP."""

import asyncio
import contextlib
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bundle.built_in import find_bundle
from bundle.reader import BundleError, read_bundle
from lookwhen.client.exchange import key_header
from service.decoding.descriptors import Room
from service.errors import BodyTooLarge, ServiceError
from service.http import responses, schemas
from service.http.body import ClipSink
from service.observability.metrics import Metrics
from service.pipeline.pipeline import Pipeline, StartError
from service.pipeline.way import Call, Received
from service.settings import Settings
from startup.console import json_name
from training.progress import counted, uncounted

Answer = dict[str, Any]
Asked = Literal["classify", "sweep", "embed"]
_Ask = Callable[[Path], Awaitable[Answer]]
_Said = TypeVar("_Said")

_CHUNK_BYTES = 1024 * 1024
# From nothing to the most that a step has.
_BARS = " ▁▂▃▄▅▆▇█"
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)


class FileError(Exception):
    """A file that was not classified; the text says why."""


def classify_files(
    files: list[Path],
    asked: Asked,
    query: Mapping[str, str],
    url: str | None,
    key: str | None,
    settings: Settings | None,
    as_json: bool,
) -> int:
    """Classify the files and print the answers; returns the exit code."""
    try:
        return asyncio.run(_classify_all(files, asked, query, url, key, settings, as_json))
    except StartError as error:
        print(f"lookwhen: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _classify_all(
    files: list[Path],
    asked: Asked,
    query: Mapping[str, str],
    url: str | None,
    key: str | None,
    settings: Settings | None,
    as_json: bool,
) -> int:
    failed = False
    show = _show_sweep if asked == "sweep" else _show
    async with connect(asked, query, url, key, settings) as ask:
        # A bar on standard error, for several files and a person only.
        shown = len(files) > 1 and sys.stderr.isatty()
        with (counted if shown else uncounted)("classifying", len(files)) as advance:
            for file in files:
                try:
                    answer = await ask(file)
                    if as_json:
                        print(json.dumps({**json_name("file", file), **answer}), flush=True)
                    else:
                        show(_titled(file, several=len(files) > 1), answer)
                except FileError as error:
                    failed = True
                    print(f"lookwhen: {file}: {error}", file=sys.stderr)
                advance()
    return 1 if failed else 0


def connect(
    asked: Asked,
    query: Mapping[str, str],
    url: str | None,
    key: str | None,
    settings: Settings | None,
) -> contextlib.AbstractAsyncContextManager[_Ask]:
    """What answers about one file after another: the service at ``url``, or this process.

    Asking raises FileError where there is no answer; entering raises StartError.
    """
    return _remote(url, key, asked, query) if url else _local(settings or Settings(), asked, query)


class ClipFile:
    """An opened file as the source of a clip."""

    def __init__(self, file: BinaryIO, settings: Settings) -> None:
        self._file, self._max_bytes = file, settings.max_body_bytes
        self._containers = settings.containers

    async def read_clip(self, block: Room) -> Received:
        sink = ClipSink(block, self._containers)
        while chunk := await asyncio.to_thread(self._file.read, _CHUNK_BYTES):
            if block.size + len(chunk) > self._max_bytes:
                raise BodyTooLarge(self._max_bytes)
            sink.write(chunk)
            await block.settle()
        return Received(sink.finish())

    async def gone(self) -> None:
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def local_pipeline(settings: Settings, *, measured: bool = False) -> AsyncIterator[Pipeline]:
    """The pipeline in this process, warm.

    Args:
        measured: whether times are predicted, which takes longer to prepare than a file takes.

    Raises:
        StartError: it cannot be made ready.
    """
    if not measured:
        unmeasured = {"warm_up_seconds": 0.0, "calibration_seconds": 0.0}
        settings = settings.model_copy(update=unmeasured)
    try:
        bundle = read_bundle(find_bundle(settings.bundle))
        pipeline = Pipeline(bundle, settings, Metrics(settings.latency_buckets_seconds))
        await pipeline.start()
    except BundleError as error:
        raise StartError(f"the bundle cannot be used: {error}") from None
    try:
        yield pipeline
    finally:
        await pipeline.stop()


async def asked_of_file(
    path: Path,
    query: Mapping[str, str],
    settings: Settings,
    ask: Callable[[Call], Awaitable[_Said]],
) -> _Said:
    """Ask about a file.

    Raises:
        FileError: it cannot be read, or there is no answer.
    """
    try:
        with path.open("rb") as file:
            source = ClipFile(file, settings)
            return await ask(Call(source, list(query.items()), uuid.uuid4().hex))
    except ServiceError as error:
        raise FileError(f"{error.detail} ({error.code})") from None
    except OSError as error:
        raise FileError(error.strerror or str(error)) from None


@contextlib.asynccontextmanager
async def _local(settings: Settings, asked: Asked, query: Mapping[str, str]) -> AsyncIterator[_Ask]:
    async with local_pipeline(settings, measured="budget_ms" in query) as pipeline:
        manifest = pipeline.manifest

        async def ask_pipeline(call: Call) -> schemas.Classification | schemas.Sweep:
            if asked == "sweep":
                return await pipeline.sweep(call, partial(responses.sweep, manifest))
            if asked == "embed":
                return await pipeline.embed(call, partial(responses.classification, manifest))
            return await pipeline.classify(call, partial(responses.classification, manifest))

        async def ask(path: Path) -> Answer:
            answer = await asked_of_file(path, query, settings, ask_pipeline)
            return answer.model_dump()

        yield ask


@contextlib.asynccontextmanager
async def _remote(
    url: str, key: str | None, asked: Asked, query: Mapping[str, str]
) -> AsyncIterator[_Ask]:
    address = f"{url.rstrip('/')}/{asked}"
    async with httpx.AsyncClient(timeout=_TIMEOUT, headers=key_header(key)) as client:

        async def ask(path: Path) -> Answer:
            try:
                with path.open("rb") as file:
                    # A form's names are text; nobody asks what this one is.
                    name = json_name("name", Path(path.name))["name"]
                    response = await client.post(
                        address, params=dict(query), files={"file": (name, file)}
                    )
            except OSError as error:
                raise FileError(error.strerror or str(error)) from None
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                raise FileError(f"{address} cannot be asked: {error}") from None
            return _read(response)

        yield ask


def _read(response: httpx.Response) -> Answer:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise FileError(f"the answer, with status {response.status_code}, is not ours")
    if response.status_code != httpx.codes.OK:
        detail, code = answer.get("detail", "no detail"), answer.get("code", response.status_code)
        raise FileError(f"{detail} ({code})")
    return answer


def _titled(file: Path, several: bool) -> Console:
    console = Console(highlight=False, soft_wrap=True)
    if several:
        console.print(f"[bold]{escape(str(file))}[/bold]")
    return console


def _show(console: Console, answer: Answer) -> None:
    for entry in answer["labels"]:
        there = "  (above its threshold)" if entry["above_threshold"] else ""
        console.print(f"{entry['score']:7.1%}  {escape(entry['label'])}{there}")
    if answer["unknown"]:
        console.print("nothing seems to happen that there is a label for: it is unknown")
    tokens, timing = answer["tokens"], answer["timing"]
    console.print(
        f"[dim]sparsity {answer['sparsity']['used']:g}, {tokens['kept']} of {tokens['total']} "
        f"tokens, {1000 * timing['total']:.0f} ms (decode {1000 * timing['decode']:.0f}, "
        f"select {1000 * timing['select']:.0f}, extract {1000 * timing['extract']:.0f})[/dim]"
    )
    for line in (*_choices(answer), *_spread(answer)):
        console.print(f"[dim]{escape(line)}[/dim]")


def _choices(answer: Answer) -> Iterator[str]:
    """How the sparsity was chosen, where it was not simply what was asked for."""
    if note := answer["sparsity"]["note"]:
        yield note
    if answer["sparsity"]["degraded"]:
        yield f"sparser than asked for: {answer['sparsity']['reason']}"
    if loss := answer.get("loss"):
        yield (
            f"sparsity {loss['sparsity']:g} lost {loss['points']:.1f} points ({loss['low']:.1f} to "
            f"{loss['high']:.1f}) on {loss['clips']} held-out clips, at most {loss['asked']:g} "
            "asked for"
        )
    if coverage := answer["coverage"]:
        yield f"coverage {coverage['reached']:.3f} of {coverage['asked']:g} asked for"
    if budget := answer["budget"]:
        outcome = "met" if budget["met"] else "missed"
        yield (
            f"budget {budget['asked_ms']:g} ms {outcome}: {budget['spent_ms']:.0f} ms spent, "
            f"{budget['predicted_ms']:.0f} ms predicted"
        )
    if cascade := answer["cascade"]:
        steps = ", ".join(
            f"{step['sparsity']:g}: {step['label']} +{step['margin']:.2f}"
            for step in cascade["steps"]
        )
        yield f"cascade, stopped by {cascade['stopped']}: {steps}"


def _spread(answer: Answer) -> Iterator[str]:
    """Of each extraction how its tokens spread over time, as bars; of several views the mean."""
    if explanation := answer["explanation"]:
        for extraction in explanation["extractions"]:
            views = extraction["shares"]
            shares = [sum(step) / len(views) for step in zip(*views, strict=True)]
            bars = "".join(_BARS[round(share / max(shares) * (len(_BARS) - 1))] for share in shares)
            yield f"kept over time at sparsity {extraction['sparsity']:g}: {bars}"


def _show_sweep(console: Console, answer: Answer) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("sparsity", "tokens", "ms", "GMACs"):
        table.add_column(title, justify="right")
    for title in ("label", "score", "overlap"):
        table.add_column(title)
    for point in answer["points"]:
        best, agreement = point["labels"][0], point["agreement"]
        table.add_row(
            f"{point['used']:g}",
            str(point["tokens"]),
            f"{1000 * point['extract_seconds']:.1f}",
            f"{point['macs'] / 1e9:.2f}",
            escape(best["label"]) + (" (unknown)" if point["unknown"] else ""),
            f"{best['score']:.1%}",
            f"{agreement['overlap']:.3f}",
        )
    console.print(table)
    for note in [point["note"] for point in answer["points"] if point["note"]]:
        console.print(f"[dim]{escape(note)}[/dim]")
    for line in _spread(answer):
        console.print(f"[dim]{line}[/dim]")
    timing = answer["timing"]
    console.print(
        f"[dim]one selection: {1000 * timing['total']:.0f} ms (decode "
        f"{1000 * timing['decode']:.0f}, select {1000 * timing['select']:.0f})[/dim]"
    )
