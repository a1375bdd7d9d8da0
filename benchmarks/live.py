"""``python -m benchmarks.live PAUSES``: does a stream need a selection anew for each window?

Windows that roll over a stream by half of their length see each frame twice. So what was selected
of the frames that two share could be kept. Three ways are held against each other on the same
windows of the same video, made as by :mod:`benchmarks.timeline`:

- anew: the selector looks at each window, and the best K tokens of it are kept, as LookWhen does.
- kept: of the frames that were seen before, the tokens that were selected then are kept; of the new
  ones the best that are left to K. The selector looks at each window all the same: for their
  scores, and for the context that it hands on.
- every other: the selector looks at every second window. The others take over what was selected of
  the frames that they share with it, the same places again in the new ones, and its context.

The segments of each are held against the truth. Then ``lookwhen watch`` watches the beginning of
that video in real time, and its events say how late they are.
"""

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import bundle_option, out_option
from benchmarks.record import describe_run, write_result
from benchmarks.splicing import NO_EVENTS, Spoken, ffmpeg, join, rendered
from benchmarks.timeline import score
from bundle.built_in import default_bundle_path
from bundle.schema import Manifest
from bundle.scores import is_unknown, probabilities_of
from lookwhen.ask import local_pipeline
from service.observability.timing import Trace
from service.pipeline.pipeline import Pipeline
from service.pipeline.segments import Cell, Merger, Presence
from service.pipeline.stages import SelectedViews, Times
from service.settings import Settings
from startup.path import child_environment, python_command
from video.facts import NO_LIMITS
from video.files import videos_below
from video.passage import decode_passage
from video.passages import PassagePlan

WAYS = ("anew", "kept", "every other")
# Seconds of a window, and whether it lies within shots: a clip has two seconds, and windows as long
# as it share frames only where they slide over its edges.
PLACES = {"2 s, over cuts": (2.0, False), "1 s, within shots": (1.0, True)}
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Looked:
    """What one way made of all windows.

    Attributes:
        scores: float64 [classes] of each.
        unknown: of each, whether the bundle says that it has no label for it.
        selections: how often the selector looked.
        same: share of the tokens that a selection anew would have kept as well.
    """

    scores: list[NDArray[np.float64]]
    unknown: list[bool]
    selections: int
    same: float


def shifted(before: NDArray[np.int64], grid: tuple[int, int, int]) -> NDArray[np.int64]:
    """Places int64 [K] in the second half of a window as they are in the first half of the next."""
    half = grid[0] // 2 * grid[1] * grid[2]
    return before[before >= half] - half


def kept_places(
    before: NDArray[np.int64],
    scores: NDArray[np.float32],
    kept: int,
    grid: tuple[int, int, int],
) -> NDArray[np.int64]:
    """What was selected of the shared frames, and the best of the new ones: int64 [K], ascending.

    Args:
        before: int64 [K], of the window half a length before.
        scores: float32 [N], of this one.
    """
    half = grid[0] // 2 * grid[1] * grid[2]
    old = shifted(before, grid)
    order = np.argsort(-scores[half:], kind="stable") + half
    return np.sort(np.concatenate([old, order[: kept - len(old)]]))


def repeated_places(before: NDArray[np.int64], grid: tuple[int, int, int]) -> NDArray[np.int64]:
    """What was selected of the shared frames, there and at the same places of the new ones.

    As many as before where half of the window had half of them; the nearest to that else.
    """
    half = grid[0] // 2 * grid[1] * grid[2]
    old = shifted(before, grid)
    missing = len(before) - 2 * len(old)
    again = np.concatenate([old, old + half])
    others = np.setdiff1d(before, again)
    return np.sort(np.concatenate([again, others[: max(0, missing)]])[: len(before)])


class _Windows:
    """The windows of a video, each half its length behind the one before."""

    def __init__(self, video: Path, manifest: Manifest, window: float, *, cuts: bool) -> None:
        self.window, self.stride = window, window / 2
        seconds = float(
            subprocess.run(
                ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0",
                 str(video)],
                capture_output=True, text=True, check=True,
            ).stdout
        )  # fmt: skip
        plan = PassagePlan.of(
            manifest.geometry, manifest.sampling, start=0.0, window=window, stride=self.stride,
            windows=int(2 * seconds / self.stride) + 16, since=None, until=None,
            cuts=cuts, zero=None,
        )  # fmt: skip
        out = torch.zeros(plan.shape, dtype=torch.uint8)
        places = torch.zeros(plan.places_shape, dtype=torch.float64)
        with video.open("rb") as file:
            facts = decode_passage(file.fileno(), out, places, plan, NO_LIMITS)
        self.frames = out[: facts.windows].numpy()
        self.places = places[: facts.windows].numpy()

    def follow(self, number: int) -> bool:
        """Whether a window shares half of its frames with the one before."""
        if not number:
            return False
        before, here = self.places[number - 1], self.places[number]
        return bool(before[0] == here[0] and abs(here[1] - before[1] - self.stride) < 1e-3)

    def cells(self, looked: Looked) -> Iterator[Cell]:
        said = zip(self.places, looked.scores, looked.unknown, strict=True)
        for place, scores, unknown in said:
            yield Cell(
                place[2], place[3], int(place[6]), int(place[7]), scores, unknown, int(place[0])
            )


async def _look(pipeline: Pipeline, windows: _Windows, kept: int, way: str) -> Looked:
    """Go through all windows in one way."""
    grid, answer = pipeline.manifest.geometry.grid, pipeline.manifest.answer
    sparsity = pipeline.policy.default.sparsity
    found, unknown, selections, same = list[NDArray[np.float64]](), list[bool](), 0, list[float]()
    before: NDArray[np.int64] | None = None
    context: NDArray[np.float32] | None = None
    borrowed = False
    for number in range(len(windows.frames)):
        now = time.monotonic() + _PATIENCE_SECONDS
        times = Times(Trace(), now, now)
        frames = windows.frames[number : number + 1]
        follows = windows.follow(number) and before is not None
        if way == "every other" and follows and not borrowed:
            assert before is not None
            assert context is not None
            places, borrowed = repeated_places(before, grid), True
        else:
            view = await pipeline.stages.score(frames, times)
            selections, borrowed, context = selections + 1, False, view.context
            best = np.sort(view.ranking[0, :kept])
            places = best
            if way == "kept" and follows:
                assert before is not None
                places = kept_places(before, view.scores[0], kept, grid)
                same.append(len(np.intersect1d(places, best)) / kept)
        chosen = SelectedViews(frames, np.zeros((1, 0), np.float32), places[None], context)
        done = await pipeline.stages.extract(chosen, len(places), times)
        found.append(probabilities_of(done.logits, answer, sparsity))
        unknown.append(bool(is_unknown(found[-1], done.video, answer, sparsity)))
        before = places
    return Looked(found, unknown, selections, float(np.mean(same)) if same else 1.0)


async def _compare(
    bundle: Path, video: Path, truth: list[Spoken], thresholds: list[float]
) -> list[dict[str, Any]]:
    rows = []
    async with local_pipeline(Settings(bundle=bundle, decode_workers=1)) as pipeline:
        manifest = pipeline.manifest
        kept = pipeline.policy.default.kept
        for lie, (window, cuts) in PLACES.items():
            windows = _Windows(video, manifest, window, cuts=cuts)
            for way in WAYS:
                looked = await _look(pipeline, windows, kept, way)
                macs = looked.selections * manifest.macs.selector
                macs += len(windows.frames) * (manifest.macs.at(kept) - manifest.macs.selector)
                for threshold in thresholds:
                    held = score(_segments(manifest, windows, looked, threshold), truth)
                    rows.append(
                        {
                            "windows_lie": lie,
                            "way": way,
                            "threshold": threshold,
                            "f1": held.f1,
                            **asdict(held),
                            "windows": len(windows.frames),
                            "selections": looked.selections,
                            "macs": macs,
                            "same_tokens": looked.same,
                        }
                    )
    return rows


def _segments(
    manifest: Manifest, windows: _Windows, looked: Looked, threshold: float
) -> list[Spoken]:
    presence = Presence.of(manifest.answer, len(manifest.labels), threshold, threshold)
    merger = Merger(presence, windows.window, windows.stride)
    segments = [s for cell in windows.cells(looked) for s in merger.add(cell)]
    segments += merger.finish()
    return [
        Spoken(manifest.labels[s.label], s.start, s.end)
        for s in segments
        if manifest.labels[s.label] not in NO_EVENTS
    ]


def _latency(video: Path, bundle: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """Watch the beginning of the video in real time, as a camera sends it: without frames that are
    shown in another order."""
    part = folder / "part.mp4"
    ffmpeg("-i", video, "-t", str(seconds), "-c:v", "libx264", "-bf", "0", "-g", "32", part)
    done = subprocess.run(
        python_command("-m", "lookwhen", "watch", str(part), "--bundle", str(bundle)),
        capture_output=True, text=True, check=True, env=child_environment(),
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    # What the end of the video ends waits for no window.
    late = [
        line["event"]["latency_seconds"]
        for line in lines
        if "event" in line and line["event"]["seconds"] < seconds - 2
    ]
    counted = lines[-1]["done"]
    return {
        "seconds": seconds,
        "events": len(late), "median": float(np.median(late)), "most": max(late),
        "dropped_frames": counted["dropped_frames"], "windows": counted["windows"],
        "skipped_windows": counted["skipped_windows"],
    }  # fmt: skip


@click.command()
@click.argument("pauses", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(1), default=30, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--thresholds", default="0.5,0.9", show_default=True)
@click.option("--seconds", type=click.FloatRange(4), default=60.0, show_default=True,
              help="Of the video that are watched in real time.")  # fmt: skip
@bundle_option()
@out_option("live")
def main(
    pauses: Path, clips: int, seed: int, thresholds: str, seconds: float, bundle: Path | None,
    out: Path,
) -> None:  # fmt: skip
    """Join rendered clips with pauses cut out of PAUSES; select anew, or keep what was selected."""
    sources = sorted(videos_below(pauses))
    if not sources:
        raise click.UsageError(f"{pauses} has no videos")
    path = bundle or default_bundle_path()
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(seed)
        video, truth = join(folder, sources, rendered(folder, clips, rng), rng)
        marks = [float(text) for text in thresholds.split(",")]
        rows = asyncio.run(_compare(path, video, truth, marks))
        late = _latency(video, path, folder, seconds)
    result = {
        **describe_run(torch.device("cpu")),
        "clips": len(truth), "seed": seed, "pauses": len(sources), "selection": rows,
        "latency": late,
    }  # fmt: skip
    write_result(out, result)
    console = Console()
    for title, shown in (("selection", rows), ("latency", [late])):
        table = Table(*shown[0], title=title)
        for row in shown:
            table.add_row(*(v if isinstance(v, str) else f"{v:.4g}" for v in row.values()))
        console.print(table)


if __name__ == "__main__":
    main()
