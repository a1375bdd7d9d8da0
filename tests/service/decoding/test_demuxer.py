"""What reaches FFmpeg is opened by the demuxer of the container that was sniffed, or not at all."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import service_clips as clips
import torch
import torchcodec  # noqa: F401  # loads the libraries that are asked
from hypothesis import given
from hypothesis import strategies as st
from service_server import Server

from service.decoding.containers import SNIFF_BYTES, identify
from service.decoding.demuxer import DEMUXERS, Prober
from service.errors import AmbiguousContainer, ServiceError

pytestmark = pytest.mark.slow

StartServer = Callable[..., Server]

MPEG_2 = ("-c:v", "mpeg2video", "-r", "25")
# File names and how FFmpeg writes them; cameras do not begin at zero.
STREAMS: dict[str, tuple[str, ...]] = {
    "h264.ts": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "late.ts": ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-output_ts_offset", "80000"),
    "hevc.ts": ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p"),
    "mpeg2.ts": MPEG_2,
    "blu_ray.m2ts": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "camera.m2ts": ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-mpegts_m2ts_mode", "1"),
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-r", "25"),
    "mpeg2.mpg": MPEG_2,
    "late.mpg": (*MPEG_2, "-output_ts_offset", "3600"),
    "svcd.mpg": (*MPEG_2, "-f", "svcd"),
    "mpeg2.vob": MPEG_2,
}


@pytest.fixture(scope="module")
def prober() -> Prober:
    return Prober(torch.ops.loaded_libraries)


def stream(folder: Path, name: str, colour: str = "white") -> Path:
    out = folder / name
    source = f"color={colour}:size=64x64:rate=25:duration=2"
    clips.ffmpeg("-f", "lavfi", "-i", source, *STREAMS[name], out)
    return out


def packet(payload: bytes, distance: int = 188) -> bytes:
    header = b"\x47\x40\x11\x10"
    return (b" " * (distance - 188) + header + payload).ljust(distance, b" ")


TEXTS = {
    "dash": b'<MPD type="static" profiles="urn:mpeg:dash:profile:full:2011">',
    "sdp": b"\nv=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "hls": b"\n#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/hostname\n",
    "concat": b"\nffconcat version 1.0\nfile /etc/hostname\n",
    "address": b"\nhttp://127.0.0.1:9/clip.mp4\n",
}
PACK = bytes.fromhex("000001ba4400040004018666cff8000001bb")


def polyglots() -> Iterator[tuple[str, bytes]]:
    """The first bytes of each container that leave room for it, and then a script."""
    for name, text in TEXTS.items():
        for count in (3, 40):
            rest = packet(b"") * count
            yield f"ts and {name}, {count}", packet(text) + rest
            yield f"m2ts and {name}, {count}", packet(text, 192) + packet(b"", 192) * count
        yield f"ps and {name}", (PACK + text).ljust(5000)
        for atom in (b"free", b"skip", b"wide", b"mdat", b"moov", b"pnot"):
            yield f"{atom.decode()} and {name}", (b"    " + atom + text).ljust(5000)
        yield f"mp4 and {name}", (b"    ftypisom" + text).ljust(5000)
        yield f"avi and {name}", (b"RIFF    AVI " + text).ljust(5000)
        ebml = bytes.fromhex("1a45dfa3a0428288") + b"matroska"
        yield f"matroska and {name}", (ebml + text).ljust(5000)


POLYGLOTS = dict(polyglots())


def opened_as(data: bytes) -> str | None:
    """What FFmpeg's own program takes it for, also when it cannot go on; None if for nothing."""
    command = ["ffprobe", "-v", "debug", "-protocol_whitelist", "pipe", "pipe:0"]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)
    found = re.search(rb"Format (\S+) (?:probed with|detected only with low score)", done.stderr)
    return found[1].decode() if found else None


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_streams_are_opened_as_what_they_are(prober: Prober, tmp_path: Path, name: str) -> None:
    data = stream(tmp_path, name).read_bytes()
    container = identify(data[:SNIFF_BYTES])
    assert prober.demuxer(data) == DEMUXERS[container] == opened_as(data)
    prober.require_sniffed(data)


def test_some_polyglots_would_be_opened_as_playlists(prober: Prober) -> None:
    """Otherwise none of the tests here could fail."""
    found = {name: prober.demuxer(data) for name, data in POLYGLOTS.items()}
    assert found["ts and dash, 3"] == found["ts and dash, 40"] == "dash"
    assert found["m2ts and dash, 3"] == found["free and dash"] == "dash"
    assert found["ts and sdp, 3"] == "sdp"


@pytest.mark.parametrize("name", sorted(POLYGLOTS))
def test_a_polyglot_is_what_ffmpeg_says_and_is_refused(prober: Prober, name: str) -> None:
    data = POLYGLOTS[name]
    demuxer = prober.demuxer(data)
    assert demuxer == opened_as(data)
    if demuxer is not None and demuxer != DEMUXERS[identify(data[:SNIFF_BYTES])]:
        with pytest.raises(AmbiguousContainer):
            prober.require_sniffed(data)


@given(data=st.data())
def test_whatever_is_let_through_has_the_demuxer_that_was_sniffed(data: st.DataObject) -> None:
    prober = Prober(torch.ops.loaded_libraries)
    clip = bytearray(POLYGLOTS[data.draw(st.sampled_from(sorted(POLYGLOTS)))])
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(clip) - 1))
        clip[at : at + 1] = data.draw(st.binary(min_size=1, max_size=8))
    try:
        container = identify(bytes(clip[:SNIFF_BYTES]))
        prober.require_sniffed(bytes(clip))
    except ServiceError:
        return
    assert prober.demuxer(bytes(clip)) in (None, DEMUXERS[container])


def test_no_library_is_found_in_words() -> None:
    with pytest.raises(LookupError, match="libavformat"):
        Prober(["/no/such/library.so", sys.executable])


def post(server: Server, data: bytes) -> httpx.Response:
    return server.client.post(
        "/classify", content=data, headers={"content-type": "application/octet-stream"}
    )


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_a_stream_is_classified(server: Server, tmp_path: Path, name: str) -> None:
    for colour, label in (("white", "bright"), ("black", "dark")):
        response = post(server, stream(tmp_path, name, colour).read_bytes())
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["labels"][0]["label"] == label
        clip = answer["clip"]
        assert clip["container"] == ("mpegps" if name.endswith(("mpg", "vob")) else "mpegts")
        assert (clip["width"], clip["height"], clip["frames"]) == (64, 64, 50)
        assert clip["duration_seconds"] == pytest.approx(2, abs=0.05)
        assert clip["substituted_frames"] == 0


def test_each_segment_of_a_playlist_is_a_clip(server: Server, tmp_path: Path) -> None:
    """A clip that turns from black to white in the middle, in segments of two seconds."""
    source = "color=black:size=64x64:rate=10:duration=8"
    turns = "drawbox=w=64:h=64:color=white:t=fill:enable='gte(t,4)'"
    clips.ffmpeg(
        "-f", "lavfi", "-i", source, "-vf", turns,
        "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "20", "-sc_threshold", "0",
        "-f", "hls", "-hls_time", "2", "-hls_list_size", "0", tmp_path / "all.m3u8",
    )  # fmt: skip
    segments = sorted(tmp_path.glob("all*.ts"))
    assert len(segments) == 4
    labels = []
    for segment in segments:
        answer = post(server, segment.read_bytes()).json()
        assert (answer["clip"]["container"], answer["clip"]["frames"]) == ("mpegts", 20)
        labels.append(answer["labels"][0]["label"])
    assert labels == ["dark", "dark", "bright", "bright"]
    playlist = post(server, (tmp_path / "all.m3u8").read_bytes())
    assert playlist.json()["code"] == "not_a_video"


def test_polyglots_are_refused_over_http(server: Server) -> None:
    codes = {name: post(server, data).json()["code"] for name, data in POLYGLOTS.items()}
    ambiguous = {name for name, code in codes.items() if code == "ambiguous_container"}
    assert {"ts and dash, 3", "ts and dash, 40", "m2ts and dash, 3", "ts and sdp, 3",
            "free and dash"} <= ambiguous  # fmt: skip
    assert {*codes.values()} == {"ambiguous_container", "undecodable"}
    assert post(server, POLYGLOTS["free and dash"]).status_code == 415


@pytest.mark.long
def test_containers_are_a_setting(start_server: StartServer, tmp_path: Path, white: Path) -> None:
    server = start_server(containers="mpegts, mp4").wait_until_ready()
    assert server.client.get("/model").json()["limits"]["containers"] == ["mp4", "mpegts"]
    assert post(server, stream(tmp_path, "h264.ts").read_bytes()).status_code == 200
    assert post(server, white.read_bytes()).status_code == 200
    refused = post(server, stream(tmp_path, "mpeg2.mpg").read_bytes())
    assert (refused.status_code, refused.json()["code"]) == (415, "container_not_accepted")
    assert refused.json()["accepted"] == ["MP4", "MPEG-TS"]
    assert refused.json()["detail"] == (
        "This looks like MPEG-PS, which is not accepted here. Send MP4 or MPEG-TS, for instance "
        "after `ffmpeg -i clip -c copy clip.mp4`."
    )
    document = server.client.get("/openapi.json").json()
    body = document["paths"]["/v1/classify"]["post"]["requestBody"]
    assert body["description"].endswith("in one of these containers: MP4, MPEG-TS.")
