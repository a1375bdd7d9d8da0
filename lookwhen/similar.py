"""``lookwhen similar``: which clips of a folder show the same, by their embeddings."""

import asyncio
import base64
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from startup.console import Command, json_name

if TYPE_CHECKING:
    from service.settings import Settings

# Our choice: by the built-in model a clip has 0.997 with itself at half the size and 0.9996 with a
# strong compression of itself, and 0.98 with another clip of its label.
DEFAULT_ABOVE = 0.99


@click.command(cls=Command)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--to", "clip", metavar="CLIP", help="List the clips that are most similar to CLIP.")
@click.option(
    "--most",
    metavar="N",
    default=10,
    type=click.IntRange(min=1),
    show_default=True,
    help="With --to: clips to list.",
)
@click.option(
    "--above",
    metavar="C",
    type=click.FloatRange(-1, 1),
    default=DEFAULT_ABOVE,
    show_default=True,
    help="Without --to: the least cosine of what counts as the same.",
)
@click.option(
    "--surplus",
    is_flag=True,
    help="Without --to: print only the clips whose like is there before, a line each.",
)
@click.option("--sparsity", metavar="S", help="Share of the tokens to drop, 0 to 0.99, or auto.")
@click.option("--views", metavar="TxS", help="Temporal x spatial views, such as 1x1 or 4x3.")
@click.option("--url", metavar="URL", help="Ask this service instead of looking here.")
@click.option(
    "--key",
    metavar="KEY",
    envvar="LOOKWHEN_KEY",
    help="Key of the service at --url. Better in LOOKWHEN_KEY.",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle to look with.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def similar(
    folder: Path, clip: str | None, most: int, above: float, surplus: bool, sparsity: str | None,
    views: str | None, url: str | None, key: str | None, bundle: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Find clips in FOLDER that show the same, or with --to what is like CLIP.

    Clips are compared by the cosine of their embeddings. Without --to, clips that are alike come
    in groups; the first of each is the one to keep. Exit code: 0 all looked at, 1 some were not,
    2 wrong usage.
    """
    from lookwhen.checking import check_options
    from lookwhen.settings import settings_of
    from service.sparsity.parameters import EmbedParameters
    from video.files import VIDEO_SUFFIXES, videos_below

    if url and bundle:
        raise click.UsageError("--bundle is for looking here; with --url the service has one")
    if clip is not None and surplus:
        raise click.UsageError("--surplus lists what is to go, and --to removes nothing")
    files = list(videos_below(folder))
    if not files:
        raise click.UsageError(f"{folder} holds no video ({', '.join(VIDEO_SUFFIXES)})")
    given = {"sparsity": sparsity, "views": views}
    query = {name: text for name, text in given.items() if text is not None}
    check_options(EmbedParameters, query)
    settings = None if url else settings_of(bundle=bundle)
    sought = None if clip is None else Path(clip)
    sys.exit(_similar(files, sought, most, above, surplus, query, url, key, settings, as_json))


def _similar(
    files: list[Path], sought: Path | None, most: int, above: float, surplus: bool,
    query: Mapping[str, str], url: str | None, key: str | None, settings: "Settings | None",
    as_json: bool,
) -> int:  # fmt: skip
    from service.pipeline.pipeline import StartError

    wanted = [*([] if sought is None else [sought]), *files]
    try:
        found = asyncio.run(_embed(wanted, query, url, key, settings))
    except StartError as error:
        print(f"lookwhen: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    known = [file for file in files if file in found]
    if (sought is not None and sought not in found) or not known:
        return 1
    vectors = np.stack([found[file] for file in known])
    if sought is not None:
        nearest = nearest_to(found[sought], vectors, most)
        answer: Any = [{**json_name("file", known[i]), "cosine": cosine} for i, cosine in nearest]
        lines = [f"{cosine:.4f}  {known[i]}" for i, cosine in nearest]
    else:
        groups = [group for group in alike(vectors, above) if len(group) > 1]
        answer = [
            [{**json_name("file", known[i]), "cosine": cosine} for i, cosine in group]
            for group in groups
        ]
        lines = []
        for group in groups:
            if surplus:
                lines += [str(known[i]) for i, _ in group[1:]]
            else:
                lines += [f"{cosine:.4f}  {known[i]}" for i, cosine in group] + [""]
        if not groups and not surplus:
            lines = [f"no two of {len(known)} clips are alike (cosine {above:g} or more)"]
    if as_json:
        print(json.dumps(answer, indent=1))
    else:
        print("\n".join(lines).rstrip("\n"))
    return 0 if len(found) == len(set(wanted)) else 1


async def _embed(
    files: Sequence[Path], query: Mapping[str, str], url: str | None, key: str | None,
    settings: "Settings | None",
) -> dict[Path, NDArray[np.float32]]:  # fmt: skip
    """The embedding of each file that has one, float32 [D] of length 1; else it is said why not."""
    from lookwhen.ask import FileError, connect
    from training.progress import counted, uncounted

    found: dict[Path, NDArray[np.float32]] = {}
    asked = {**query, "encoding": "base64"}
    shown = len(files) > 1 and sys.stderr.isatty()
    async with connect("embed", asked, url, key, settings) as ask:
        with (counted if shown else uncounted)("looking", len(files)) as advance:
            for file in files:
                try:
                    answer = await ask(file)
                except FileError as error:
                    print(f"lookwhen: {file}: {error}", file=sys.stderr)
                else:
                    numbers = base64.b64decode(answer["embedding"]["base64"])
                    found[file] = np.frombuffer(numbers, "<f4")
                advance()
    return found


def nearest_to(
    vector: NDArray[np.float32], vectors: NDArray[np.float32], most: int
) -> list[tuple[int, float]]:
    """The rows of ``vectors`` [n, D] that are nearest to ``vector`` [D], with their cosines, best
    first; all of length 1."""
    cosines = vectors @ vector
    order = np.argsort(-cosines, kind="stable")[:most]
    return [(int(i), float(cosines[i])) for i in order]


def alike(vectors: NDArray[np.float32], above: float) -> list[list[tuple[int, float]]]:
    """Rows that are alike in groups, each with its cosine to the group's first.

    A row joins the first row that is not in another's group and has at least the cosine ``above``
    with it; otherwise it begins a group. Groups so do not grow along chains of neighbours: our
    choice, because what is removed has to be like what stays.

    Args:
        vectors: float32 [n, D], of length 1.
    """
    groups: list[list[tuple[int, float]]] = []
    for row, vector in enumerate(vectors):
        cosines = vectors[[group[0][0] for group in groups]] @ vector
        near = (cosines >= above).nonzero()[0]
        if len(near):
            groups[int(near[0])].append((row, float(cosines[near[0]])))
        else:
            groups.append([(row, 1.0)])
    return groups
