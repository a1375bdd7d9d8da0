"""``python -m benchmarks.timeline PAUSES``: what does a timeline find, and what does it cost?

Fresh rendered clips in which something happens are joined with pauses of other footage between
them, which is cut out of the videos in the folder PAUSES. Where nothing of the kind happens the
model says that nothing moves, or that the camera does: those segments are left out. With --index
the clips are those of a CSV file, and --bundle has their labels. A service goes
through the joined video, and its segments are held against the truth: F1 at a temporal intersection
over union of at least 0.5, of segments of the same label; with windows that slide over cuts, with
windows within shots, and with those alone that the selector proposes. Then a video of two minutes
and the same repeated are gone through for memory and cost.
"""

import itertools
import json
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
from benchmarks.splicing import NO_EVENTS, Spoken, ffmpeg, fitted, join, listed, rendered
from bundle.built_in import default_bundle_path
from video.files import videos_below

_TIOU = 0.5
# What is compared, as parameters.
WAYS = {
    "over cuts": {"cuts": "false"},
    "within shots": {"cuts": "true"},
    "proposed": {"cuts": "true", "windows": "auto"},
}
_MINUTE = 60.0


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


def go_through(
    server: Server, video: Path, query: dict[str, str], nothing: Sequence[str] = NO_EVENTS
) -> Run:
    """Have a service go through a video; segments that say ``nothing`` are left out."""
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
         for line in lines if (s := line.get("segment")) and s["label"] not in nothing],
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
@click.option(
    "--index",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV file of clips with the columns path and label, in the place of rendered ones.",
)
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="Clips of INDEX that are taken."
)
@click.option(
    "--nothing",
    multiple=True,
    default=NO_EVENTS,
    show_default=True,
    help="Labels that say that nothing happens.",
)
@bundle_option()
@out_option("timeline")
def main(
    pauses: Path, clips: int, seed: int, minutes: float, strides: str, thresholds: str,
    index: Path | None, where: tuple[str, ...], nothing: tuple[str, ...], bundle: Path | None,
    out: Path,
) -> None:  # fmt: skip
    """Join clips with pauses cut out of PAUSES, and hold what is found against the truth."""
    sources = sorted(videos_below(pauses))
    if not sources:
        raise click.UsageError(f"{pauses} has no videos")
    found_there = None
    if index is not None:
        if any("=" not in text for text in where):
            raise click.UsageError("--where takes COLUMN=VALUE")
        found_there = listed(index, dict(text.split("=", 1) for text in where), nothing)
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(seed)
        pieces = rendered(folder, clips, rng)
        if found_there is not None:
            pieces = fitted(folder, found_there, clips, rng)
        video, truth = join(folder, sources, pieces, rng)
        server = Server(bundle or default_bundle_path(), folder / "log")
        try:
            server.wait_until_ready()
            found = _accuracy(
                server, video, truth, strides.split(","), thresholds.split(","), nothing
            )
            grown = _growth(server, folder, video, minutes)
        finally:
            server.stop()
    result = {
        **describe_run(torch.device("cpu")),
        "clips": len(truth), "real": index is not None, "seed": seed,
        "pauses": len(sources), "tiou": _TIOU,
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
    nothing: Sequence[str],
) -> list[dict[str, Any]]:
    rows = []
    for (way, more), stride, threshold in itertools.product(WAYS.items(), strides, thresholds):
        query = {"stride": stride.strip(), "threshold": threshold.strip(), **more}
        run = go_through(server, video, query, nothing)
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
        ffmpeg("-stream_loop", "-1", "-i", video, "-t", str(_MINUTE * length), "-c", "copy", long)
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
