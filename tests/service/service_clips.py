"""Clips made with the ffmpeg command while the tests run: nothing is shipped."""

import subprocess
from pathlib import Path


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg quietly; its last words are the failure's message."""
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def pattern(out: Path, *encode: str, size: str = "160x120", rate: int = 10, seconds: float = 2,
            filters: str = "null") -> Path:  # fmt: skip
    """A moving test pattern."""
    source = f"testsrc2=size={size}:rate={rate}:duration={seconds}"
    ffmpeg("-f", "lavfi", "-i", source, "-vf", filters, *encode, out)
    return out


def plain(out: Path, colour: str, *, seconds: float = 2) -> Path:
    """One colour all over, 64x64 pixels."""
    source = f"color={colour}:size=64x64:rate=10:duration={seconds}"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p", out)
    return out


def square(out: Path, *, side: int = 16, seconds: float = 2) -> Path:
    """A white square of one token on black, 64x64 pixels, in the second row and column."""
    source = f"color=black:size=64x64:rate=10:duration={seconds}"
    box = f"drawbox=x=16:y=16:w={side}:h={side}:color=white:t=fill"
    ffmpeg("-f", "lavfi", "-i", source, "-vf", box, "-c:v", "libx264", "-crf", "10",
           "-pix_fmt", "yuv420p", out)  # fmt: skip
    return out
