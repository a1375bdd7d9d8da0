"""Real clips of many kinds through real decode workers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import service_clips as clips
from decode_pools import H264, LIMITS, PLAN, Frames, decode_in, pool_of

from service.decoding.pool import DecodePool
from service.errors import (
    ClipError,
    ClipTooLong,
    FrameRateTooHigh,
    NoVideoStream,
    TooManyFrames,
    TooManyPixels,
    TooManyStreams,
    TooMuchDecoding,
    Undecodable,
)
from video.facts import ClipFacts, ClipLimits, ViewPlan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[Awaitable[object]], object]]:
    with asyncio.Runner() as runner:
        yield runner.run  # type: ignore[misc]


@pytest.fixture(scope="module")
def shared_pool(run: Callable[..., object]) -> Iterator[DecodePool]:
    """One worker for all tests that leave it as it was."""
    context = pool_of()
    pool, restarts = run(context.__aenter__())  # type: ignore[misc]
    yield pool
    run(context.__aexit__(None, None, None))
    assert restarts == [], "no clip may cost a worker its life"


@pytest.fixture(scope="module")
def decode(
    shared_pool: DecodePool, run: Callable[..., object]
) -> Callable[..., tuple[Frames, ClipFacts]]:
    def decode(clip: Path | bytes, plan: ViewPlan = PLAN) -> tuple[Frames, ClipFacts]:
        return run(decode_in(shared_pool, clip, plan))  # type: ignore[return-value]

    return decode


@pytest.mark.parametrize(
    ("name", "encode", "codec"),
    [
        ("h264.mp4", H264, "h264"),
        ("h264.mov", H264, "h264"),
        ("h264.mkv", H264, "h264"),
        ("hevc.mp4", ("-c:v", "libx265", "-x265-params", "log-level=error"), "hevc"),
        ("av1.mp4", ("-c:v", "libaom-av1", "-cpu-used", "8"), "av1"),
        ("av1.mkv", ("-c:v", "libaom-av1", "-cpu-used", "8"), "av1"),
        ("mpeg4.mp4", ("-c:v", "mpeg4"), "mpeg4"),
        ("mpeg4.avi", ("-c:v", "mpeg4"), "mpeg4"),
        ("vp8.webm", ("-c:v", "libvpx"), "vp8"),
        ("vp9.webm", ("-c:v", "libvpx-vp9"), "vp9"),
        ("vp9.mkv", ("-c:v", "libvpx-vp9"), "vp9"),
        ("h264_10bit.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv420p10le"), "h264"),
        ("h264_444.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv444p"), "h264"),
        ("hevc_hdr.mp4", ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params",
                          "log-level=error:colorprim=bt2020:transfer=smpte2084:"
                          "colormatrix=bt2020nc"), "hevc"),
        ("faststart.mp4", (*H264, "-movflags", "+faststart"), "h264"),
        ("fragmented.mp4", (*H264, "-movflags", "frag_keyframe+empty_moov"), "h264"),
    ],
)  # fmt: skip
def test_formats_people_have(
    tmp_path: Path,
    decode: Callable[..., tuple[Frames, ClipFacts]],
    name: str,
    encode: tuple[str, ...],
    codec: str,
) -> None:
    clip = clips.pattern(tmp_path / name, *encode)
    frames, facts = decode(clip)
    assert frames.shape == PLAN.shape
    assert frames.dtype == np.uint8
    assert (facts.codec, facts.width, facts.height, facts.frames) == (codec, 160, 120, 20)
    assert facts.duration_seconds == pytest.approx(2, abs=0.15)
    assert facts.fps == pytest.approx(10, abs=0.6)
    assert facts.substituted_frames == 0
    # The test pattern, not noise or grey: what each codec shows is what lossless shows.
    reference = clips.pattern(tmp_path / "reference.mkv", "-c:v", "ffv1", "-pix_fmt", "bgr0")
    expected, _ = decode(reference)
    difference = np.abs(frames.astype(int) - expected.astype(int)).mean()
    assert difference < (40 if "hdr" in name else 12)


def test_frames_come_from_all_of_the_clip_in_order(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]]
) -> None:
    # Brightness is the frame's number: 0, 4, 8 ... 252.
    out = tmp_path / "ramp.mkv"
    clips.ffmpeg("-f", "lavfi", "-i", "color=black:size=64x64:rate=16:duration=4", "-vf",
                 "format=gray,geq=lum='4*N'", "-c:v", "ffv1", out)  # fmt: skip
    plan = ViewPlan(temporal=3, spatial=1, frames=16, size=64, short_side=64)
    frames, facts = decode(out, plan)
    assert facts.frames == 64
    numbers = frames.mean(axis=(2, 3, 4)).round() / 4
    for view, shift in enumerate((1, 2, 3)):  # a quarter, half, three quarters of each segment
        np.testing.assert_array_equal(numbers[view], np.arange(16) * 4 + shift)


def test_views_are_temporal_major_then_spatial(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]]
) -> None:
    # Left red, middle green, right blue; the second half of the clip is darker.
    out = tmp_path / "bands.mkv"
    clips.ffmpeg(
        "-f", "lavfi", "-i", "color=red:size=64x64:rate=10:duration=2", "-f", "lavfi", "-i",
        "color=lime:size=64x64:rate=10:duration=2", "-f", "lavfi", "-i",
        "color=blue:size=64x64:rate=10:duration=2", "-filter_complex", "hstack=inputs=3",
        "-c:v", "ffv1", "-pix_fmt", "bgr0", out,
    )  # fmt: skip
    frames, _ = decode(out, ViewPlan(temporal=2, spatial=3, frames=4, size=64, short_side=64))
    brightest = frames.mean(axis=(1, 2, 3)).argmax(axis=1)
    assert brightest.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_honoured(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]], degrees: int
) -> None:
    # White top left corner; the player is told to turn the frames.
    upright, turned = tmp_path / "upright.mp4", tmp_path / "turned.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "color=black:size=96x64:rate=10:duration=1", "-vf",
                 "drawbox=x=0:y=0:w=48:h=32:color=white:t=fill", *H264, upright)  # fmt: skip
    clips.ffmpeg("-i", upright, "-c", "copy", "-metadata:s:v:0", f"rotate={degrees}", turned)
    # What ffmpeg itself shows: it turns frames when it transcodes.
    shown = tmp_path / "shown.mp4"
    clips.ffmpeg("-i", turned, *H264, "-crf", "5", shown)
    plan = ViewPlan(temporal=1, spatial=1, frames=2, size=64, short_side=64)
    frames, facts = decode(turned, plan)
    expected, shown_facts = decode(shown, plan)
    assert (facts.width, facts.height) == (shown_facts.width, shown_facts.height)
    assert (facts.width, facts.height) == ((96, 64) if degrees == 180 else (64, 96))
    assert facts.rotation_degrees in (degrees, 360 - degrees)
    assert np.abs(frames.astype(int) - expected.astype(int)).mean() < 8


@pytest.mark.parametrize("size", ["161x121", "17x301", "2x2", "1921x31"])
def test_odd_sizes(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]], size: str
) -> None:
    clip = clips.pattern(tmp_path / "odd.mkv", "-c:v", "libx264", "-pix_fmt", "yuv444p",
                         seconds=0.5, filters=f"format=yuv444p,scale={size},setsar=1")  # fmt: skip
    frames, facts = decode(clip)
    assert f"{facts.width}x{facts.height}" == size
    assert frames.std() > 0


def test_variable_frame_rate(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]]
) -> None:
    clip = clips.pattern(tmp_path / "vfr.mkv", *H264, "-vsync", "vfr", rate=20,
                         filters="select='lt(n,10)+not(mod(n,5))'")  # fmt: skip
    _, facts = decode(clip)
    assert facts.frames == 16  # 0-9, then 10, 15, ... 35
    assert facts.fps == pytest.approx(8, abs=1)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_fewer_frames_than_a_view(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]], count: int
) -> None:
    clip = clips.pattern(tmp_path / "short.mp4", *H264, "-frames:v", str(count))
    frames, facts = decode(clip)
    assert facts.frames == count
    distinct = len({frame.tobytes() for frame in frames[0]})
    assert distinct == count


def test_a_clip_that_does_not_begin_at_zero(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]]
) -> None:
    clip = clips.pattern(tmp_path / "late.mkv", *H264, "-output_ts_offset", "5")
    _, facts = decode(clip)
    assert facts.frames == 20
    assert facts.duration_seconds == pytest.approx(2, abs=0.2)


def test_sound_is_ignored_and_sound_alone_is_refused(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]]
) -> None:
    both, alone = tmp_path / "both.mp4", tmp_path / "alone.mp4"
    sound = ("-f", "lavfi", "-i", "sine=duration=1")
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=10:duration=1", *sound, *H264,
                 "-c:a", "aac", both)  # fmt: skip
    clips.ffmpeg(*sound, "-c:a", "aac", alone)
    assert decode(both)[1].frames == 10
    with pytest.raises(NoVideoStream):
        decode(alone)


def test_damaged_clips_are_sampled_from_what_decodes_or_refused(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]]
) -> None:
    clip = clips.pattern(tmp_path / "whole.mp4", *H264, "-movflags", "+faststart", "-g", "10",
                         rate=25, seconds=4)  # fmt: skip
    whole = clip.read_bytes()
    cut = whole[: len(whole) * 6 // 10]
    frames, facts = decode(cut)  # its header still promises 100 frames
    assert 0 < facts.frames <= 100
    assert len({frame.tobytes() for frame in frames[0]}) > 8, "frames repeat"
    noise_after_ftyp = b"\0\0\0\x20ftypisom" + np.random.default_rng(0).bytes(4096)
    for garbage in (whole[:200], whole[: len(whole) // 50], noise_after_ftyp):
        with pytest.raises(Undecodable) as caught:
            decode(garbage)
        assert "/" not in caught.value.detail
    noise = np.frombuffer(whole, np.uint8).copy()
    generator = np.random.default_rng(0)
    start = whole.index(b"mdat") + 4
    for position in generator.integers(start, len(noise), len(noise) // 100):
        noise[position] ^= 0xFF
    with suppress(Undecodable):
        assert decode(noise.tobytes())[1].frames == 100


def test_mutated_clips_never_do_more_than_fail(
    tmp_path: Path, decode: Callable[..., tuple[Frames, ClipFacts]]
) -> None:
    """The fixture fails when any of these costs the worker its life."""
    generator = np.random.default_rng(1)
    for name, encode in (
        ("a.mp4", H264),
        ("a.webm", ("-c:v", "libvpx-vp9")),
        ("a.avi", ("-c:v", "mpeg4")),
    ):
        data = np.frombuffer(
            clips.pattern(tmp_path / name, *encode, size="48x48", seconds=1).read_bytes(), np.uint8
        )
        for _ in range(25):
            mutant = data.copy()
            places = generator.integers(0, len(mutant), generator.integers(1, 30))
            mutant[places] = generator.integers(0, 256, len(places))
            end = generator.integers(len(mutant) // 2, len(mutant) + 1)
            with suppress(ClipError):
                assert decode(mutant[:end].tobytes())[0].shape == PLAN.shape


def test_limits_at_their_edges(
    tmp_path: Path, shared_pool: DecodePool, run: Callable[..., object]
) -> None:
    beyond: list[tuple[dict[str, float], type[ClipError]]] = [
        ({"max_clip_seconds": 1.9}, ClipTooLong),
        ({"max_clip_frames": 19}, TooManyFrames),
        ({"max_frame_pixels": 160 * 120 - 1}, TooManyPixels),
        ({"max_frames_per_second": 9}, FrameRateTooHigh),
        ({"max_streams": 1}, TooManyStreams),
        ({"max_decoded_pixels": 20 * 160 * 120 - 1}, TooMuchDecoding),
    ]
    lying, pool = _lying_header(tmp_path / "lying.mp4"), shared_pool
    clip = tmp_path / "clip.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10:duration=2", "-f", "lavfi",
                 "-i", "sine=duration=2", *H264, "-c:a", "aac", "-shortest", clip)  # fmt: skip
    at = {"max_clip_seconds": 2.0, "max_clip_frames": 20, "max_frame_pixels": 160 * 120,
          "max_frames_per_second": 10, "max_streams": 2,
          # one key frame and 16 of 20 frames wanted, the last among them: all 20 are decoded
          "max_decoded_pixels": 20 * 160 * 120}  # fmt: skip

    async def check() -> None:
        for changed, error in beyond:
            pool.clip_limits = ClipLimits(**at)  # type: ignore[arg-type]
            await decode_in(pool, clip)
            pool.clip_limits = ClipLimits(**at | changed)  # type: ignore[arg-type]
            with pytest.raises(error) as caught:
                await decode_in(pool, clip)
            (limit,) = changed.values()
            assert caught.value.members["limit"] == limit
            assert f"{limit:g}" in caught.value.detail
        pool.clip_limits = replace(LIMITS, max_frame_pixels=512 * 512)
        with pytest.raises(TooManyPixels):
            await decode_in(pool, lying)
        # 5 frames of 64x64 by the header, of 1024x1024 in truth.
        pool.clip_limits = replace(LIMITS, max_decoded_pixels=5 * 1024 * 1024)
        await decode_in(pool, lying)
        pool.clip_limits = replace(LIMITS, max_decoded_pixels=5 * 1024 * 1024 - 1)
        with pytest.raises(TooMuchDecoding):
            await decode_in(pool, lying)

    try:
        run(check())
    finally:
        pool.clip_limits = LIMITS


def _lying_header(path: Path) -> bytes:
    """An MP4 whose header says 64x64 and whose stream holds 1024x1024.

    The sizes in the track header and the sample entry are what demuxers report; the decoder finds
    the real one in the stream's own parameter sets.
    """
    data = bytearray(clips.pattern(path, *H264, size="1024x1024", rate=5, seconds=1).read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd"))
    data[entry + 28 : entry + 32] = b"\x00\x40\x00\x40"
    track = data.index(b"tkhd")
    data[track + 80 : track + 88] = b"\x00\x40\x00\x00" * 2
    return bytes(data)
