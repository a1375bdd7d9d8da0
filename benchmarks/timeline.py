"""``python -m benchmarks.timeline PAUSES``: what does a timeline find, and what does it cost?

Fresh rendered clips in which something happens are joined with pauses of other footage between
them, which is cut out of the videos in the folder PAUSES. Where nothing of the kind happens the
model says that nothing moves, or that the camera does: those segments are left out. A service goes
through the joined video, and its segments are held against the truth: F1 at a temporal intersection
over union of at least 0.5, of segments of the same label; with windows that slide over cuts, with
windows within shots, and with those alone that the selector proposes. Then a video of two minutes
and the same repeated are gone through for memory and cost.
"""

import itertools
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import bundle_option, out_option
from benchmarks.processes import rss_bytes
from benchmarks.record import describe_run, write_result
from benchmarks.served import Server
from bundle.reader import default_bundle_path
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
from video.files import videos_below

_TIOU = 0.5
# What the built-in model says of a pause; everything else of its labels happens.
NO_EVENTS = ("nothing moves", "only the camera moves")
EVENTS = tuple(label for label in LABELS if label not in NO_EVENTS)
# What is compared, as parameters.
WAYS = {
    "over cuts": {"cuts": "false"},
    "within shots": {"cuts": "true"},
    "proposed": {"cuts": "true", "windows": "auto"},
}
_PAUSE_FRAMES = (16, 48)  # one to three seconds
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Spoken:
    """A segment: what, from when to when in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Score:
    """Segments found against those there are."""

    right: int
    found: int
    there: int

    @property
    def f1(self) -> float:
        both = self.found + self.there
        return 2 * self.right / both if both else 0.0


def score(found: Sequence[Spoken], truth: Sequence[Spoken]) -> Score:
    """Each true segment is matched by the found one of its label that overlaps it most, once."""
    pairs = sorted(
        ((_overlap(one, other), i, j)
         for i, one in enumerate(found) for j, other in enumerate(truth)
         if one.label == other.label),
        reverse=True,
    )  # fmt: skip
    used: tuple[set[int], set[int]] = (set(), set())
    for overlap, i, j in pairs:
        if overlap >= _TIOU and i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
    return Score(len(used[0]), len(found), len(truth))


def closest_right(looks: Sequence[Spoken], truth: Sequence[Spoken]) -> int:
    """Count the true segments whose closest window has their label."""
    nearest = [min(looks, key=lambda look: abs(look.start - there.start)) for there in truth]
    return sum(look.label == there.label for look, there in zip(nearest, truth, strict=True))


def _overlap(one: Spoken, other: Spoken) -> float:
    shared = min(one.end, other.end) - max(one.start, other.start)
    whole = max(one.end, other.end) - min(one.start, other.start)
    return max(0.0, shared) / whole if whole > 0 else 0.0


def join(folder: Path, pauses: Sequence[Path], clips: int, seed: int) -> tuple[Path, list[Spoken]]:
    """A video of rendered clips with pauses between them, and what happens in it."""
    rng = np.random.default_rng(seed)
    pieces, truth, frame = [], list[Spoken](), 0
    for number in range(clips):
        pause = int(rng.integers(*_PAUSE_FRAMES))
        source = pauses[int(rng.integers(len(pauses)))]
        pieces.append(_pause(folder / f"pause{number}.mp4", source, pause))
        frame += pause
        label = EVENTS[int(rng.integers(len(EVENTS)))]
        scene = sample_scene(
            label, rng, frames=SAMPLE_FRAMES, fps=SAMPLE_FPS, aspect=SAMPLE_WIDTH / SAMPLE_HEIGHT
        )
        piece = folder / f"clip{number}.mp4"
        piece.write_bytes(encode(render(scene, SAMPLE_HEIGHT).frames, SAMPLE_FPS, crf=23))
        pieces.append(piece)
        truth.append(Spoken(label, frame / SAMPLE_FPS, (frame + SAMPLE_FRAMES) / SAMPLE_FPS))
        frame += SAMPLE_FRAMES
    listed = folder / "pieces.txt"
    listed.write_text("".join(f"file '{piece}'\n" for piece in pieces))
    out = folder / "joined.mp4"
    _ffmpeg("-f", "concat", "-safe", "0", "-i", listed, "-an", "-r", f"{SAMPLE_FPS:g}",
            "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", out)  # fmt: skip
    return out, truth


def _pause(out: Path, source: Path, frames: int) -> Path:
    """The first frames of a video, from its beginning again where it is too short."""
    fit = (
        f"fps={SAMPLE_FPS:g},scale={SAMPLE_WIDTH}:{SAMPLE_HEIGHT}:"
        f"force_original_aspect_ratio=increase,crop={SAMPLE_WIDTH}:{SAMPLE_HEIGHT},setsar=1"
    )
    _ffmpeg("-stream_loop", "-1", "-i", source, "-an", "-vf", fit, "-frames:v", str(frames),
            "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", out)  # fmt: skip
    return out


def _ffmpeg(*arguments: str | Path) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"ffmpeg: {done.stderr.strip() or done.returncode}")


@dataclass(frozen=True, slots=True)
class Run:
    """A video that was gone through.

    Attributes:
        looks: the best label of each window.
        peak_mb: the most memory that the service and its decode workers had, shared pages counted
            once for each.
    """

    segments: list[Spoken]
    looks: list[Spoken]
    windows: int
    skipped: int
    tokens: int
    video_seconds: float
    wall_seconds: float
    peak_mb: float


def go_through(server: Server, video: Path, query: dict[str, str]) -> Run:
    """Have a service go through a video."""
    watching = _Memory(server)
    began = time.monotonic()
    with (
        video.open("rb") as file,
        httpx.stream(
            "POST", f"{server.url}/timeline", params=query, content=file,
            headers={"content-type": "video/mp4"}, timeout=600,
        ) as response,
    ):  # fmt: skip
        lines: list[dict[str, Any]] = [json.loads(line) for line in response.iter_lines()]
    wall, peak = time.monotonic() - began, watching.stop()
    if not lines or "done" not in lines[-1]:
        raise click.ClickException(f"no end: {lines[-1:]}")
    done = lines[-1]["done"]
    return Run(
        [Spoken(s["label"], s["start_seconds"], s["end_seconds"])
         for line in lines if (s := line.get("segment")) and s["label"] not in NO_EVENTS],
        [Spoken(w["labels"][0]["label"], w["start_seconds"], w["end_seconds"])
         for line in lines if (w := line.get("window"))],
        done["windows"], done["skipped_windows"], done["tokens"], done["seconds"], wall, peak,
    )  # fmt: skip


class _Memory:
    """Watches the resident memory of a service and its decode workers."""

    def __init__(self, server: Server) -> None:
        self._pids = [server.process.pid, *server.worker_pids()]
        self._peak, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self._peak = max(self._peak, sum(rss_bytes(pid) for pid in self._pids))

    def stop(self) -> float:
        """The peak in MB."""
        self._over.set()
        self._thread.join()
        return self._peak / 2**20


@click.command()
@click.argument("pauses", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(1), default=40, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=20_000, show_default=True)
@click.option(
    "--minutes", type=click.FloatRange(2.0), default=20.0, show_default=True,
    help="Length of the long video.",
)  # fmt: skip
@click.option("--strides", default="1,0.5", show_default=True, help="Seconds, separated by commas.")
@click.option("--thresholds", default="0.5,0.9", show_default=True, help="Separated by commas.")
@bundle_option()
@out_option("timeline")
def main(
    pauses: Path, clips: int, seed: int, minutes: float, strides: str, thresholds: str,
    bundle: Path | None, out: Path,
) -> None:  # fmt: skip
    """Join clips with pauses cut out of PAUSES, and hold what is found against the truth."""
    sources = sorted(videos_below(pauses))
    if not sources:
        raise click.UsageError(f"{pauses} has no videos")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video, truth = join(folder, sources, clips, seed)
        server = Server(bundle or default_bundle_path(), folder / "log")
        try:
            server.wait_until_ready()
            found = _accuracy(server, video, truth, strides.split(","), thresholds.split(","))
            grown = _growth(server, folder, video, minutes)
        finally:
            server.stop()
    result = {
        **describe_run(torch.device("cpu")),
        "clips": clips, "seed": seed, "pauses": len(sources), "tiou": _TIOU,
        "accuracy": found, "growth": grown,
    }  # fmt: skip
    write_result(out, result)
    _show(result)


def _accuracy(
    server: Server,
    video: Path,
    truth: Sequence[Spoken],
    strides: Sequence[str],
    thresholds: Sequence[str],
) -> list[dict[str, Any]]:
    rows = []
    for (way, more), stride, threshold in itertools.product(WAYS.items(), strides, thresholds):
        query = {"stride": stride.strip(), "threshold": threshold.strip(), **more}
        run = go_through(server, video, query)
        held = score(run.segments, truth)
        rows.append(
            {
                "way": way,
                "stride": float(stride),
                "threshold": float(threshold),
                "f1": held.f1,
                **asdict(held),
                "closest_right": closest_right(run.looks, truth),
                "windows": run.windows,
                "skipped": run.skipped,
                "tokens": run.tokens,
                "video_seconds": run.video_seconds,
                "wall_seconds": run.wall_seconds,
            }
        )
    return rows


def _growth(server: Server, folder: Path, video: Path, minutes: float) -> list[dict[str, Any]]:
    """Two minutes, and the same over and over."""
    rows = []
    for length in (2.0, minutes):
        long = folder / "long.mp4"
        _ffmpeg("-stream_loop", "-1", "-i", video, "-t", str(_MINUTE * length), "-c", "copy", long)
        run = go_through(server, long, {"detail": "segments"})
        rows.append(
            {
                "minutes": length,
                "bytes": long.stat().st_size,
                "windows": run.windows,
                "peak_mb": run.peak_mb,
                "wall_seconds": run.wall_seconds,
                "seconds_of_video_a_second": run.video_seconds / run.wall_seconds,
            }
        )
    return rows


def _show(result: dict[str, Any]) -> None:
    console = Console()
    for title, rows in (("accuracy", result["accuracy"]), ("growth", result["growth"])):
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(
                *(text if isinstance(text, str) else f"{text:.4g}" for text in row.values())
            )
        console.print(table)


if __name__ == "__main__":
    main()
