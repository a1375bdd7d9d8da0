"""One fresh clip with its label: ``lookwhen sample``."""

import json
import secrets
from pathlib import Path

import click
import numpy as np

from startup.console import Command, json_name
from training.moving_things.encode import encode
from training.moving_things.labels import LABELS
from training.moving_things.render import render
from training.moving_things.scene import sample_scene

SAMPLE_HEIGHT, SAMPLE_WIDTH = 240, 320
SAMPLE_FRAMES, SAMPLE_FPS = 32, 16.0

Seed = click.IntRange(0, 2**63 - 1)


def sample_clip(seed: int, label: str | None = None) -> tuple[bytes, str]:
    """The bytes of an MP4 and its label, which follows from the seed where none is given.

    Raises:
        RuntimeError: the machine's FFmpeg encodes no H.264.
    """
    rng = np.random.default_rng([seed, SAMPLE_HEIGHT, SAMPLE_WIDTH])
    drawn = LABELS[int(rng.integers(len(LABELS)))]
    chosen = label or drawn
    aspect = SAMPLE_WIDTH / SAMPLE_HEIGHT
    scene = sample_scene(chosen, rng, frames=SAMPLE_FRAMES, fps=SAMPLE_FPS, aspect=aspect)
    return encode(render(scene, SAMPLE_HEIGHT).frames, SAMPLE_FPS, crf=23), chosen


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--label", help=f"What happens in it. Default: one by chance of: {', '.join(LABELS)}."
)
@click.option("--seed", type=Seed, help="Makes the same clip again. Default: one by chance.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sample(out: Path, label: str | None, seed: int | None, as_json: bool) -> None:
    """Write one fresh clip to OUT (an .mp4) and print its true label."""
    if label is not None and label not in LABELS:
        raise click.UsageError(f"no label {label!r}; known: {', '.join(LABELS)}")
    if seed is None:
        seed = secrets.randbelow(2**31)
    video, chosen = sample_clip(seed, label)
    try:
        out.write_bytes(video)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written ({error.strerror})") from None
    facts = {
        **json_name("path", out),
        "label": chosen,
        "seed": seed,
        "frames": SAMPLE_FRAMES,
        "fps": SAMPLE_FPS,
        "width": SAMPLE_WIDTH,
        "height": SAMPLE_HEIGHT,
    }
    click.echo(json.dumps(facts) if as_json else f"{out}: {chosen} (seed {seed})")


if __name__ == "__main__":
    sample(prog_name="lookwhen sample")
