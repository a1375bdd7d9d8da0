"""Videos of labelled clips with pauses of other footage between them, and what happens in them."""

import csv
import itertools
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from training.moving_things.encode import encode
from training.moving_things.labels import LABELS
from training.moving_things.render import render
from training.moving_things.sample import (
    SAMPLE_FPS,
    SAMPLE_FRAMES,
    SAMPLE_HEIGHT,
    SAMPLE_WIDTH,
)
from training.moving_things.scene import sample_scene

# What the built-in model says of a pause; everything else of its labels happens.
NO_EVENTS = ("nothing moves", "only the camera moves")
EVENTS = tuple(label for label in LABELS if label not in NO_EVENTS)
_PAUSE_FRAMES = (16, 48)  # one to three seconds
_ENCODE = ("-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A segment: what, from when to when in seconds."""

    label: str
    start: float
    end: float


# A file with frames of the size and at the rate of rendered clips, and its label.
Piece = tuple[Path, str]


def rendered(folder: Path, clips: int, rng: np.random.Generator) -> Iterator[Piece]:
    """Fresh clips of two seconds in which something happens."""
    for number in range(clips):
        label = EVENTS[int(rng.integers(len(EVENTS)))]
        scene = sample_scene(
            label, rng, frames=SAMPLE_FRAMES, fps=SAMPLE_FPS, aspect=SAMPLE_WIDTH / SAMPLE_HEIGHT
        )
        piece = folder / f"clip{number}.mp4"
        piece.write_bytes(encode(render(scene, SAMPLE_HEIGHT).frames, SAMPLE_FPS, crf=23))
        yield piece, label


def listed(index: Path, where: Mapping[str, str], nothing: Sequence[str]) -> list[Piece]:
    """The clips of a CSV file with the columns `path`, from where it lies, and `label`.

    Args:
        where: columns, and the value that a clip must have there.
        nothing: labels of clips in which nothing happens; they are left out.

    Raises:
        click.UsageError: it has no such columns, or no such clips.
    """
    with index.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = {"path", "label", *where} - set(rows[0] if rows else ())
    if missing:
        raise click.UsageError(f"{index} has no column {', '.join(sorted(missing))}")
    found = [
        (index.parent / row["path"], row["label"])
        for row in rows
        if row["label"] not in nothing and all(row[name] == value for name, value in where.items())
    ]
    if not found:
        raise click.UsageError(f"{index} has no clip of which that is true")
    return found


def fitted(
    folder: Path, found: Sequence[Piece], clips: int, rng: np.random.Generator
) -> Iterator[Piece]:
    """Some of the clips, each as a piece: all of it, at the size and rate of rendered ones."""
    order = rng.permutation(len(found))[:clips]
    for number, chosen in enumerate(order.tolist()):
        source, label = found[chosen]
        piece = folder / f"clip{number}.mp4"
        ffmpeg("-i", source, "-an", "-vf", _fit(), *_ENCODE, piece)
        yield piece, label


def join(
    folder: Path, pauses: Sequence[Path], pieces: Iterator[Piece], rng: np.random.Generator
) -> tuple[Path, list[Spoken]]:
    """A video of the pieces with a pause before each, and what happens in it."""
    parts, truth, frame = [], list[Spoken](), 0
    for number in itertools.count():
        pause = int(rng.integers(*_PAUSE_FRAMES))
        source = pauses[int(rng.integers(len(pauses)))]
        if (found := next(pieces, None)) is None:
            break
        piece, label = found
        parts += [_pause(folder / f"pause{number}.mp4", source, pause), piece]
        begin = frame + pause
        frame = begin + _frames(piece)
        truth.append(Spoken(label, begin / SAMPLE_FPS, frame / SAMPLE_FPS))
    names = folder / "pieces.txt"
    names.write_text("".join(f"file '{part}'\n" for part in parts))
    out = folder / "joined.mp4"
    ffmpeg("-f", "concat", "-safe", "0", "-i", names, "-an", "-r", f"{SAMPLE_FPS:g}", *_ENCODE, out)
    return out, truth


def _pause(out: Path, source: Path, frames: int) -> Path:
    """The first frames of a video, from its beginning again where it is too short."""
    ffmpeg("-stream_loop", "-1", "-i", source, "-an", "-vf", _fit(), "-frames:v", str(frames),
           *_ENCODE, out)  # fmt: skip
    return out


def _fit() -> str:
    return (
        f"fps={SAMPLE_FPS:g},scale={SAMPLE_WIDTH}:{SAMPLE_HEIGHT}:"
        f"force_original_aspect_ratio=increase,crop={SAMPLE_WIDTH}:{SAMPLE_HEIGHT},setsar=1"
    )


def _frames(piece: Path) -> int:
    command = ["ffprobe", "-v", "error", "-count_packets", "-select_streams", "v:0",
               "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", str(piece)]  # fmt: skip
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg.

    Raises:
        click.ClickException: it failed, with its words.
    """
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"ffmpeg: {done.stderr.strip() or done.returncode}")
