"""``python -m benchmarks.cut_outs OUT``: a folder of clips of cut-outs, with an index.

The clips are drawn apart from the renderer that the built-in model learnt from. ``lookwhen train
evaluate`` and ``calibrate`` read them as ``index OUT``; ``--column background --split photo`` takes
a part of them.
"""

import csv
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.cut_outs.drawing import draw
from benchmarks.cut_outs.ways import WAYS
from training.moving_things.encode import encode
from video.files import videos_below


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(1), default=216, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--photos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of videos whose frames are backgrounds. Without it there are noise and colour.",
)
def main(out: Path, clips: int, seed: int, photos: Path | None) -> None:
    """Write CLIPS clips of cut-outs to the folder OUT, a class after the other, and index.csv."""
    videos = sorted(videos_below(photos)) if photos is not None else []
    if photos is not None and not videos:
        raise click.ClickException(f"there is no video in {photos}")
    backgrounds = ("photo", "noise", "plain") if videos else ("noise", "plain")
    labels = list(WAYS)
    rows = []
    for number in track(range(clips), "drawing", console=Console(stderr=True)):
        label = labels[number % len(labels)]
        background = backgrounds[number // len(labels) % len(backgrounds)]
        rng = np.random.default_rng([seed, number])
        drawn = draw(label, background, rng, videos)
        path = Path(label.replace(" ", "_")) / f"{number:05d}.mp4"
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(encode(drawn.frames, drawn.fps, crf=int(rng.integers(18, 29))))
        rows.append((path.as_posix(), label, background))
    with (out / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "background"))
        writer.writerows(rows)
    click.echo(f"{out}: {clips} clips of seed {seed} over {', '.join(backgrounds)}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.cut_outs")
