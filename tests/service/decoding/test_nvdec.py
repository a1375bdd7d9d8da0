"""What a GPU's video engine decodes, and what the CPU decodes in its place.

A video engine cannot be here. Where a test needs one that works, torchcodec decodes on the CPU when
it is asked for the GPU; everything else is what runs with one.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import service_clips as clips
import torch
from decode_pools import H264, LIMITS, PLAN
from torch import Tensor
from torchcodec.decoders import VideoDecoder

from video import nvdec, reader
from video import views as on_cpu
from video.errors import ClipRefused
from video.facts import ClipFacts
from video.opening import SeekMode, open_decoder

pytestmark = pytest.mark.slow

GPU = "cuda:0"


@pytest.fixture
def engine_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_the_cpu(
        source: Tensor | Path, threads: int, device: str, seek_mode: SeekMode
    ) -> VideoDecoder:
        return open_decoder(source, threads, "cpu", seek_mode)

    monkeypatch.setattr(reader, "open_decoder", on_the_cpu)
    monkeypatch.setattr(nvdec, "_alive", lambda device: True)


def decode(
    path: Path, decode_views: Callable[..., ClipFacts], **on: str
) -> tuple[Tensor, ClipFacts]:
    clip = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    out = torch.zeros(PLAN.shape, dtype=torch.uint8)
    facts = decode_views(clip, out, PLAN, LIMITS, **on)
    return out, facts


def test_a_sound_clip_is_decoded_on_the_gpu(tmp_path: Path, engine_here: None) -> None:
    clip = clips.pattern(tmp_path / "clip.mp4", *H264)
    expected, facts = decode(clip, on_cpu.decode_views)
    assert facts.decoder == "ffmpeg"
    views, facts = decode(clip, nvdec.decode_views, device=GPU)
    assert facts.decoder == "nvdec"
    assert torch.equal(views, expected)


def test_odd_and_damaged_clips_are_decoded_anew_by_the_cpu(
    tmp_path: Path, engine_here: None
) -> None:
    odd = clips.pattern(tmp_path / "odd.webm", "-c:v", "libvpx-vp9", filters="scale=161:121")
    whole = clips.pattern(tmp_path / "whole.mp4", *H264, "-movflags", "+faststart", "-g", "10",
                          rate=25, seconds=4)  # fmt: skip
    damaged = tmp_path / "damaged.mp4"
    content = whole.read_bytes()
    half = len(content) // 2
    damaged.write_bytes(content[:half] + bytes(half))
    for clip in (odd, damaged):
        expected, cpu_facts = decode(clip, on_cpu.decode_views)
        views, facts = decode(clip, nvdec.decode_views, device=GPU)
        assert facts == cpu_facts
        assert facts.decoder == "ffmpeg"
        assert torch.equal(views, expected)
    assert facts.substituted_frames > 0, "it was damaged where it is looked at"


def test_a_size_that_changes_on_the_way_is_for_the_cpu(
    tmp_path: Path, engine_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clips.pattern(tmp_path / "clip.mp4", *H264)
    read = on_cpu.ViewReader.read

    def changed(self: on_cpu.ViewReader, moment: float) -> bool:
        self.video.meter.sizes.add((64, 48))
        return read(self, moment)

    monkeypatch.setattr(on_cpu.ViewReader, "read", changed)
    assert decode(clip, nvdec.decode_views, device=GPU)[1].decoder == "ffmpeg"


def test_what_is_no_clip_is_refused_all_the_same(tmp_path: Path, engine_here: None) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"no clip at all" * 50)
    with pytest.raises(ClipRefused, match="undecodable"):
        decode(noise, nvdec.decode_views, device=GPU)
    sound = tmp_path / "sound.m4a"
    clips.ffmpeg("-f", "lavfi", "-i", "sine=duration=1", sound)
    with pytest.raises(ClipRefused, match="no_video_stream"):
        decode(sound, nvdec.decode_views, device=GPU)


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_process_whose_driver_is_gone_ends(tmp_path: Path) -> None:
    """Here it was never there, which looks the same: nothing on the device answers."""
    clip = clips.pattern(tmp_path / "clip.mp4", *H264)
    code = (
        f"import sys; sys.path = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from pathlib import Path\n"
        "from test_nvdec import decode, nvdec\n"
        f"decode(Path({str(clip)!r}), nvdec.decode_views, device='cuda:0')\n"
        "sys.exit(7)"
    )
    ended = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True)
    assert (ended.returncode, ended.stderr) == (1, b"")
