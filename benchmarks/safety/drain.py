"""``python -m benchmarks.safety.drain``: SIGTERM under load, again and again; nothing gets lost.

A request is accepted when the service has seen it, which its log tells by the request's id. After
the signal, accepted requests must be answered; who comes later may be refused, with a problem or
without a connection. The service must exit with 0 within its grace.
"""

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.command_line import out_option
from benchmarks.record import describe_run, write_result
from benchmarks.safety.clips import EncodingFailed, write_clips
from benchmarks.safety.load import Reply, Shot, arrive
from benchmarks.served import Server
from bundle.built_in import default_bundle_path

# Long, because a busy machine must not look like a lost request.
GRACE_SECONDS = 300.0
# Requests go on arriving for so long after the signal.
_AFTER_SECONDS = 1.0
# For a moment at which something is in flight.
_PATIENCE_SECONDS = 10.0
_ALLOWED = ("ok", "overloaded", "not_ready", "refused")


@dataclass(frozen=True, slots=True)
class Drained:
    """What became of the requests around one SIGTERM."""

    answered: Counter[str]
    lost: list[str]
    in_flight: int
    exit_code: int
    seconds: float

    def faults(self) -> list[str]:
        found = [f"{request_id} was accepted and lost" for request_id in self.lost]
        if self.exit_code:
            found.append(f"the service ended with {self.exit_code}")
        return found


def drain(server: Server, shot: Shot, *, rate: float, before_seconds: float) -> Drained:
    """Send requests to a ready service, SIGTERM in the middle, and account for each of them."""
    replies: list[Reply] = []
    began, signalled = time.monotonic(), 0.0
    in_flight = 0

    def over() -> bool:
        nonlocal signalled, in_flight
        now = time.monotonic()
        if not signalled and now - began >= before_seconds:
            in_flight = int(server.metric("lookwhen_requests_in_flight"))
            # Between two requests there is nothing to lose: the next moment is better.
            if in_flight or now - began >= before_seconds + _PATIENCE_SECONDS:
                server.process.send_signal(signal.SIGTERM)
                signalled = time.monotonic()
        return bool(signalled) and now - signalled >= _AFTER_SECONDS

    asyncio.run(
        arrive(
            server.url,
            lambda number: shot,
            rate=rate,
            until=over,
            timeout_seconds=2 * GRACE_SECONDS,
            answered=replies.append,
        )
    )
    code = server.process.wait(2 * GRACE_SECONDS)
    ended = time.monotonic()
    seen = {line.get("request_id") for line in server.logs() if line["message"] == "request"}
    lost = [
        f"{reply.request_id} ({reply.fault or reply.code})"
        for reply in replies
        if is_lost(reply, seen)
    ]
    return Drained(
        Counter(reply.code for reply in replies), lost, in_flight, code, ended - signalled
    )


def is_lost(reply: Reply, seen: Collection[str | None]) -> bool:
    """Whether an accepted request went without its answer, given the ids that the service saw.

    A connection that broke before the service saw a request on it was never accepted: the kernel
    had taken it in, and the service had closed its door.
    """
    if reply.code == "broken":
        return reply.request_id in seen
    return reply.fault is not None or reply.code not in _ALLOWED


def clip_for(folder: Path) -> Shot:
    """A clip that takes a while: twelve views of it, nothing left out."""
    return Shot(
        write_clips(folder, only=("h264.mp4",))["h264.mp4"], {"views": "4x3", "sparsity": 0}
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--times", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(0.1), default=20.0, show_default=True, help="A second."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@out_option("drain")
def main(times: int, rate: float, seed: int, out: Path) -> None:
    """Stop a loaded service many times and count what gets lost."""
    moments = random.Random(seed)
    runs: list[Drained] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            shot = clip_for(folder / "clips")
        except EncodingFailed as error:
            raise click.ClickException(f"the clip cannot be made: {error}") from None
        for number in track(range(times), "draining", console=Console(stderr=True)):
            server = Server(
                default_bundle_path(),
                folder / f"log{number}",
                shutdown_grace_seconds=GRACE_SECONDS,
                request_timeout_seconds=GRACE_SECONDS,
            )
            try:
                server.wait_until_ready()
                before = moments.uniform(0.5, 2.0)
                runs.append(drain(server, shot, rate=rate, before_seconds=before))
            finally:
                server.stop(signal.SIGKILL)
    wrong = [f"stop {number}: {fault}" for number, run in enumerate(runs) for fault in run.faults()]
    answered: Counter[str] = sum((run.answered for run in runs), Counter())
    result: dict[str, Any] = {
        **describe_run(torch.device("cpu")),
        "times": times,
        "rate": rate,
        "seed": seed,
        "answered": dict(answered.most_common()),
        "in_flight_at_the_signal": [run.in_flight for run in runs],
        "seconds_from_signal_to_exit": [round(run.seconds, 2) for run in runs],
        "accepted_and_lost": sum(len(run.lost) for run in runs),
        "faults": wrong,
    }
    write_result(out, result)
    click.echo(f"{times} times: {dict(answered.most_common())}, {result['accepted_and_lost']} lost")
    click.echo(f"wrote {out}")
    if wrong:
        click.echo("\n".join(wrong), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.safety.drain")
