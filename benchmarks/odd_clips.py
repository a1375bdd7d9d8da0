"""``python -m benchmarks.odd_clips``: do clips of odd shapes cost more than their pixels?

Clients choose the shape of their clips, and a few kilobytes can hold any. Each odd clip is turned
into views beside a 1080p clip of the same codec, in turns and in this process, and its CPU time is
given as a multiple of what 1080p costs for as many decoded pixels, and of the 1080p clip's as a
whole. One of the two has to stay below 3.
"""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.command_line import out_option
from benchmarks.decoding import plan_for
from benchmarks.record import describe_run, write_result
from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from bundle.sampling import frame_shares
from lookwhen.bench.samples import ratios
from video.facts import NO_LIMITS, ViewPlan
from video.reader import Video
from video.views import decode_views

REFERENCE = "1920x1080, 50 frames"
_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")

# Name: size, frames, how it is encoded, how it is cut.
_CLIPS: dict[str, tuple[str, int, tuple[str, ...], tuple[str, ...]]] = {
    REFERENCE: ("1920x1080", 50, _X264, ()),
    "8192x2, 20 frames": ("8192x2", 20, _X264, ()),
    "2x8192, 20 frames": ("2x8192", 20, _X264, ()),
    "4096x16, 100 frames": ("4096x16", 100, _X264, ()),
    "16x16, 4000 frames": ("16x16", 4000, _X264, ()),
    "64x64, 4000 frames, key frames only": ("64x64", 4000, (*_X264, "-g", "1"), ()),
    "4096x2160, 12 frames": ("4096x2160", 12, _X264, ()),
    "1920x1080, pixels of 1:8": ("1920x1080", 50, (*_X264, "-vf", "setsar=1/8"), ()),
    "1920x1080 in AVI, B-frames": ("1920x1080", 50, ("-c:v", "mpeg4", "-bf", "2"), ()),
    "1920x1080, cut without encoding": ("1920x1080", 100, _X264, ("-ss", "2")),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", type=click.IntRange(2), default=5, show_default=True)
@out_option("odd_clips")
def main(rounds: int, out: Path) -> None:
    """Measure what clips of odd shapes cost, against 1080p."""
    torch.set_num_threads(1)
    plan = plan_for(read_bundle(default_bundle_path()).manifest)
    with tempfile.TemporaryDirectory() as folder:
        clips = {name: _make(Path(folder), number, name) for number, name in enumerate(_CLIPS)}
    pixels = {name: _pixels(clip, plan) for name, clip in clips.items()}
    seconds: dict[str, list[float]] = {name: [] for name in clips}
    for turn in track(range(rounds + 1), "rounds", console=Console(stderr=True)):
        for name, clip in clips.items():
            taken = _cpu_seconds(clip, plan)
            if turn:  # the first round warms up
                seconds[name].append(taken)
    result: dict[str, Any] = describe_run(torch.device("cpu")) | {"rounds": rounds, "clips": {}}
    for name, taken_each in seconds.items():
        whole = ratios(taken_each, seconds[REFERENCE])
        share = pixels[name] / pixels[REFERENCE]
        result["clips"][name] = {
            "bytes": len(clips[name]),
            "decoded_megapixels": pixels[name] / 1e6,
            "cpu_seconds": sorted(taken_each)[len(taken_each) // 2],
            "of_a_1080p_clip": whole,
            "of_its_pixels": {key: value / share for key, value in whole.items()},
        }
    write_result(out, result)
    _show(result)


def _make(folder: Path, number: int, name: str) -> torch.Tensor:
    size, frames, encode, cut = _CLIPS[name]
    clip = folder / f"{number}.{'avi' if 'AVI' in name else 'mp4'}"
    source = f"testsrc2=size={size}:rate=25:duration={frames / 25}"
    _ffmpeg("-f", "lavfi", "-i", source, *encode, str(clip))
    if cut:
        whole, clip = clip, folder / f"{number}_cut.mp4"
        _ffmpeg(*cut, "-i", str(whole), "-c", "copy", str(clip))
    return torch.frombuffer(bytearray(clip.read_bytes()), dtype=torch.uint8)


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments], check=True)


def _pixels(clip: torch.Tensor, plan: ViewPlan) -> int:
    video = Video(clip)
    times = frame_shares(plan.frames, plan.temporal) * video.seconds
    return video.pixels_to_decode(sorted(times.ravel().tolist()))


def _cpu_seconds(clip: torch.Tensor, plan: ViewPlan) -> float:
    out = torch.empty(plan.shape, dtype=torch.uint8)
    began = time.process_time()
    decode_views(clip, out, plan, NO_LIMITS)
    return time.process_time() - began


def _show(result: dict[str, Any]) -> None:
    table = Table("clip", "KB", "CPU ms", "of a 1080p clip", "of 1080p by pixels", box=None)
    for name, row in result["clips"].items():
        whole, share = row["of_a_1080p_clip"], row["of_its_pixels"]
        table.add_row(
            name,
            f"{row['bytes'] / 1000:.0f}",
            f"{row['cpu_seconds'] * 1000:.0f}",
            f"{whole['median']:.2f} ({whole['low']:.2f}-{whole['high']:.2f})",
            f"{share['median']:.2f} ({share['low']:.2f}-{share['high']:.2f})",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
