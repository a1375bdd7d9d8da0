"""Clips whose frames tell their number, made by ffmpeg, and what ffmpeg shows of them."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from video.facts import NO_LIMITS, ClipFacts, ViewPlan
from video.views import decode_views

SIDE, BITS = 64, 8
_STRIPE = SIDE // BITS
NUMBERS = f"format=gray,geq=lum='255*mod(floor(N/pow(2,floor(X/{_STRIPE}))),2)',format=yuv420p"


def ffmpeg(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg; its last words are the failure's message."""
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done


def numbered(
    out: Path,
    *encode: str,
    frames: int = 60,
    rate: int = 25,
    select: str = "",
    number: str = NUMBERS,
) -> Path:
    """Frame n shows n in binary, in stripes; ``select`` drops some, so that the rate varies."""
    source = f"color=black:size={SIDE}x{SIDE}:rate={rate}:duration={frames / rate}"
    filters = number + (f",{select}" if select else "")
    ffmpeg("-f", "lavfi", "-i", source, "-vf", filters, "-fps_mode", "passthrough", *encode, out)
    return out


def numbers_in(frames: NDArray[np.uint8]) -> list[int]:
    """uint8 [F, H, W, 3] or [F, H, W] -> the number that each frame shows."""
    if frames.ndim == 4:
        frames = frames.mean(axis=-1)
    stripe = frames.shape[2] // BITS
    middle = frames[:, :, stripe // 2 :: stripe].mean(axis=1)  # [F, BITS]
    bits = middle > 127
    return [int(sum(1 << b for b in range(BITS) if row[b])) for row in bits]


@dataclass(frozen=True)
class Shown:
    """What ffmpeg shows: each frame's number and its time in seconds after the first."""

    numbers: list[int]
    times: list[float]

    def at(self, seconds: float, play: float = 1e-3) -> int:
        """The last frame with a time stamp at or before ``seconds``."""
        before = [n for n, time in zip(self.numbers, self.times, strict=True)
                  if time <= seconds + play]  # fmt: skip
        return before[-1] if before else self.numbers[0]


def shown_by_ffmpeg(clip: Path) -> Shown:
    done = ffmpeg("-i", clip, "-map", "0:v:0", "-fps_mode", "passthrough", "-vf",
                  f"showinfo,scale={SIDE}:{SIDE}", "-pix_fmt", "gray", "-f", "rawvideo",
                  "-")  # fmt: skip
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, SIDE, SIDE)
    times = [float(found) for found in re.findall(rb"pts_time:\s*(-?[\d.]+)", done.stderr)]
    assert len(times) == len(frames), "ffmpeg tells no time of some frame"
    return Shown(numbers_in(frames), [time - times[0] for time in times])


def views_of(clip: Path | bytes, plan: ViewPlan) -> tuple[NDArray[np.uint8], ClipFacts]:
    """uint8 [V, T, H, W, 3] and what was found out, by the code that serving and training share."""
    content = clip if isinstance(clip, bytes) else clip.read_bytes()
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    out = torch.zeros(plan.shape, dtype=torch.uint8)
    facts = decode_views(data, out, plan, NO_LIMITS)
    return out.numpy(), facts
