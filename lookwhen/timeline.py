"""``lookwhen timeline``: its options, what is wrong with them, and what it writes."""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from startup.console import Command

if TYPE_CHECKING:
    from service.http.schemas import ResponsePart
    from service.settings import Settings


@click.command(cls=Command)
@click.argument("video", metavar="VIDEO")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT",
    help="Write every line as it comes (.ndjson), or one document at the end (.json).",
)
@click.option("--window", metavar="S", help="Seconds of a window.  [default: the bundle's]")
@click.option("--stride", metavar="S", help="Seconds from one window to the next: half of one.")
@click.option("--windows", metavar="W", help="auto looks where the selector proposes something.")
@click.option("--cuts", metavar="B", help="false lets windows slide over hard cuts, too.")
@click.option("--threshold", metavar="P", help="Score from which on a label makes a segment.")
@click.option("--sparsity", metavar="S", help="Share of the tokens to drop, 0 to 0.99, or auto.")
@click.option("--start", metavar="S", help="Seconds from which on the video is looked at.")
@click.option("--end", metavar="S", help="Seconds until which the video is looked at.")
@click.option("--top", metavar="N", help="Labels of each window in OUT.  [default: 5]")
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle to look with.")
def timeline(video: str, out: Path | None, bundle: Path | None, **options: str | None) -> None:
    """Print what happens when in VIDEO, which may last for hours.

    The file is read where it lies. Exit code: 0 gone through to its end, 1 not, 2 wrong usage.
    """
    from lookwhen.checking import check_options
    from lookwhen.settings import settings_of
    from service.sparsity.timeline_parameters import TimelineParameters

    if out is not None and out.suffix.lower() not in (".json", ".ndjson"):
        raise click.UsageError(f"-o takes a file that ends in .json or .ndjson, not {out}")
    query = {name: text for name, text in options.items() if text is not None}
    check_options(TimelineParameters, query)
    sys.exit(_run(Path(video), out, query, settings_of(bundle=bundle)))


def _run(video: Path, out: Path | None, query: dict[str, str], settings: "Settings") -> int:
    from service.errors import ServiceError
    from service.pipeline.pipeline import StartError

    writer = _Writer(out)
    try:
        asyncio.run(_ask(video, query, settings, writer))
        writer.finish()
    except StartError as error:
        print(f"lookwhen: {error}", file=sys.stderr)
        return 1
    except ServiceError as error:
        print(f"lookwhen: {video}: {error.detail} ({error.code})", file=sys.stderr)
        return 1
    except OSError as error:
        file = error.filename or video
        print(f"lookwhen: {file}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        writer.close()
    return 0


async def _ask(video: Path, query: dict[str, str], settings: "Settings", writer: "_Writer") -> None:
    from lookwhen.ask import local_pipeline
    from service.http.timeline import LineWriter
    from service.observability.timing import Trace
    from service.pipeline.findings import Event
    from service.pipeline.timeline import TimelineCall
    from service.sparsity.timeline_parameters import TimelineParameters

    trace = Trace()
    async with local_pipeline(settings) as pipeline:
        lines = LineWriter(pipeline.manifest, "", trace)

        async def say(asked: TimelineParameters, event: Event) -> None:
            if (part := lines.line(asked, event)) is not None:
                writer.write(part)

        source = VideoFile(video, settings)
        await pipeline.timeline(TimelineCall(source, list(query.items()), say, trace))


class VideoFile:
    """A file as the source of a long video: read where it lies, and not copied."""

    def __init__(self, path: Path, settings: "Settings") -> None:
        self._path, self._settings = path, settings

    async def read_video(self) -> Any:
        from service.decoding.containers import SNIFF_BYTES, identify
        from service.decoding.unnamed_file import Reader
        from service.pipeline.way import Received

        with self._path.open("rb") as file:
            container = identify(file.read(SNIFF_BYTES), self._settings.containers)
            return Reader(file.fileno()), Received(container)

    async def gone(self) -> None:
        await asyncio.Event().wait()


class _Writer:
    """Prints segments, and writes all lines to a file if there is one."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._file: TextIO | None = None
        self._lines: list[dict[str, Any]] = []
        self._streams = out is not None and out.suffix.lower() == ".ndjson"

    def write(self, part: "ResponsePart") -> None:
        """Take a line."""
        document: dict[str, Any] = part.model_dump(exclude_none=False)
        if self._out is not None and self._streams:
            if self._file is None:
                self._file = self._out.open("w", encoding="utf-8")
            print(json.dumps(document), file=self._file, flush=True)
        elif self._out is not None:
            self._lines.append(document)
        for line in _said(document):
            print(line, flush=True)

    def finish(self) -> None:
        """Write the document, where it is one."""
        if self._out is not None and not self._streams:
            collected: dict[str, Any] = {"windows": [], "segments": [], "cuts": [], "lost": []}
            for line in self._lines:
                ((name, content),) = line.items()
                several = {"window": "windows", "segment": "segments", "cut": "cuts"}.get(
                    name, name
                )
                if several in collected:
                    collected[several].append(content)
                else:
                    collected[several] = content
            self._out.write_text(json.dumps(collected, indent=1) + "\n", encoding="utf-8")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _said(document: dict[str, Any]) -> list[str]:
    """What a person is told of a line."""
    if segment := document.get("segment"):
        return [
            f"{_clock(segment['start_seconds'])} to {_clock(segment['end_seconds'])}  "
            f"{segment['score']:6.1%}  {segment['label']}"
        ]
    if lost := document.get("lost"):
        return [
            f"{_clock(lost['start_seconds'])} to {_clock(lost['end_seconds'])}  "
            f"could not be decoded ({lost['code']})"
        ]
    if done := document.get("done"):
        return [
            f"{done['segments']} segments in {done['windows']} windows, {done['tokens']} tokens, "
            f"{done['total_seconds']:.1f} s"
        ]
    return []


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}"
