"""``lookwhen watch``: its options, what is wrong with them, and what it writes."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from startup.console import Command

if TYPE_CHECKING:
    from pathlib import Path

    from service.decoding.fetching import Fetcher, FetchPlan
    from service.settings import Settings

# A source of one's own is watched for as long as one likes.
_ENDLESS_SECONDS = 604_800.0


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE")
@click.option("--window", metavar="S", help="Seconds of a window.  [default: the bundle's]")
@click.option("--stride", metavar="S", help="Seconds from one window to the next: half of one.")
@click.option("--cuts", metavar="B", help="false lets windows slide over hard cuts, too.")
@click.option("--threshold", metavar="P", help="Score from which on a label is there.")
@click.option("--sparsity", metavar="S", help="Share of the tokens to drop, 0 to 0.99, or auto.")
@click.option("--detail", metavar="D", help="windows prints a line for each window, too.")
@click.option("--top", metavar="N", help="Labels of each window.  [default: 5]")
@click.option("--bundle", type=click.Path(), help="Bundle to look with.")
def watch(source: str, bundle: "str | Path | None", **options: str | None) -> None:
    """Print what begins and what ends in SOURCE as it happens, a JSON document a line.

    SOURCE is an address (rtsp://, http://, https://), a camera (/dev/video0) or a file, which is
    watched as fast as it is played. Ctrl-C or SIGTERM ends it in good order. What breaks is
    connected to again. Exit code: 0 watched to its end, 1 not, 2 wrong usage.
    """
    from pathlib import Path

    from lookwhen.checking import check_options
    from lookwhen.settings import settings_of
    from service.decoding.fetching import SourceError, plan_of
    from service.sparsity.timeline_parameters import LiveParameters

    query = {name: text for name, text in options.items() if text is not None}
    check_options(LiveParameters, query)
    settings = settings_of(bundle=Path(bundle) if bundle is not None else None)
    try:
        plan = plan_of(source, settings.decode_sandbox)
    except SourceError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(_run(plan, query, settings))


def _run(plan: "FetchPlan", query: dict[str, str], settings: "Settings") -> int:
    from service.decoding.fetching import SourceError
    from service.errors import ServiceError
    from service.pipeline.pipeline import StartError

    try:
        asyncio.run(_watch(plan, query, settings))
    except (StartError, SourceError) as error:
        print(f"lookwhen: {error}", file=sys.stderr)
        return 1
    except ServiceError as error:
        print(f"lookwhen: {plan.shown}: {error.detail} ({error.code})", file=sys.stderr)
        return 1
    return 0


async def _watch(plan: "FetchPlan", query: dict[str, str], settings: "Settings") -> None:
    from lookwhen.ask import local_pipeline
    from service.http.live_lines import StreamLines
    from service.http.timeline import line_of
    from service.pipeline.findings import LiveEvent
    from service.pipeline.live import LiveCall
    from service.sparsity.timeline_parameters import LiveParameters

    # The worker that decodes a stream is its own: those of clips have nothing to do.
    alone = {"max_streams": 1, "decode_workers": 1, "decode_spare_workers": 0}
    settings = settings.model_copy(update={"stream_max_seconds": _ENDLESS_SECONDS, **alone})
    source = _Fetched(plan)
    with _told_to_stop(source.stop):
        async with local_pipeline(settings) as pipeline:
            lines = StreamLines(pipeline.manifest, "")

            async def say(asked: LiveParameters, event: LiveEvent) -> None:
                if (part := lines.line(asked, event)) is not None:
                    sys.stdout.write(line_of(part).decode())
                    sys.stdout.flush()

            await pipeline.watch(LiveCall(source, list(query.items()), say))


class _Fetched:
    """A stream that a process of its own fetches: :class:`service.pipeline.live.StreamSource`."""

    def __init__(self, plan: "FetchPlan") -> None:
        self._plan, self._stopped = plan, asyncio.Event()
        self._fetcher: Fetcher | None = None
        self._turn = 0
        self.shown, self.ends = plan.shown, plan.ends
        self.returns = not plan.ends

    def connect(self) -> "Fetcher":
        from service.decoding.fetching import Fetcher

        # A name may have an address at which nobody listens: the next attempt takes the next one.
        if self._fetcher is not None and not self._fetcher.came:
            self._turn += 1
        self._fetcher = Fetcher(self._plan, turn=self._turn)
        return self._fetcher

    def stop(self) -> None:
        self._stopped.set()

    async def gone(self) -> None:
        await asyncio.Event().wait()

    async def stopped(self) -> None:
        await self._stopped.wait()


@contextlib.contextmanager
def _told_to_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Let the signals that end a program end the stream in good order; a second one ends it at
    once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def told() -> None:
        stop()
        restore()

    def restore() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, told)
    try:
        yield
    finally:
        restore()
