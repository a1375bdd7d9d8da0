"""``python -m benchmarks.safety.fuzz``: damaged clips through a whole service over HTTP.

Real clips of many containers and codecs are damaged (see :mod:`benchmarks.safety.mutations`) and
posted to a service that this command starts, to be classified or to be made a picture or a film.
Whatever they are, the service must answer each as asked or with a problem of its list, before its
own deadlines, and must be what it was afterwards. A mutant that is answered otherwise is saved
under its seed and number.
"""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.command_line import out_option
from benchmarks.record import ROOT, describe_run, write_result
from benchmarks.safety.answers import Verdict, judge, judge_stream
from benchmarks.safety.clips import EncodingFailed, write_clips
from benchmarks.safety.flatness import LIMITS, Growth, growth
from benchmarks.safety.mutations import mutant
from benchmarks.safety.watch import Sample, Watch
from benchmarks.served import Server
from bundle.built_in import default_bundle_path

_DEADLINE_SECONDS = 30.0
# What passes between a deadline of the service and its answer on a busy machine.
_SLACK_SECONDS = 5.0
_SPARSITY = 0.95
# The rest is for the soak to judge: within a minute the memory of the workers says above all how
# many of them are just being replaced, and threads how far their pools have filled.
_LIMITS = {what: LIMITS[what] for what in ("rss_bytes", "descriptors")}
_PATIENCE = 20
# Of five mutants one is made a film, one a picture, and one is gone through as a long video.
_DRAWN = {3: "mp4", 4: "png"}
_LONG = 2
# And some are sent as streams.
_STREAM_EVERY, _STREAMED, _PIECE_BYTES = 50, 46, 16_384
_TYPES = ("video/mp4", "video/webm", "application/octet-stream")


@dataclass
class Findings:
    """What a run found."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    crashed: list[int] = field(default_factory=list)
    slowest_seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    workers_at_end: int = 0
    not_believed: int = 0  # workers that were ended for what they said
    control: str = ""

    @property
    def requests(self) -> int:
        return self.answered.total()

    def growth(self) -> list[Growth]:
        """The serving process's growth; ValueError if there are too few samples to tell."""
        return growth(self.samples, _LIMITS)


class Fuzzer:
    """Posts mutants to one service, several at a time."""

    def __init__(
        self, url: str, clips: Mapping[str, bytes], seed: int, saved: Path, deadline_seconds: float
    ) -> None:
        self.findings = Findings()
        self._url, self._clips, self._seed, self._saved = url, clips, seed, saved
        self._deadline_seconds = deadline_seconds + _SLACK_SECONDS
        self._waiting: Iterator[int] = iter(())

    async def run(
        self, numbers: range, at_once: int, done: Callable[[], object] = lambda: None
    ) -> None:
        """Post these mutants; ``done`` is called after each."""
        self._waiting = iter(numbers)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.stop)
        limits = httpx.Limits(max_connections=at_once)
        timeout = httpx.Timeout(2 * self._deadline_seconds)
        async with httpx.AsyncClient(base_url=self._url, timeout=timeout, limits=limits) as client:

            async def work() -> None:
                # Asked for anew each time, because `stop` puts an empty one in its place.
                while (number := next(self._waiting, None)) is not None:
                    await self._try(client, number)
                    done()

            await asyncio.gather(*(work() for _ in range(at_once)))

    def stop(self) -> None:
        """Post no more than those that are on their way; what was found until then counts."""
        self._waiting = iter(())

    async def _try(self, client: httpx.AsyncClient, number: int) -> None:
        what, data = mutant(self._clips, self._seed, number)
        began = time.monotonic()
        verdict = await self._post(client, number, data)
        seconds = time.monotonic() - began
        findings = self.findings
        findings.answered[verdict.code] += 1
        findings.slowest_seconds = max(findings.slowest_seconds, seconds)
        if verdict.fault is None and seconds > self._deadline_seconds:
            verdict = Verdict(verdict.code, f"answered after {seconds:.1f} seconds")
        if verdict.code == "decoder_crashed":
            findings.crashed.append(number)
        if verdict.fault is not None or verdict.code == "decoder_crashed":
            self._saved.mkdir(parents=True, exist_ok=True)
            (self._saved / f"{self._seed}-{number}.bin").write_bytes(data)
        if verdict.fault is not None:
            findings.failures.append(
                {"seed": self._seed, "number": number, "mutant": what, "fault": verdict.fault}
            )

    async def _post(self, client: httpx.AsyncClient, number: int, data: bytes) -> Verdict:
        query: dict[str, str | float] = {"sparsity": _SPARSITY}
        if number % _STREAM_EVERY == _STREAMED:
            return await self._stream(data)
        path = "/classify"
        if drawn := _DRAWN.get(number % 5):  # no divisor of 4: each in each form of a body
            path, query["format"] = "/explain", drawn
        elif number % 5 == _LONG:
            path, query["windows"] = "/timeline", ("all", "auto")[number % 2]
            query["cuts"] = ("true", "true", "false")[number % 3]
        for _ in range(_PATIENCE):
            try:
                if number % 4 == 0:
                    response = await client.post(path, params=query, files={"file": data})
                else:
                    headers = {"content-type": _TYPES[number % len(_TYPES)]}
                    response = await client.post(path, params=query, content=data, headers=headers)
            except httpx.HTTPError as error:
                return Verdict("no_answer", f"no answer: {type(error).__name__}")
            verdict = judge(response)
            # A refusal says nothing of the mutant: it must be taken in.
            if verdict.code not in ("overloaded", "not_ready"):
                return verdict
            await asyncio.sleep(float(response.headers.get("retry-after", 1)))
        return Verdict(verdict.code, f"refused {_PATIENCE} times")

    async def _stream(self, data: bytes) -> Verdict:
        """Send a mutant as a stream, in pieces."""
        url = self._url.replace("http", "ws", 1) + f"/stream?sparsity={_SPARSITY}&window=0.5"
        for _ in range(_PATIENCE):
            lines: list[str | bytes] = []
            try:
                async with connect(url) as socket:
                    with contextlib.suppress(ConnectionClosed):
                        for place in range(0, len(data), _PIECE_BYTES):
                            await socket.send(data[place : place + _PIECE_BYTES])
                        await socket.send("end")
                    # Whether it is closed by 1000 or behind a problem, its lines have come.
                    with contextlib.suppress(ConnectionClosed):
                        while True:
                            lines.append(await socket.recv())
            except (OSError, TimeoutError, WebSocketException) as error:
                return Verdict("no_answer", f"no answer: {type(error).__name__}")
            verdict = judge_stream(lines)
            if verdict.code not in ("overloaded", "not_ready"):
                return verdict
            await asyncio.sleep(1)
        return Verdict(verdict.code, f"refused {_PATIENCE} times")


def fuzz(
    server: Server,
    clips: Mapping[str, bytes],
    numbers: range,
    *,
    seed: int,
    saved: Path,
    deadline_seconds: float,
    at_once: int = 4,
    done: Callable[[], object] = lambda: None,
) -> Findings:
    """Post mutants to a running service and watch it."""
    fuzzer = Fuzzer(server.url, clips, seed, saved, deadline_seconds)
    findings = fuzzer.findings
    with Watch(server.process.pid, lambda: findings.requests) as watch:
        asyncio.run(fuzzer.run(numbers, at_once, done))
    findings.samples = watch.samples
    findings.control = judge(server.client.post("/classify", **_control(clips))).code
    findings.workers_at_end = len(server.worker_pids())
    findings.not_believed = round(
        server.metric("lookwhen_decode_worker_restarts_total", reason="protocol")
    )
    return findings


def _control(clips: Mapping[str, bytes]) -> dict[str, Any]:
    return {"content": clips["h264.mp4"], "headers": {"content-type": "video/mp4"}}


def faults(findings: Findings, workers: int) -> list[str]:
    """What makes a run fail, in words; empty if nothing does."""
    found = [f"{len(findings.failures)} mutants were not answered as they must be"]
    if not findings.failures:
        found.clear()
    if findings.control != "ok":
        found.append(f"a good clip was answered with {findings.control} at the end")
    if findings.workers_at_end < workers:
        found.append(f"{findings.workers_at_end} of {workers} workers were left")
    if findings.not_believed:
        # No clip takes a worker over: a reply that is out of its bounds is a mistake of ours.
        found.append(f"{findings.not_believed} workers were ended for what they replied")
    try:
        return found + [str(each) for each in findings.growth() if not each.is_flat]
    except ValueError as error:
        return [*found, str(error)]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mutants", type=click.IntRange(1), default=3000, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="To go on.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--saved", type=click.Path(path_type=Path), default=ROOT / "runs" / "fuzz")
@out_option("fuzz")
def main(mutants: int, first: int, seed: int, workers: int, saved: Path, out: Path) -> None:
    """Post damaged clips to a service and see whether it bears them; Ctrl-C ends it early."""
    columns = (
        TextColumn("fuzzing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        try:
            clips = write_clips(Path(folder) / "clips", seed)
        except EncodingFailed as error:
            raise click.ClickException(f"the clips cannot be made: {error}") from None
        server = Server(
            default_bundle_path(),
            Path(folder) / "log",
            decode_workers=workers,
            request_timeout_seconds=_DEADLINE_SECONDS,
        )
        began = time.monotonic()
        try:
            server.wait_until_ready()
            with Progress(*columns, console=Console(stderr=True)) as bar:
                task = bar.add_task("fuzzing", total=mutants)
                findings = fuzz(
                    server,
                    clips,
                    range(first, first + mutants),
                    seed=seed,
                    saved=saved,
                    deadline_seconds=_DEADLINE_SECONDS,
                    at_once=2 * workers,
                    done=lambda: bar.advance(task),
                )
            seconds = time.monotonic() - began
            restarts = {
                reason: server.metric("lookwhen_decode_worker_restarts_total", reason=reason)
                for reason in ("crashed", "timeout", "abandoned", "protocol", "recycled")
            }
        finally:
            server.stop(signal.SIGTERM)
    wrong = faults(findings, workers)
    result = {
        **describe_run(torch.device("cpu")),
        "seed": seed,
        "first": first,
        "mutants": findings.requests,
        "clips": {name: len(data) for name, data in clips.items()},
        "seconds": round(seconds, 1),
        "answered": dict(findings.answered.most_common()),
        "slowest_seconds": round(findings.slowest_seconds, 3),
        "worker_restarts": restarts,
        "crashed": findings.crashed,
        "growth": _growth(findings),
        "failures": findings.failures,
        "faults": wrong,
    }
    write_result(out, result)
    click.echo(
        f"{findings.requests} mutants in {seconds:.0f} s: {dict(findings.answered.most_common())}"
    )
    click.echo(f"wrote {out}")
    if wrong:
        click.echo("\n".join(wrong), err=True)
        sys.exit(1)


def _growth(findings: Findings) -> dict[str, Any]:
    try:
        return {each.what: each.record() for each in findings.growth()}
    except ValueError:
        return {}


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.safety.fuzz")
