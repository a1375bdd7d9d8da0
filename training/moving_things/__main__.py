"""``python -m training.moving_things``: render a store, one sample clip, or a contact sheet."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import click
import cv2
import numpy as np
from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from training.moving_things.encode import encode
from training.moving_things.labels import LABELS
from training.moving_things.render import render
from training.moving_things.scene import sample_scene
from training.moving_things.sheet import contact_sheet
from training.moving_things.store import ClipStore, StoreError, write_store
from training.progress import progress_bar

SAMPLE_HEIGHT, SAMPLE_WIDTH = 240, 320
SAMPLE_FRAMES, SAMPLE_FPS = 32, 16.0

_Seed = click.IntRange(0, 2**63 - 1)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} clips/s" if task.speed else "")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Short rendered videos in which things happen, with their labels."""


@main.command("render")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(1), default=40_000, show_default=True)
@click.option("--seed", type=_Seed, default=0, show_default=True, help="Other seed, other clips.")
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True)
def render_store(out: Path, clips: int, seed: int, workers: int) -> None:
    """Render a store of CLIPS into the folder OUT; started again, it goes on where it stopped."""
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
@click.option(
    "--label", help=f"What happens in it. Default: one by chance of: {', '.join(LABELS)}."
)
@click.option("--seed", type=_Seed, help="Makes the same clip again. Default: one by chance.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sample(out: Path, label: str | None, seed: int | None, as_json: bool) -> None:
    """Write one fresh clip to OUT (an .mp4) and print its true label."""
    if label is not None and label not in LABELS:
        raise click.UsageError(f"no label {label!r}; known: {', '.join(LABELS)}")
    if seed is None:
        seed = secrets.randbelow(2**31)
    rng = np.random.default_rng([seed, SAMPLE_HEIGHT, SAMPLE_WIDTH])
    drawn = LABELS[int(rng.integers(len(LABELS)))]
    chosen = label or drawn
    aspect = SAMPLE_WIDTH / SAMPLE_HEIGHT
    scene = sample_scene(chosen, rng, frames=SAMPLE_FRAMES, fps=SAMPLE_FPS, aspect=aspect)
    video = encode(render(scene, SAMPLE_HEIGHT).frames, SAMPLE_FPS, crf=23)
    try:
        out.write_bytes(video)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written ({error.strerror})") from None
    facts = {
        "path": str(out),
        "label": chosen,
        "seed": seed,
        "frames": SAMPLE_FRAMES,
        "fps": SAMPLE_FPS,
        "width": SAMPLE_WIDTH,
        "height": SAMPLE_HEIGHT,
    }
    click.echo(json.dumps(facts) if as_json else f"{out}: {chosen} (seed {seed})")


@main.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", type=_Seed, default=0, show_default=True)
def sheet(out: Path, seed: int) -> None:
    """Write a picture (.png): one clip of each label, what moves outlined."""
    image = contact_sheet(LABELS, seed)
    try:
        written = cv2.imwrite(str(out), np.ascontiguousarray(image[..., ::-1]))
    except cv2.error:  # an ending that OpenCV does not know
        written = False
    if not written:
        raise click.ClickException(f"{out} cannot be written as a picture")
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main(prog_name="python -m training.moving_things")
