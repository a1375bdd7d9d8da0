"""``lookwhen classify``: files through the pipeline in this process, or to a service over HTTP."""

import asyncio
import contextlib
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bundle.reader import BundleError, default_bundle_path, read_bundle
from service.body import ClipSink, Received
from service.decoding.blocks import Block
from service.errors import BodyTooLarge, ServiceError
from service.metrics import Metrics
from service.pipeline import Pipeline, StartError
from service.settings import Settings
from service.trace import Trace

Answer = dict[str, Any]
_Ask = Callable[[Path], Awaitable[Answer]]

_CHUNK_BYTES = 1024 * 1024
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)


class FileError(Exception):
    """A file that was not classified; the text says why."""


def classify_files(
    files: list[Path],
    query: Mapping[str, str],
    url: str | None,
    settings: Settings | None,
    as_json: bool,
) -> int:
    """Classify the files and print the answers; returns the exit code."""
    try:
        return asyncio.run(_classify_all(files, query, url, settings, as_json))
    except StartError as error:
        print(f"lookwhen: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _classify_all(
    files: list[Path],
    query: Mapping[str, str],
    url: str | None,
    settings: Settings | None,
    as_json: bool,
) -> int:
    failed = False
    connect = _remote(url, query) if url else _local(settings or Settings(), query)
    async with connect as ask:
        with _progress(len(files)) as advance:
            for file in files:
                try:
                    _show(file, await ask(file), as_json, several=len(files) > 1)
                except FileError as error:
                    failed = True
                    print(f"lookwhen: {file}: {error}", file=sys.stderr)
                advance()
    return 1 if failed else 0


class _FileSource:
    """A file as the source of a clip."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes

    async def read_clip(self, block: Block) -> Received:
        sink = ClipSink(block)
        with self._path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                if block.size + len(chunk) > self._max_bytes:
                    raise BodyTooLarge(self._max_bytes)
                sink.write(chunk)
        return Received(sink.finish())

    async def gone(self) -> None:
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _local(settings: Settings, query: Mapping[str, str]) -> AsyncIterator[_Ask]:
    try:
        bundle = read_bundle(settings.bundle or default_bundle_path())
        pipeline = Pipeline(bundle, settings, Metrics(settings.latency_buckets_seconds))
        await pipeline.start()
    except BundleError as error:
        raise StartError(f"the bundle cannot be used: {error}") from None

    async def ask(path: Path) -> Answer:
        source = _FileSource(path, settings.max_body_bytes)
        try:
            answer = await pipeline.classify(source, query.items(), uuid.uuid4().hex, Trace())
        except ServiceError as error:
            raise FileError(f"{error.detail} ({error.code})") from None
        except OSError as error:
            raise FileError(error.strerror or str(error)) from None
        return answer.model_dump()

    try:
        yield ask
    finally:
        await pipeline.stop()


@contextlib.asynccontextmanager
async def _remote(url: str, query: Mapping[str, str]) -> AsyncIterator[_Ask]:
    address = url.rstrip("/") + "/classify"
    async with httpx.AsyncClient(timeout=_TIMEOUT) as client:

        async def ask(path: Path) -> Answer:
            try:
                with path.open("rb") as file:
                    response = await client.post(
                        address, params=dict(query), files={"file": (path.name, file)}
                    )
            except OSError as error:
                raise FileError(error.strerror or str(error)) from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
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


def _show(file: Path, answer: Answer, as_json: bool, several: bool) -> None:
    if as_json:
        print(json.dumps({"file": str(file), **answer}), flush=True)
        return
    console = Console(highlight=False, soft_wrap=True)
    if several:
        console.print(f"[bold]{escape(str(file))}[/bold]")
    for entry in answer["labels"]:
        console.print(f"{entry['score']:7.1%}  {escape(entry['label'])}")
    tokens, timing = answer["tokens"], answer["timing"]
    console.print(
        f"[dim]sparsity {answer['sparsity']['used']:g}, {tokens['kept']} of {tokens['total']} "
        f"tokens, {1000 * timing['total']:.0f} ms (decode {1000 * timing['decode']:.0f}, "
        f"select {1000 * timing['select']:.0f}, extract {1000 * timing['extract']:.0f})[/dim]"
    )


@contextlib.contextmanager
def _progress(files: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error, for several files and a person only."""
    if files < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    columns = (
        TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("classifying", total=files)
        yield lambda: progress.advance(task)
