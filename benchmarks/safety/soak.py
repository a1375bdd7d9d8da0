"""``python -m benchmarks.safety.soak``: hours of traffic, a fifth of it hostile, and nothing grows.

Requests arrive at a constant rate. Good clips must be answered with labels, or refused for load;
hostile ones with what the interface promises. Memory, descriptors, processes and threads must stay
flat by the trend of all samples (see :mod:`benchmarks.safety.flatness`).
"""

import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.command_line import out_option
from benchmarks.record import describe_run, write_result
from benchmarks.safety.clips import EncodingFailed, write_clips
from benchmarks.safety.flatness import LIMITS, growth
from benchmarks.safety.hostile import Hostile, make_hostile
from benchmarks.safety.load import Reply, Shot, arrive
from benchmarks.safety.mutations import mutant
from benchmarks.safety.watch import Sample, Watch
from benchmarks.served import Server
from bundle.built_in import default_bundle_path

# One request in this many is hostile: a mutant, or a clip made to do harm, in turns.
# Not a multiple of the hostile ones' number, of which none would be left.
_DRAWN_EVERY = 7
_EMBEDDED_EVERY = 11
_LONG_EVERY = 13
_HOSTILE_EVERY = 5
_TIMEOUT_SECONDS = 120.0
# Refusals for load are right; a service that refuses more than this share was asked too much, and
# the run says little.
_MOST_REFUSED = 0.5
_REFUSALS = ("overloaded", "not_ready")


@dataclass
class Soaked:
    """What a run saw."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def take(self, reply: Reply) -> None:
        kind = "hostile" if reply.shot.is_hostile else "good"
        self.answered[f"{kind}: {reply.code}"] += 1
        self.slowest_seconds = max(self.slowest_seconds, reply.seconds)
        wrong = reply.fault
        if wrong is None and kind == "good" and reply.code not in ("ok", *_REFUSALS):
            wrong = f"a good clip was answered with {reply.code}"
        if wrong is not None:
            self.failures.append({"request_id": reply.request_id, "fault": wrong})

    def faults(self, limits: Mapping[str, float] = LIMITS) -> list[str]:
        """What makes the run fail, in words; empty if nothing does."""
        found = [f"{failure['request_id']}: {failure['fault']}" for failure in self.failures[:10]]
        refused = sum(
            count
            for name, count in self.answered.items()
            if name.endswith(_REFUSALS) and name.startswith("good")
        )
        good = sum(count for name, count in self.answered.items() if name.startswith("good"))
        if refused > _MOST_REFUSED * good:
            found.append(f"{refused} of {good} good clips were refused for load; lower the rate")
        try:
            return found + [str(each) for each in growth(self.samples, limits) if not each.is_flat]
        except ValueError as error:
            return [*found, str(error)]


class Traffic:
    """The request of each number, the same for the same seed."""

    def __init__(self, clips: Mapping[str, bytes], hostile: Sequence[Hostile], seed: int) -> None:
        self._clips, self._hostile, self._seed = clips, hostile, seed
        self._names = sorted(clips)

    def shot(self, number: int) -> Shot:
        sparsity = (0.9, 0.95, 0.7, 0.5)[number % 4]
        if number % _HOSTILE_EVERY:
            name = self._names[number % len(self._names)]
            if number % _DRAWN_EVERY == 0:
                drawn = ("mp4", "png", "jpeg")[number // _DRAWN_EVERY % 3]
                asked = {"sparsity": str(sparsity), "format": drawn}
                return Shot(self._clips[name], asked, path="/explain")
            if number % _EMBEDDED_EVERY == 0:
                return Shot(self._clips[name], {"sparsity": sparsity}, path="/embed")
            if number % _LONG_EVERY == 0:
                asked = {"sparsity": str(sparsity), "window": "0.5"}
                return Shot(self._clips[name], asked, path="/timeline")
            return Shot(self._clips[name], {"sparsity": sparsity})
        turn = number // _HOSTILE_EVERY
        if turn % 2:
            data = self._hostile[turn // 2 % len(self._hostile)].data
        else:
            _, data = mutant(self._clips, self._seed, number)
        return Shot(data, {"sparsity": sparsity}, is_hostile=True)


def soak(
    server: Server,
    traffic: Traffic,
    *,
    rate: float,
    seconds: float,
    progress: Callable[[float], None] = lambda elapsed: None,
) -> Soaked:
    """Send traffic to a running service for so long, and watch it."""
    soaked, began = Soaked(), time.monotonic()

    def over() -> bool:
        elapsed = time.monotonic() - began
        progress(elapsed)
        return elapsed >= seconds

    with Watch(server.process.pid, soaked.answered.total, every_seconds=0.5) as watch:
        asyncio.run(
            arrive(
                server.url,
                traffic.shot,
                rate=rate,
                until=over,
                timeout_seconds=_TIMEOUT_SECONDS,
                answered=soaked.take,
            )
        )
    soaked.samples = watch.samples
    return soaked


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", type=click.FloatRange(0.1), default=20.0, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(0.1), default=10.0, show_default=True, help="A second."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@out_option("soak")
def main(minutes: float, rate: float, seed: int, workers: int, out: Path) -> None:
    """Send traffic for a long time and see whether anything grows."""
    columns = (TextColumn("soaking"), BarColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory() as folder:
        try:
            clips = write_clips(Path(folder) / "clips", seed)
            hostile = make_hostile(Path(folder) / "hostile")
        except EncodingFailed as error:
            raise click.ClickException(f"the clips cannot be made: {error}") from None
        server = Server(
            default_bundle_path(),
            Path(folder) / "log",
            decode_workers=workers,
        )
        try:
            server.wait_until_ready()
            with Progress(*columns, console=Console(stderr=True)) as bar:
                task = bar.add_task("soaking", total=minutes * 60)
                soaked = soak(
                    server,
                    Traffic(clips, hostile, seed),
                    rate=rate,
                    seconds=minutes * 60,
                    progress=lambda elapsed: bar.update(task, completed=elapsed),
                )
        finally:
            code = server.stop(signal.SIGTERM)
    wrong = soaked.faults()
    if code:
        wrong.append(f"the service ended with {code}")
    _write(out, soaked, wrong, {"minutes": minutes, "rate": rate, "seed": seed, "workers": workers})
    click.echo(f"{soaked.answered.total()} requests: {dict(soaked.answered.most_common())}")
    click.echo(f"wrote {out}")
    if wrong:
        click.echo("\n".join(wrong), err=True)
        sys.exit(1)


def _write(out: Path, soaked: Soaked, wrong: list[str], options: dict[str, Any]) -> None:
    try:
        grown = {each.what: each.record() for each in growth(soaked.samples)}
    except ValueError:
        grown = {}
    every = max(1, len(soaked.samples) // 200)
    write_result(
        out,
        {
            **describe_run(torch.device("cpu")),
            **options,
            "requests": soaked.answered.total(),
            "answered": dict(soaked.answered.most_common()),
            "slowest_seconds": round(soaked.slowest_seconds, 3),
            "growth": grown,
            "failures": soaked.failures,
            "faults": wrong,
            "samples": [asdict(sample) for sample in soaked.samples[::every]],
        },
    )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.safety.soak")
