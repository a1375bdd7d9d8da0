"""``lookwhen train own FOLDER [OUT]``: one's own clips to a bundle that serves, in one command."""

import logging
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import click
from pydantic import ValidationError

from bundle.built_in import find_bundle
from bundle.reader import BundleError, read_bundle
from bundle.sampling import Framing
from bundle.schema import EXTRACTOR_FILE, AccuracyPoint
from export.bundling import export_bundle
from export.pack import PlaceTaken, bundle_place
from export.parity import ParityError
from export.unpack import UnpackError, unpack
from model.checkpoint import save_checkpoint
from startup.console import Command
from training.command_line import errors_for_people
from training.own import (
    SPARSITIES,
    OwnResult,
    OwnSettings,
    read_own,
    train_own,
    with_mirror,
)
from training.processes import join_processes
from training.progress import counted


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.argument("out", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--minutes",
    type=click.FloatRange(1),
    default=OwnSettings().minutes,
    show_default=True,
    help="For all of it. A run that was stopped has as many again.",
)
@click.option(
    "--probe-only", is_flag=True, help="No fine-tuning: seconds, and 3 clips of a class are enough."
)
@click.option(
    "--start",
    type=click.Path(path_type=Path),
    help="What to learn from: a checkpoint, a bundle, or a built-in bundle's name.  [default: "
    "moving_things]",
)
@click.option(
    "--mirror",
    multiple=True,
    metavar="A=B",
    help="Mirror every other training view, and exchange the labels A and B; may be repeated.",
)
@click.option(
    "--flip/--no-flip", default=None, help="Mirror without exchanging labels; mirror nothing."
)
@click.option(
    "--framing",
    type=click.Choice(["auto", "crop", "squash", "pad"]),
    default="auto",
    show_default=True,
    help="What the network sees of the picture: the middle, all of it squeezed, or with bars.",
)
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 0.9, min_open=True),
    default=OwnSettings().hold_out,
    show_default=True,
    help="Share of the clips that fine-tuning is measured on.",
)
@click.option("--column", help="Column of an index that --test names a value of.")
@click.option("--test", help="Value in that column whose clips are measured on at the end alone.")
@click.option(
    "--sparsity",
    type=click.Choice([f"{sparsity:g}" for sparsity in SPARSITIES]),
    default=f"{OwnSettings().sparsity:g}",
    show_default=True,
    help="That requests have by default, and that scores are calibrated at.",
)
@click.option("--name", help="Of the bundle.  [default: the folder's]")
@click.option("--version", default="1", show_default=True, help="Of the bundle.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--workers", type=click.IntRange(0), default=OwnSettings().workers,
              show_default=True, help="Processes that decode clips.")  # fmt: skip
@click.option(
    "--lost-share",
    type=click.FloatRange(0, 1),
    default=OwnSettings().lost_share,
    show_default=True,
    help="Clips that may be missing or unreadable.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or cuda:1.")
def main(
    folder: Path,
    out: Path | None,
    minutes: float,
    probe_only: bool,
    start: Path | None,
    mirror: tuple[str, ...],
    flip: bool | None,
    framing: str,
    hold_out: float,
    column: str | None,
    test: str | None,
    sparsity: str,
    name: str | None,
    version: str,
    seed: int,
    workers: int,
    lost_share: float,
    device: str,
) -> None:
    """Make a bundle that serves of the clips in FOLDER: one sub-folder for each class.

    FOLDER may also be an index (.csv with the columns path and label) or a list of paths and
    labels. Pictures, states and the bundle go to OUT, by default runs/ and the folder's name.
    Stopped, the same command goes on. `lookwhen train FOLDER` is short for it.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    began = time.monotonic()
    called = folder.stem if folder.is_file() else folder.resolve().name
    out = out or Path("runs") / called
    with errors_for_people(), join_processes(device) as processes:
        own = read_own(folder, column=column, test=test, lost_share=lost_share)
        clips, mirroring = with_mirror(own.clips, mirror, flip, _ask())
        out.mkdir(parents=True, exist_ok=True)
        _check_place(out / "bundle")
        result = train_own(
            replace(own, clips=clips),
            start if start and start.is_file() else _unpacked(start, out),
            out,
            OwnSettings(
                minutes=minutes,
                probe_only=probe_only,
                framing=None if framing == "auto" else cast(Framing, framing),
                hold_out=hold_out,
                sparsity=float(sparsity),
                seed=seed,
                workers=workers,
                lost_share=lost_share,
            ),
            until=began + 60 * minutes,
            processes=processes,
            mirroring=mirroring,
            data=f"own {folder.name}",
            say=click.echo,
            count=counted,
        )
        _export(result, out / "bundle", name or _plain(called), version, float(sparsity))


def _ask() -> Callable[[str], bool] | None:
    """Puts a question to the person at the terminal, if there is one."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda question: click.confirm(question, err=True)


def _unpacked(named: Path | None, out: Path) -> Path:
    """A bundle as a checkpoint in ``out``, unpacked where it is not there yet.

    Args:
        named: as :func:`bundle.built_in.find_bundle` takes it.

    Raises:
        click.ClickException: there is no such bundle, or its weights cannot be told apart.
    """
    try:
        bundle = read_bundle(find_bundle(named))
        made = bundle.manifest
        # Another bundle of the same name is another start.
        path = out / f"start-{made.files[EXTRACTOR_FILE].sha256[:12]}.safetensors"
        if path.exists():
            return path
        model, _ = unpack(bundle)
    except (BundleError, ParityError, UnpackError) as error:
        which = "the built-in model" if named is None else f"--start {named}"
        raise click.ClickException(f"{which} cannot be learnt from: {error}") from None
    facts = {
        "data": made.provenance.data,
        "clips_seen": made.provenance.clips_seen,
        "unpacked_from": f"bundle {made.name} {made.version}",
    }
    save_checkpoint(model, path, facts)
    return path


def _plain(name: str) -> str:
    """A folder's name as a bundle may have it."""
    return re.sub(r"[^a-z0-9_.-]+", "_", name.lower()).strip("_.-")[:64] or "own"


def _check_place(out: Path) -> None:
    """Refuse before any training what could not be written after it.

    Raises:
        click.ClickException: something that is no bundle is there.
    """
    try:
        bundle_place(out)
    except PlaceTaken as error:
        raise click.ClickException(str(error)) from None


def _export(result: OwnResult, out: Path, name: str, version: str, sparsity: float) -> None:
    accuracy = [
        AccuracyPoint(sparsity=at, top1=found.value, clips=result.clips)
        for at, found in result.accuracy.items()
    ]
    try:
        manifest, _ = export_bundle(
            result.model,
            result.facts,
            out,
            name=name,
            version=version,
            default_sparsity=sparsity,
            accuracy=accuracy,
        )
    except (BundleError, ParityError, PlaceTaken, ValidationError) as error:
        raise click.ClickException(f"no bundle was written: {error}") from None
    kind = "fine-tuned model" if result.tuned else "linear probe"
    click.echo(f"wrote {manifest.name} {manifest.version} ({kind}) to {out}; serve it with")
    click.echo(f"  LOOKWHEN_BUNDLE={shlex.quote(str(out))} lookwhen serve")
