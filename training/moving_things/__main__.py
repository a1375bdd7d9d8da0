"""``lookwhen train render`` and ``sheet``: a store of rendered clips, or a contact sheet."""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from startup.console import Group
from training.moving_things.labels import LABELS
from training.moving_things.sample import Seed, sample
from training.moving_things.sheet import contact_sheet
from training.moving_things.store import ClipStore, StoreError, write_store
from training.progress import progress_bar


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} clips/s" if task.speed else "")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Short rendered videos in which things happen, with their labels."""


main.add_command(sample)


@main.command("render")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(1), default=40_000, show_default=True)
@click.option("--seed", type=Seed, default=0, show_default=True, help="Other seed, other clips.")
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True)
def render_store(out: Path, clips: int, seed: int, workers: int) -> None:
    """Render a store of CLIPS into the folder OUT.

    Started again, the command goes on where it stopped.
    """
    try:
        with progress_bar(_Rate(table_column=Column(no_wrap=True))) as bar:
            task = bar.add_task("rendering", total=clips)
            write_store(out, clips, seed, workers=workers, progress=lambda n: bar.advance(task, n))
        store = ClipStore(out)
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    size = sum(entry.stat().st_size for entry in out.iterdir())
    click.echo(f"{out}: {len(store)} clips of seed {seed}, {size / 1e6:.0f} MB")


@main.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", type=Seed, default=0, show_default=True)
def sheet(out: Path, seed: int) -> None:
    """Write a picture (.png) of one rendered clip of each label, what moves outlined."""
    image = contact_sheet(LABELS, seed)
    try:
        written = cv2.imwrite(str(out), np.ascontiguousarray(image[..., ::-1]))
    except cv2.error:  # an ending that OpenCV does not know
        written = False
    if not written:
        raise click.ClickException(f"{out} cannot be written as a picture")
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main(prog_name="python -P -m training.moving_things")
