"""What is sampled at a time is what ffmpeg shows at that time, for whatever it plays."""

import gc
import os
import random
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_clips import SIDE, ffmpeg, numbered, numbers_in, shown_by_ffmpeg, views_of

from bundle.sampling import frame_shares
from video.errors import ClipRefused
from video.facts import NO_LIMITS, ViewPlan
from video.reader import Video
from video.views import decode_views

pytestmark = pytest.mark.slow

PLAN = ViewPlan(temporal=3, spatial=1, frames=16, size=64, short_side=64)

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0")
X265 = ("-c:v", "libx265", "-preset", "ultrafast")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "2", "-sc_threshold", "1000000000")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2", "-sc_threshold", "1000000000")


def check(clip: Path) -> None:
    """All frames of all views, exactly."""
    shown = shown_by_ffmpeg(clip)
    views, facts = views_of(clip, PLAN)
    assert facts.substituted_frames == 0
    # The duration says nothing of how long the last frame stays, within a frame.
    interval = shown.times[-1] / max(1, len(shown.times) - 1)
    assert abs(facts.duration_seconds - shown.times[-1] - interval) <= 1.5 * max(interval, 0.05)
    shares = frame_shares(PLAN.frames, PLAN.temporal)
    expected = [[shown.at(share * facts.duration_seconds) for share in view] for view in shares]
    assert [numbers_in(view) for view in views] == expected


def _random_clip(draw: random.Random, folder: Path) -> Path:
    """A clip of a random kind: container, codec, key interval, B-frames, rate, offset, cut."""
    frames = draw.choice([3, 17, 40, 60, 90, 200])
    rate = draw.choice([8, 25, 30, 50])
    key = draw.choice([1, 5, 12, 30, 250])
    b_frames = draw.choice([0, 0, 2, 3])
    kind = draw.choice(["h264", "h264", "hevc", "vp9", "mpeg4", "mpeg2"])
    container = draw.choice(
        {
            "h264": ["mp4", "mov", "mkv", "avi", "ts"],
            "hevc": ["mp4", "mov", "mkv", "ts"],
            "vp9": ["webm", "mkv", "mp4"],
            "mpeg4": ["mp4", "mkv", "avi"],
            "mpeg2": ["ts", "mpg", "mkv"],
        }[kind]
    )
    if kind == "mpeg2" and rate == 8:
        rate = 25  # not among the rates that MPEG-2 has
    if container == "ts":
        frames = max(frames, 17)  # in fewer packets ffmpeg does not find the stream
    options = {
        "h264": (*X264, "-g", str(key), "-bf", str(b_frames),
                 "-x264-params", f"open-gop={draw.choice([0, 1])}"),
        "hevc": (*X265, "-x265-params",
                 f"log-level=error:scenecut=0:keyint={key}:min-keyint={key}:bframes={b_frames}:"
                 f"open-gop={draw.choice([0, 1])}"),
        "vp9": (*VP9, "-g", str(key)),
        "mpeg4": (*MPEG4, "-g", str(key), "-bf", str(b_frames)),
        "mpeg2": (*MPEG2, "-g", str(key), "-bf", str(b_frames)),
    }[kind]  # fmt: skip
    varies = container not in ("avi", "mpg", "ts") and draw.random() < 0.35
    select = draw.choice(["select='lt(n,10)+not(mod(n,5))'", "select='gt(random(3),0.5)'",
                          "setpts='PTS+floor(N/7)*3/TB/25'"]) if varies else ""  # fmt: skip
    offset = ("-output_ts_offset", f"{draw.choice([0.4, 5, 100])}") if draw.random() < 0.3 else ()
    fragments = (
        ("-movflags", "frag_keyframe+empty_moov")
        if container in ("mp4", "mov") and draw.random() < 0.15
        else ()
    )
    clip = numbered(folder / f"whole.{container}", *options, *offset, *fragments, frames=frames,
                    rate=rate, select=select)  # fmt: skip
    cuttable = not offset and not fragments and container != "mpg"
    if cuttable and frames >= 40 and draw.random() < 0.6:
        start = draw.uniform(0.05, 0.8) * frames / rate
        cut = folder / f"cut.{container if container != 'avi' else 'mkv'}"
        end = ("-t", f"{draw.uniform(0.3, 0.9) * (frames / rate - start):.3f}")
        ffmpeg("-ss", f"{start:.3f}", "-i", clip, *(end if draw.random() < 0.5 else ()),
               "-c", "copy", cut)  # fmt: skip
        clip = cut
    return clip


@pytest.mark.parametrize("seed", range(40))
def test_any_clip_is_sampled_as_ffmpeg_shows_it(tmp_path: Path, seed: int) -> None:
    check(_random_clip(random.Random(seed), tmp_path))


@pytest.mark.parametrize("start", [0.1, 0.5, 1.3, 2.7, 4.9])
@pytest.mark.parametrize(
    "codec",
    [
        (*X264, "-g", "30"),
        (*X264, "-g", "250"),
        (*X265, "-x265-params", "log-level=error:keyint=30"),
    ],
)
def test_a_clip_cut_without_encoding_it_anew(
    tmp_path: Path, codec: tuple[str, ...], start: float
) -> None:
    whole = numbered(tmp_path / "whole.mp4", *codec, frames=150)
    ffmpeg("-ss", str(start), "-i", whole, "-c", "copy", tmp_path / "cut.mp4")
    check(tmp_path / "cut.mp4")


def test_a_clip_that_was_walked_through_is_let_go_at_once(tmp_path: Path) -> None:
    """A decode worker has few descriptors, and each clip that is still held has one of them."""
    clip = numbered(tmp_path / "clip.avi", *MPEG4, frames=20)
    video = Video(clip)
    video.at(0.4)
    gone = weakref.ref(video)
    gc.disable()
    try:
        del video
        assert gone() is None
    finally:
        gc.enable()


def test_hidden_frames_are_counted_as_decoded(tmp_path: Path) -> None:
    """An edit list may show a frame of many, and all before it have to be decoded."""
    whole = numbered(tmp_path / "whole.mp4", *X264, "-g", "250", frames=100)
    ffmpeg("-ss", "3", "-i", whole, "-c", "copy", tmp_path / "cut.mp4")
    content = torch.frombuffer(bytearray((tmp_path / "cut.mp4").read_bytes()), dtype=torch.uint8)
    shown = Video(content).count
    assert shown <= 25
    needed = 100 * SIDE * SIDE
    for most, refused in ((needed, False), (needed - 1, True)):
        limits = replace(NO_LIMITS, max_decoded_pixels=most)
        out = torch.zeros(PLAN.shape, dtype=torch.uint8)
        if refused:
            with pytest.raises(ClipRefused, match="too_much_decoding"):
                decode_views(content, out, PLAN, limits)
        else:
            decode_views(content, out, PLAN, limits)


@pytest.mark.parametrize(
    ("form", "codec"), [("dvd", MPEG2), ("vob", MPEG2), ("mpeg", X264), ("svcd", MPEG2)]
)
def test_program_streams_of_all_kinds(tmp_path: Path, form: str, codec: tuple[str, ...]) -> None:
    """Some have no packet at the time of their beginning, and of H.264 hardly any time stamps:
    there a frame may come one too early."""
    clip = numbered(tmp_path / "clip.mpg", *codec, "-bf", "2", "-f", form, frames=50)
    views, facts = views_of(clip, PLAN)
    assert facts.duration_seconds == pytest.approx(2, abs=0.05)
    found = np.array([numbers_in(view) for view in views])
    # A thousandth of a second is the play that time stamps have.
    expected = ((frame_shares(16, 3) * facts.duration_seconds + 1e-3) * 25).astype(int)
    assert (found <= expected).all()
    assert (expected.clip(max=49) - found <= (1 if codec == X264 else 0)).all()


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    clip = numbered(tmp_path / "clip.mp4", *X264, frames=20)
    odd = clip.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    assert Video(odd).count == 20
