"""A film is the clip as it is displayed, lit where it was told to be and dimmed elsewhere."""

import json
import mmap
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered_clips import ffmpeg, numbered, numbers_in, shown_by_ffmpeg
from numpy.typing import NDArray
from test_display import MATRICES, X264, with_matrix

from video.errors import ClipRefused, DecodingCancelled
from video.facts import NO_LIMITS
from video.film import encode_film

# From, until, start, end; x, y, width, height.
LEFT_AT_FIRST = [0.0, 0.5, 0.2, 0.2, 0.0, 0.0, 32.0, 32.0]


def film_of(clip: Path, out: Path, lit: list[list[float]], **options: Any) -> Path:
    data = torch.frombuffer(bytearray(clip.read_bytes()), dtype=torch.uint8)
    rows = torch.tensor(lit, dtype=torch.float64).reshape(-1, 8)
    room = mmap.mmap(-1, 1 << 24)
    size = encode_film(data, rows, room, options.pop("limits", NO_LIMITS), **options)
    out.write_bytes(room[:size])
    return out


def frames_of(clip: Path, *filters: str) -> NDArray[np.uint8]:
    """As ffmpeg shows them, uint8 [F, H, W, 3]."""
    shown = ffmpeg("-i", clip, "-vf", ",".join(["null", *filters]), "-fps_mode", "passthrough",
                   "-f", "image2pipe", "-c:v", "ppm", "-")  # fmt: skip
    header = re.match(rb"P6\n(\d+) (\d+)\n255\n", shown.stdout)
    assert header is not None
    width, height = int(header[1]), int(header[2])
    frames = np.frombuffer(shown.stdout, np.uint8).reshape(-1, header.end() + height * width * 3)
    assert (frames[:, : header.end()] == frames[0, : header.end()]).all()
    return frames[:, header.end() :].reshape(-1, height, width, 3)


def probe(clip: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(clip)],
        capture_output=True, check=True,
    )  # fmt: skip
    (stream,) = json.loads(done.stdout)["streams"]
    assert isinstance(stream, dict)
    return stream


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "pattern.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=10:duration=1", *X264, out)
    return out


@pytest.mark.parametrize("name", ["as it is", "a quarter clockwise", "left and right mirrored"])
@pytest.mark.parametrize("aspect", ["1/1", pytest.param("3/2", marks=pytest.mark.slow)])
def test_it_is_lit_where_it_is_displayed(
    tmp_path: Path, pattern: Path, name: str, aspect: str
) -> None:
    shaped = tmp_path / "shaped.mp4"
    ffmpeg("-i", pattern, "-vf", f"setsar={aspect}", *X264, shaped)
    clip = with_matrix(shaped, tmp_path / "clip.mp4", MATRICES[name])
    film = film_of(clip, tmp_path / "film.mp4", [LEFT_AT_FIRST])
    facts = probe(film)
    width, height = (144 if aspect == "3/2" else 96), 64
    if name == "a quarter clockwise":
        width, height = height, width
    assert (facts["width"], facts["height"]) == (width, height)
    shown = frames_of(clip, f"scale={width}:{height}").astype(int)
    made = frames_of(film).astype(int)
    assert made.shape == shown.shape
    lit = np.zeros(shown.shape[:3], bool)
    lit[:5, :32, :32] = True
    off = np.abs(made - np.where(lit[..., None], shown, shown // 4)).mean(axis=-1)
    assert off[lit].mean() < 8, "what is lit is as it was, but for what a codec loses"
    assert off[~lit].mean() < 8
    # A picture of strong colours, so that lit and dimmed are far apart.
    assert np.abs(shown - shown // 4)[lit].mean() > 20


def test_it_plays_in_browsers(tmp_path: Path, pattern: Path) -> None:
    film = film_of(pattern, tmp_path / "film.mp4", [LEFT_AT_FIRST])
    facts = probe(film)
    assert (facts["codec_name"], facts["pix_fmt"]) == ("h264", "yuv420p")
    assert facts["avg_frame_rate"] == facts["r_frame_rate"] == "10/1"
    assert facts["nb_frames"] == "10"
    assert float(facts["duration"]) == pytest.approx(1.0, abs=1e-3)
    assert facts["color_space"] == "smpte170m"
    content = film.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "it plays before all of it is there"


@pytest.mark.parametrize(
    ("size", "rate", "expected"), [("97x65", "30000/1001", "96x64"), ("2x50", "25", "2x50")]
)
def test_odd_sizes_and_rates(tmp_path: Path, size: str, rate: str, expected: str) -> None:
    clip = tmp_path / "clip.mkv"
    ffmpeg("-f", "lavfi", "-i", f"color=white:size={size}:rate={rate}:duration=1", "-c:v", "ffv1",
           clip)  # fmt: skip
    facts = probe(film_of(clip, tmp_path / "film.mp4", []))
    assert f"{facts['width']}x{facts['height']}" == expected
    shown = float(np.divide(*map(int, facts["avg_frame_rate"].split("/"))))
    assert shown == pytest.approx(
        float(np.divide(*map(int, (*rate.split("/"), "1")[:2]))), rel=1e-3
    )


def test_frames_that_do_not_follow_evenly_are_shown_as_long_as_they_were(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, select="select='not(between(n,10,39))'")
    shown = shown_by_ffmpeg(clip)
    everywhere = [0.0, 100.0, 0.0, 0.0, 0.0, 0.0, 64.0, 64.0]
    film = film_of(clip, tmp_path / "film.mp4", [everywhere])
    rate = float(np.divide(*map(int, probe(film)["avg_frame_rate"].split("/"))))
    numbers = numbers_in(frames_of(film))
    assert numbers == [shown.at(place / rate) for place in range(len(numbers))]
    assert len(numbers) / rate == pytest.approx(shown.times[-1] + 0.04, abs=0.1)


def test_each_place_is_lit_in_its_time_and_in_the_frame_that_was_seen(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=white:size=64x64:rate=4:duration=2", *X264, clip)
    film = film_of(clip, tmp_path / "film.mp4", [
        [0.5, 1.0, 0.5, 0.5, 0, 0, 32, 32],  # frames 2 and 3
        [0.30, 0.31, 0.30, 0.30, 32, 0, 32, 32],  # less than a frame: frame 1
        [0.0, 0.0, 1.0, 1.3, 0, 32, 32, 32],  # a tubelet of frames 4 and 5
    ])  # fmt: skip
    made = frames_of(film).mean(axis=-1)
    lit = made.reshape(8, 2, 32, 2, 32).mean(axis=(2, 4)) > 128
    assert np.flatnonzero(lit[:, 0, 0]).tolist() == [2, 3]
    assert np.flatnonzero(lit[:, 0, 1]).tolist() == [1]
    assert np.flatnonzero(lit[:, 1, 0]).tolist() == [0, 1, 2, 3, 4, 5]
    assert not lit[:, 1, 1].any()


def test_what_cannot_be_filmed_is_refused(tmp_path: Path, pattern: Path) -> None:
    few = replace(NO_LIMITS, max_decoded_pixels=9 * 96 * 64)
    with pytest.raises(ClipRefused, match="too_much_decoding"):
        film_of(pattern, tmp_path / "film.mp4", [], limits=few)
    with pytest.raises(DecodingCancelled):
        film_of(pattern, tmp_path / "film.mp4", [], cancelled=lambda: True)
    data = torch.frombuffer(bytearray(pattern.read_bytes()), dtype=torch.uint8)
    nothing = torch.zeros(0, 8, dtype=torch.float64)
    with pytest.raises(ClipRefused, match="decode_memory_exceeded"):
        encode_film(data, nothing, mmap.mmap(-1, 4096), NO_LIMITS)
