"""Well-formed clips of many kinds, rendered by the project and encoded by FFmpeg."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.moving_things.encode import encode
from training.moving_things.labels import LABELS
from training.moving_things.render import render
from training.moving_things.scene import sample_scene

_SIZE, _FRAMES, _FPS = 64, 16, 16.0  # pixels, frames, frames per second
_X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast")
_SOUND = ("-f", "lavfi", "-i", "sine=duration=1")

# Name, inputs besides the pictures, and how to encode: what people upload, and in the last rows
# what they seldom do but FFmpeg reads all the same.
_KINDS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("h264.mp4", (), _X264),
    ("h264_sound.mp4", _SOUND, (*_X264, "-c:a", "aac")),
    ("h264_faststart.mp4", (), (*_X264, "-movflags", "+faststart", "-bf", "2", "-g", "4")),
    ("h264_fragments.mp4", (), (*_X264, "-g", "4", "-movflags", "frag_keyframe+empty_moov")),
    ("h264_10bit.mov", (), ("-c:v", "libx264", "-pix_fmt", "yuv422p10le")),
    ("hevc.mp4", (), ("-c:v", "libx265", "-x265-params", "log-level=none")),
    ("av1.mp4", (), ("-c:v", "libaom-av1", "-cpu-used", "8")),
    ("vp8.webm", _SOUND, ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")),
    ("vp9.webm", (), ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")),
    ("h264.mkv", _SOUND, (*_X264, "-c:a", "aac")),
    ("mpeg4.avi", _SOUND, ("-c:v", "mpeg4", "-c:a", "mp2")),
    ("mjpeg.avi", (), ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p")),
    ("prores.mov", (), ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le")),
    ("mpeg2.mkv", (), ("-c:v", "mpeg2video", "-r", "25")),
    ("ffv1.mkv", (), ("-c:v", "ffv1")),
    ("png.mov", (), ("-c:v", "png", "-frames:v", "4")),
)


class EncodingFailed(Exception):
    """FFmpeg did not make a clip; the text is its last words."""


def ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg command quietly.

    Raises:
        EncodingFailed: it could not do what it was told.
    """
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EncodingFailed(done.stderr.strip() or f"ffmpeg ended with {done.returncode}")


def write_clips(folder: Path, seed: int = 0, only: Sequence[str] = ()) -> dict[str, bytes]:
    """Write a clip of each kind into ``folder``, or ``only`` those; their bytes by file name.

    The pictures are the same for the same seed; so are the bytes, with the same FFmpeg.

    Raises:
        EncodingFailed: FFmpeg lacks one of the encoders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = folder / "pictures.mp4"
    found = {}
    for number, (name, inputs, options) in enumerate(_KINDS):
        label = LABELS[number % len(LABELS)]
        if only and name not in only:
            continue
        scene = sample_scene(
            label, np.random.default_rng([seed, number]), frames=_FRAMES, fps=_FPS, aspect=1.0
        )
        pictures.write_bytes(encode(render(scene, _SIZE).frames, _FPS))
        # Bit-exact: no encoder writes its version or the time of day.
        exact = ("-shortest", "-fflags", "+bitexact", "-flags:v", "+bitexact")
        ffmpeg("-i", pictures, *inputs, *options, *exact, folder / name)
        found[name] = (folder / name).read_bytes()
    pictures.unlink()
    return found
