"""``lookwhen explain``: its options, what is wrong with them, and what it writes."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from startup.console import Command

if TYPE_CHECKING:
    from service.settings import Settings

_FORMATS = {".json": "json", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".mp4": "mp4"}


@click.command(cls=Command)
@click.argument("clip", metavar="CLIP")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT",
    help="A film (.mp4), a picture (.png, .jpg) or the numbers (.json).",
)
@click.option(
    "--sparsity",
    metavar="S[,S...]",
    help="Share of the tokens to drop, 0 to 0.99, or auto; several are lines of a picture.",
)
@click.option("--start", metavar="S", help="Seconds from which on the clip is looked at.")
@click.option("--end", metavar="S", help="Seconds until which the clip is looked at.")
@click.option("--views", metavar="TxS", help="Temporal x spatial views, such as 1x1 or 4x3.")
@click.option("--top", metavar="N", help="Labels to show.  [default: 5]")
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle to look with.")
def explain(clip: str, out: Path, bundle: Path | None, **options: str | None) -> None:
    """Write to OUT which parts of CLIP the extractor looked at.

    A film is the clip itself with what was dropped dimmed, a picture has the frames that were
    sampled of it. Exit code: 0 written, 1 not, 2 wrong usage.
    """
    from lookwhen.checking import check_options
    from lookwhen.settings import settings_of
    from service.sparsity.parameters import ExplainParameters

    if out.suffix.lower() not in _FORMATS:
        raise click.UsageError(f"-o takes a file that ends in {', '.join(_FORMATS)}, not {out}")
    query = {name: text for name, text in options.items() if text is not None}
    query["format"] = _FORMATS[out.suffix.lower()]
    if "," in query.get("sparsity", ""):
        query["sparsities"] = query.pop("sparsity")
    check_options(ExplainParameters, query, spelled={"sparsities": "sparsity"})
    sys.exit(_explain(Path(clip), out, query, settings_of(bundle=bundle)))


def _explain(clip: Path, out: Path, query: dict[str, str], settings: "Settings") -> int:
    from lookwhen.ask import FileError
    from service.pipeline.pipeline import StartError

    try:
        answer, content = asyncio.run(_ask(clip, query, settings))
        out.write_bytes(content)
    except StartError as error:
        print(f"lookwhen: {error}", file=sys.stderr)
        return 1
    except FileError as error:
        print(f"lookwhen: {clip}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lookwhen: {out}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for point in answer["points"]:
        best = point["labels"][0]
        print(
            f"{out}: sparsity {point['used']:g}, {point['tokens']} of {answer['tokens']['total']} "
            f"tokens: {best['label']} {best['score']:.1%}"
        )
    return 0


async def _ask(
    clip: Path, query: dict[str, str], settings: "Settings"
) -> tuple[dict[str, Any], bytes]:
    """The answer, and what is to be written."""
    from lookwhen.ask import asked_of_file, local_pipeline
    from service.http.responses import explained
    from service.pipeline.drawing import Drawing
    from service.pipeline.way import Answered

    drawn: list[Drawing] = []

    async with local_pipeline(settings) as pipeline:

        def say(done: Answered[Any, Any]) -> Any:
            drawn.extend([done.drawing] if done.drawing else [])
            return explained(pipeline.manifest, done)

        answer = await asked_of_file(
            clip, query, settings, lambda call: pipeline.explain(call, say)
        )
    content = drawn[0].content if drawn else answer.model_dump_json(indent=1).encode() + b"\n"
    return answer.model_dump(), content
