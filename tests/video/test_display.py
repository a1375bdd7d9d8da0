"""Frames come out as they are displayed: turned, mirrored, with square pixels."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_clips import ffmpeg, views_of
from numpy.typing import NDArray

from video.errors import ClipRefused
from video.facts import NO_LIMITS, ViewPlan
from video.orientation import orientation, track_matrices
from video.reader import Video
from video.views import decode_views

pytestmark = pytest.mark.slow

X264 = ("-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p")
WIDTH, HEIGHT = 96, 64

# All turns and mirrors of a picture, as the numbers a, b, c, d of a display matrix.
MATRICES = {
    "as it is": (1, 0, 0, 1),
    "a quarter clockwise": (0, 1, -1, 0),
    "half a turn": (-1, 0, 0, -1),
    "a quarter counter-clockwise": (0, -1, 1, 0),
    "left and right mirrored": (-1, 0, 0, 1),
    "top and bottom mirrored": (1, 0, 0, -1),
    "mirrored along one diagonal": (0, 1, 1, 0),
    "mirrored along the other": (0, -1, -1, 0),
}


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No turn and no mirror of it looks like another: a white corner, a grey edge."""
    out = tmp_path_factory.mktemp("clips") / "lopsided.mp4"
    box = (
        "drawbox=x=0:y=0:w=48:h=24:color=white:t=fill,drawbox=x=0:y=52:w=96:h=12:color=gray:t=fill"
    )
    ffmpeg("-f", "lavfi", "-i", f"color=black:size={WIDTH}x{HEIGHT}:rate=10:duration=1",
           "-vf", box, *X264, out)  # fmt: skip
    return out


def with_matrix(clip: Path, out: Path, matrix: tuple[int, ...], of: bytes = b"tkhd") -> Path:
    content = bytearray(clip.read_bytes())
    place = content.index(of) + 4 + {b"tkhd": 40, b"mvhd": 36}[of]
    a, b, c, d = (number * 65536 for number in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    out.write_bytes(content)
    return out


def shown(clip: Path, filters: str = "null") -> NDArray[np.uint8]:
    """The first frame as ffmpeg's autorotation shows it, uint8 [H, W, 3]."""
    picture = clip.with_suffix(".png")
    ffmpeg("-i", clip, "-vf", filters, "-frames:v", "1", picture)
    raw = ffmpeg("-i", picture, "-pix_fmt", "rgb24", "-f", "rawvideo", "-").stdout
    size = picture.read_bytes()[16:24]
    width, height = struct.unpack(">II", size)
    return np.frombuffer(raw, np.uint8).reshape(height, width, 3)


def first_frame(clip: Path) -> tuple[NDArray[np.uint8], Video]:
    video = Video(torch.frombuffer(bytearray(clip.read_bytes()), dtype=torch.uint8))
    pixels = video.at(0).pixels[0].permute(1, 2, 0)
    return pixels.numpy(), video


@pytest.mark.parametrize("of", [b"tkhd", b"mvhd"])
@pytest.mark.parametrize("name", MATRICES)
def test_all_eight_orientations(tmp_path: Path, lopsided: Path, name: str, of: bytes) -> None:
    clip = with_matrix(lopsided, tmp_path / "turned.mp4", MATRICES[name], of)
    expected = shown(clip)
    frame, video = first_frame(clip)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected.astype(int)).mean() < 4
    assert (video.height, video.width) == expected.shape[:2]
    plan = ViewPlan(temporal=1, spatial=1, frames=2, size=64, short_side=64)
    _, facts = views_of(clip, plan)
    assert (facts.width, facts.height) == (expected.shape[1], expected.shape[0])
    # Turning the stored frame by so much, and then mirroring it, gives what is displayed.
    stored, _ = first_frame(lopsided)
    upright = np.rot90(stored, facts.rotation_degrees // 90)
    upright = upright[:, ::-1] if facts.mirrored else upright
    assert np.abs(upright.astype(int) - expected.astype(int)).mean() < 4
    assert facts.mirrored == ("mirrored" in name)


def test_matrices_of_several_tracks_are_told_apart(tmp_path: Path, lopsided: Path) -> None:
    both = tmp_path / "both.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-i", lopsided, "-map", "0:a", "-map", "1:v",
           "-c:v", "copy", "-c:a", "aac", both)  # fmt: skip
    content = both.read_bytes()
    second = content.index(b"tkhd", content.index(b"tkhd") + 4)
    turned = bytearray(content)
    turned[second + 44 : second + 64] = struct.pack(">5i", -65536, 0, 0, 0, 65536)
    assert track_matrices(memoryview(turned)) == [(1, 0, 0, 1), (-1, 0, 0, 1)]


@pytest.mark.parametrize("cut", [8, 40, 60, 200])
def test_boxes_that_end_too_early_are_no_matrix(lopsided: Path, cut: int) -> None:
    content = lopsided.read_bytes()
    movie = content.index(b"moov") - 4
    damaged = content[:movie] + content[movie : movie + cut]
    found = track_matrices(memoryview(damaged))
    assert not found or found == [(1, 0, 0, 1)]
    assert track_matrices(memoryview(b"\x1a\x45\xdf\xa3" + content)) is None
    assert orientation(None, float("nan")).flip is None


@pytest.mark.parametrize("seed", range(20))
def test_damaged_boxes_end_the_reading(lopsided: Path, seed: int) -> None:
    content = np.frombuffer(lopsided.read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(seed)
    movie = content.tobytes().index(b"moov") - 4
    places = rng.integers(movie, len(content), 40)
    content[places] = rng.integers(0, 256, 40)
    found = track_matrices(memoryview(content.tobytes()))
    assert found is None or all(len(matrix) == 4 for matrix in found)


@pytest.mark.parametrize(
    ("container", "turned"),
    [(name, False) for name in ("mp4", "mkv", "avi", "ts", "mpg", "mov")]
    + [("mp4", True), ("mov", True)],
)
def test_pixels_that_are_not_square(tmp_path: Path, container: str, turned: bool) -> None:
    """A disc on 720x576 pixels of 64:45 reaches the network as a disc."""
    out = tmp_path / f"pal.{container}"
    disc = "geq=lum='255*lte(hypot((X-360)*64/45,Y-288),200)':cb=128:cr=128"
    codec = (
        X264 if container in ("mp4", "mkv", "mov", "ts") else ("-c:v", "mpeg2video", "-q:v", "2")
    )
    codec = ("-c:v", "mpeg4", "-q:v", "2") if container == "avi" else codec
    ffmpeg("-f", "lavfi", "-i", "color=black:size=720x576:rate=25:duration=1", "-vf",
           f"{disc},setsar=64/45", *codec, out)  # fmt: skip
    if turned:
        out = with_matrix(out, tmp_path / f"turned.{container}", MATRICES["a quarter clockwise"])
    plan = ViewPlan(temporal=1, spatial=1, frames=2, size=128, short_side=128)
    frames, facts = views_of(out, plan)
    white = frames[0, 0].mean(axis=-1) > 127
    high, wide = white.any(axis=1).sum(), white.any(axis=0).sum()
    assert abs(high - 400 * 128 / 576) <= 2
    assert abs(int(high) - int(wide)) <= 2
    assert (facts.width, facts.height) == ((576, 1024) if turned else (1024, 576))


def test_limits_are_those_of_the_display(tmp_path: Path) -> None:
    out = tmp_path / "wide.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=black:size=64x64:rate=10:duration=1", "-vf", "setsar=4/1",
           *X264, out)  # fmt: skip
    content = torch.frombuffer(bytearray(out.read_bytes()), dtype=torch.uint8)
    plan = ViewPlan(temporal=1, spatial=1, frames=2, size=64, short_side=64)
    for most, refused in ((64 * 256, False), (64 * 256 - 1, True)):
        limits = NO_LIMITS.__class__(8, most, 10, 100, 100, 1 << 40)
        target = torch.zeros(plan.shape, dtype=torch.uint8)
        if refused:
            with pytest.raises(ClipRefused) as caught:
                decode_views(content, target, plan, limits)
            assert (caught.value.code, caught.value.found) == ("too_many_pixels", 64 * 256)
        else:
            assert decode_views(content, target, plan, limits).width == 256


@pytest.mark.parametrize("container", ["mp4", "m4v", "mov"])
def test_a_songs_cover_is_no_video(tmp_path: Path, container: str) -> None:
    cover, song = tmp_path / "cover.png", tmp_path / f"song.{container}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1", cover)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-i", cover, "-map", "0", "-map", "1", "-c:a",
           "aac", "-c:v", "mjpeg", "-disposition:v:0", "attached_pic", song)  # fmt: skip
    with pytest.raises(ClipRefused, match="no_video_stream"):
        first_frame(song)


def test_a_cover_in_matroska_is_no_video(tmp_path: Path) -> None:
    cover, song = tmp_path / "cover.jpg", tmp_path / "song.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1", cover)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-attach", cover, "-metadata:s:t",
           "mimetype=image/jpeg", "-c:a", "aac", song)  # fmt: skip
    with pytest.raises(ClipRefused, match="no_video_stream"):
        first_frame(song)


def test_a_film_with_a_cover_is_a_film(tmp_path: Path, lopsided: Path) -> None:
    cover, film = tmp_path / "cover.png", tmp_path / "film.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x320", "-frames:v", "1", cover)
    ffmpeg("-i", lopsided, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-c:v:1", "mjpeg",
           "-disposition:v:1", "attached_pic", film)  # fmt: skip
    _, video = first_frame(film)
    assert (video.width, video.height, video.count) == (WIDTH, HEIGHT, 10)


def test_interlaced_frames_stay_woven(tmp_path: Path) -> None:
    """Neither field is made up: what is stored is what is seen, as FFmpeg shows it by itself."""
    clip = tmp_path / "interlaced.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=50:duration=1", "-vf",
           "tinterlace=interleave_top", "-c:v", "libx264", "-crf", "8", "-flags", "+ilme+ildct",
           "-pix_fmt", "yuv420p", clip)  # fmt: skip
    frame, video = first_frame(clip)
    assert video.count == 25
    assert np.abs(frame.astype(int) - shown(clip).astype(int)).mean() < 3


def test_hdr_is_not_tone_mapped(tmp_path: Path) -> None:
    """Colours are converted by the clip's own matrix, and their curve is left as it is."""
    clip = tmp_path / "hdr.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=10:duration=1", "-vf",
           "scale=out_color_matrix=bt2020nc,format=yuv420p10le", "-c:v", "libx265",
           "-x265-params", "log-level=error:crf=4:colorprim=bt2020:transfer=smpte2084:"
           "colormatrix=bt2020nc", clip)  # fmt: skip
    frame, _ = first_frame(clip)
    assert np.abs(frame.astype(int) - shown(clip).astype(int)).mean() < 4


def test_pixels_without_a_height_are_undecodable(tmp_path: Path) -> None:
    """PNG in QuickTime may say 1/0, of which torchcodec makes no fraction."""
    clip = tmp_path / "clip.mov"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=16x16:r=10:d=0.4", "-vf", "setsar=2/1", "-c:v", "png",
           clip)  # fmt: skip
    content = bytearray(clip.read_bytes())
    place = content.find(b"pHYs")
    assert place > 0
    while place > 0:
        content[place + 4 : place + 12] = struct.pack(">II", 1, 0)
        place = content.find(b"pHYs", place + 4)
    content = bytearray(content.replace(b"pasp", b"free"))
    clip.write_bytes(content)
    with pytest.raises(ClipRefused, match="undecodable"):
        first_frame(clip)


@pytest.mark.parametrize(
    ("turned", "degrees"), [(80, 90), (-80, 270), (44, 0), (89.4, 90), (135, 180), (-90, 270)]
)
def test_angles_are_rounded_as_the_decoder_rounds_them(turned: float, degrees: int) -> None:
    assert orientation(None, turned).degrees == degrees


def test_too_many_frames_are_refused_before_anything_is_done_for_each(lopsided: Path) -> None:
    content = torch.frombuffer(bytearray(lopsided.read_bytes()), dtype=torch.uint8)
    with pytest.raises(ClipRefused, match="too_many_frames"):
        Video(content, limits=replace(NO_LIMITS, max_clip_frames=9))
    assert Video(content, limits=replace(NO_LIMITS, max_clip_frames=10)).count == 10
