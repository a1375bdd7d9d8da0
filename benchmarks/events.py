"""``python -m benchmarks.events``: clips for networks that are trained from scratch in minutes.

The built-in model's clips have textures, bystanders and a hand that holds the camera; a small
network needs hours and tens of thousands of them to leave chance. Here one large thing acts before
a plain dark picture, so that a few hundred steps are enough. Everything else is the renderer's.
"""

import dataclasses
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from model.writing import whole_file
from training.datasets import DataSet, read_dataset
from training.evaluation import Method, measure
from training.moving_things.encode import encode
from training.moving_things.render import render
from training.moving_things.scene import Camera, Scene, sample_scene
from training.moving_things.textures import Texture
from training.processes import Processes
from training.progress import tracked

# What they are told apart by is when something is there and how large, not where: a small network
# learns places from scratch much later.
EVENTS = ("appearing", "disappearing", "approaching", "receding", "nothing moves")

SIZE, FRAMES, FPS = 64, 24, 16.0
# Mean and deviation of the clips' pixels, of 0 to 1: what networks normalise them by.
MEAN, STD = (0.16,) * 3, (0.12,) * 3

_GROWTH = 2.0  # things are twice as large as the renderer draws them
_NOISE = 2.0  # of the sensor, in grey levels


def plain_scene(label: str, rng: np.random.Generator) -> Scene:
    """A scene of an event with nothing but its thing.

    Raises:
        ValueError: an unknown label.
    """
    scene = sample_scene(label, rng, frames=FRAMES, fps=FPS, aspect=1.0)
    still, once = np.zeros(FRAMES, np.float32), np.ones(FRAMES, np.float32)
    dark = float(rng.uniform(20, 60))
    palette = np.array([[dark] * 3, [dark + 10] * 3], np.float32)
    acting = (thing for thing in scene.things if thing.actor)
    return dataclasses.replace(
        scene,
        background=Texture("plain", palette, scene.background.seed),
        things=tuple(
            dataclasses.replace(
                thing,
                shadow=0.0,
                track=dataclasses.replace(thing.track, size=_GROWTH * thing.track.size),
            )
            for thing in acting
        ),
        camera=Camera(still, still, once, still),
        gain=once,
        vignette=0.0,
        noise=_NOISE,
    )


def plain_clip(label: str, seed: int, number: int) -> bytes:
    """An MP4 of an event, a pure function of its arguments."""
    rng = np.random.default_rng([seed, number, EVENTS.index(label)])
    return encode(render(plain_scene(label, rng), SIZE).frames, FPS)


def write_events(folder: Path, clips: int, seed: int) -> DataSet:
    """Render ``clips`` clips in all, as many of each event, one folder per event.

    What is there from before is kept.
    """
    for number in tracked(range(clips), "rendering", clips):
        label = EVENTS[number % len(EVENTS)]
        path = folder / label / f"{seed}-{number:05d}.mp4"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                part.write_bytes(plain_clip(label, seed, number))
    return read_dataset("folders", folder)


def right_answers(
    method: Method, held: DataSet, *, workers: int, processes: Processes
) -> list[NDArray[np.bool_]]:
    """Which clips a method answers rightly, bool [n] for each of its settings in their order."""
    measured = measure(method, held, workers=workers, processes=processes)
    targets = torch.tensor([held.entries[entry].labels[0] for entry in measured.entries])
    return [
        held.task.hits(torch.from_numpy(outcome.probabilities), targets)["top1"]
        for outcome in measured.outcomes
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--clips", default=1500, show_default=True, type=click.IntRange(len(EVENTS)))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def main(out: Path, clips: int, seed: int) -> None:
    """Render plain clips into OUT, one folder per event; 30 a second of one core."""
    dataset = write_events(out, clips, seed)
    click.echo(f"{out}: {len(dataset)} clips of {len(dataset.labels)} events, seed {seed}")


if __name__ == "__main__":
    main()
