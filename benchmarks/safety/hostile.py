"""Clips made to do harm, built with the real FFmpeg and by hand where it refuses to.

Each comes with the codes of the answers that are right for it: one where the limit it breaks is
plain, several where it depends on FFmpeg's version which check is met first. ``ok`` means labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.safety import boxes
from benchmarks.safety.clips import ffmpeg

# 8192 x 4320 are 35 million pixels, four times the limit of 4096 x 2160.
_LARGE = "8192x4320"
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@dataclass(frozen=True, slots=True)
class Hostile:
    """A clip and what must come of it."""

    name: str
    data: bytes
    codes: frozenset[str]


Maker = Callable[[Path], bytes]
_MAKERS: list[tuple[str, frozenset[str], Maker]] = []


def _clip(name: str, *codes: str) -> Callable[[Maker], Maker]:
    def register(make: Maker) -> Maker:
        _MAKERS.append((name, frozenset(codes), make))
        return make

    return register


NAMES: tuple[str, ...] = ()  # filled below, when all of them are known


def make_hostile(folder: Path, *names: str) -> list[Hostile]:
    """Make the clips of these names, or all of them, with ``folder`` as the place to work in."""
    wanted = set(names or NAMES)
    if unknown := wanted - set(NAMES):
        raise KeyError(f"no hostile clips called {', '.join(sorted(unknown))}")
    folder.mkdir(parents=True, exist_ok=True)
    return [Hostile(name, make(folder), codes) for name, codes, make in _MAKERS if name in wanted]


def _colour(out: Path, *options: str, size: str = "64x64", frames: int = 4) -> bytes:
    source = f"color=navy:size={size}:rate=10:duration={frames / 10}"
    ffmpeg("-f", "lavfi", "-i", source, *options, out)
    return out.read_bytes()


def _moving(out: Path, *options: str, size: str = "64x64", seconds: float = 1) -> bytes:
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10:duration={seconds}", *options, out)
    return out.read_bytes()


@_clip("resolution_bomb.mp4", "too_many_pixels")
def _resolution_bomb(folder: Path) -> bytes:
    """A few kilobytes that become 35 million pixels a frame; the header says so."""
    return _colour(folder / "large.mp4", *_X264, size=_LARGE, frames=2)


@_clip("lying_header.mp4", "too_many_pixels", "decode_memory_exceeded")
def _lying_header(folder: Path) -> bytes:
    """The track and the sample entry say 64x64; the stream's own parameter sets do not."""
    data = _resolution_bomb(folder)
    entry = data.index(b"avc1", boxes.find(data, b"stsd").start)
    data = boxes.overwrite(data, entry + 28, b"\x00\x40\x00\x40")
    track = boxes.find(data, b"tkhd")
    return boxes.overwrite(data, track.end - 8, b"\x00\x40\x00\x00" * 2)


@_clip("growing_frames.mkv", "too_many_pixels", "decode_memory_exceeded")
def _growing_frames(folder: Path) -> bytes:
    """Small frames first; large ones follow in the same stream."""
    return _joined(folder, "64x64", _LARGE)


@_clip("changing_size.mkv", "ok")
def _changing_size(folder: Path) -> bytes:
    """Within the limits a change of size on the way is no crime."""
    return _joined(folder, "64x64", "128x96")


def _joined(folder: Path, *sizes: str) -> bytes:
    """H.264 of several sizes in one stream, each with its parameter sets in band."""
    streams = [
        _colour(folder / f"{size}.h264", *_X264, "-x264-params", "repeat-headers=1", size=size)
        for size in sizes
    ]
    raw, out = folder / "joined.h264", folder / "joined.mkv"
    raw.write_bytes(b"".join(streams))
    ffmpeg("-fflags", "+genpts", "-r", "10", "-i", raw, "-c", "copy", out)
    return out.read_bytes()


@_clip("image_bomb.mov", "too_many_pixels", "decode_memory_exceeded", "undecodable")
def _image_bomb(folder: Path) -> bytes:
    """PNG frames that claim 30000x30000, 2.7 GB, behind a header of 64x64."""
    data = _colour(folder / "png.mov", "-c:v", "png")
    start = 0
    while (start := data.find(b"IHDR", start)) >= 0:
        data = boxes.overwrite(data, start + 4, (30000).to_bytes(4) * 2)
        start += 4
    return data


@_clip("duration_bomb.mkv", "clip_too_long")
def _duration_bomb(folder: Path) -> bytes:
    """Four frames that last forty hours."""
    return _colour(folder / "long.mkv", "-vf", "setpts=N*36000/TB", "-vsync", "vfr", *_X264)


@_clip("frame_bomb.avi", "too_many_frames")
def _frame_bomb(folder: Path) -> bytes:
    """40,000 frames in a megabyte and a half and a hundred seconds: ten times the limit of 4,000.

    A copy of a copy: at this price 600,000 frames would fit into 23 MB.
    """
    source, out = folder / "few.avi", folder / "many.avi"
    picture = "color=navy:size=16x16:rate=400:duration=0.25"
    ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "mpeg4", source)
    ffmpeg("-stream_loop", "399", "-i", source, "-c", "copy", out)
    return out.read_bytes()


@_clip("rate_bomb.mkv", "frame_rate_too_high")
def _rate_bomb(folder: Path) -> bytes:
    """A thousand frames a second, for 0.3 seconds."""
    out = folder / "fast.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=navy:size=16x16:rate=1000:duration=0.3", *_X264, out)
    return out.read_bytes()


@_clip("many_streams.mkv", "too_many_streams")
def _many_streams(folder: Path) -> bytes:
    """Sixteen tracks of sound beside the pictures."""
    sound = ("-f", "lavfi", "-i", "sine=duration=0.2")
    maps = [option for _ in range(16) for option in ("-map", "1:a")]
    return _colour(folder / "streams.mkv", *sound, "-map", "0:v", *maps, *_X264, "-c:a", "mp2")


@_clip("table_bomb.mp4", "undecodable", "too_many_frames", "decode_memory_exceeded", "ok")
def _table_bomb(folder: Path) -> bytes:
    """A sample table that claims two thousand million samples of one byte."""
    data = _colour(folder / "table.mp4", *_X264)
    sizes = boxes.find(data, b"stsz")
    claim = (1).to_bytes(4) + (0x7FFFFFFF).to_bytes(4)
    data = boxes.overwrite(data, sizes.content + 4, claim)
    times = boxes.find(data, b"stts")
    return boxes.overwrite(data, times.content + 8, (0x7FFFFFFF).to_bytes(4))


@_clip("huge_metadata.mp4", "ok")
def _huge_metadata(folder: Path) -> bytes:
    """Eight megabytes of a comment around a clip of a few kilobytes."""
    data = _colour(folder / "metadata.mp4", *_X264)
    text = boxes.box(b"data", (1).to_bytes(4) + bytes(4) + b"A" * 8_000_000)
    return boxes.insert(data, b"moov", boxes.box(b"udta", boxes.box(b"\xa9cmt", text)))


@_clip("deep_boxes.mp4", "ok", "undecodable")
def _deep_boxes(folder: Path) -> bytes:
    """Twenty thousand boxes, one in the other: a parser that recurses meets its stack's end."""
    data = _colour(folder / "deep.mp4", *_X264)
    depth = 20_000
    nested = b"".join((8 * (depth - level)).to_bytes(4) + b"udta" for level in range(depth))
    return boxes.insert(data, b"moov", nested)


@_clip("many_boxes.mp4", "ok", "undecodable")
def _many_boxes(folder: Path) -> bytes:
    """Half a million empty boxes, one after the other."""
    data = _colour(folder / "boxes.mp4", *_X264)
    return boxes.insert(data, b"moov", boxes.box(b"free", b"") * 500_000)


@_clip("encrypted.mp4", "undecodable", "ok")
def _encrypted(folder: Path) -> bytes:
    """Common encryption, without the key. Decoders conceal what they cannot read, or give up."""
    return _moving(
        folder / "cenc.mp4", *_X264, "-encryption_scheme", "cenc-aes-ctr", "-encryption_key",
        "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8",
    )  # fmt: skip


@_clip("sound_alone.mp4", "no_video_stream")
def _sound_alone(folder: Path) -> bytes:
    out = folder / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", out)
    return out.read_bytes()


@_clip("animated.mp4", "not_a_video")
def _animated(folder: Path) -> bytes:
    """A GIF under another name."""
    return _moving(folder / "a.gif", size="32x32")


@_clip("one_pixel.mkv", "ok")
def _one_pixel(folder: Path) -> bytes:
    return _colour(folder / "one.mkv", "-vf", "scale=1:1", "-c:v", "ffv1", "-pix_fmt", "bgr0")


@_clip("one_frame.mp4", "ok")
def _one_frame(folder: Path) -> bytes:
    return _colour(folder / "single.mp4", *_X264, frames=1)


@_clip("zeros.mp4", "not_a_video")
def _zeros(folder: Path) -> bytes:
    return bytes(100_000)


@_clip("nothing.mp4", "empty_body")
def _nothing(folder: Path) -> bytes:
    return b""


def scripts(canary: Path, address: str) -> list[Hostile]:
    """Playlists and manifests that make FFmpeg open a file or an address; named like clips.

    Args:
        canary: a file that must stay unread; relative names mean its folder.
        address: ``http://...`` of a server that must stay unasked.
    """
    port = address.rpartition(":")[2]
    texts = {
        "concat.mp4": f"ffconcat version 1.0\nfile {canary.name}\n",
        "concat_address.mp4": f"ffconcat version 1.0\nfile {address}/concat.ts\n",
        "playlist.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
        f"{address}/segment.ts\n#EXT-X-ENDLIST\n",
        "playlist_file.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
        f"file://{canary}\n#EXT-X-ENDLIST\n",
        "session.mp4": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\n"
        f"t=0 0\r\nm=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
        "manifest.mp4": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
        'type="static" mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:full:2011">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{address}/dash.mp4</BaseURL><SegmentBase/></Representation></AdaptationSet>"
        "</Period></MPD>\n",
        "address.mp4": f"{address}/clip.mp4\n",
    }
    return [
        Hostile(name, text.encode(), frozenset({"not_a_video"})) for name, text in texts.items()
    ]


def reference_movie(folder: Path, canary: Path) -> Hostile:
    """A QuickTime file whose samples are said to lie in another file, by absolute path.

    The one script of this kind that comes in an accepted container: a data reference of type
    ``alis``, the Macintosh alias record. FFmpeg opens it with ``-enable_drefs 1``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = _colour(folder / "reference.mov", *_X264)
    path = str(canary).encode()
    path += b"\0" * (len(path) % 2)
    # Volume, file name and what lies between are empty; then the levels, and one tagged path.
    record = bytes(10 + 28 + 12 + 64 + 16) + b"\x00\x01\x00\x01" + bytes(16)
    record += b"\x00\x02" + len(path).to_bytes(2) + path + b"\xff\xff\x00\x00"
    entry = boxes.box(b"alis", bytes(4) + record)  # version and flags
    # The video track's: the first one in the file.
    old = boxes.find(data, b"dref")
    new = boxes.box(b"dref", bytes(4) + (1).to_bytes(4) + entry)
    grown = len(new) - (old.end - old.start)
    out = bytearray(data[: old.start] + new + data[old.end :])
    for outer in boxes.walk(data):
        if outer.start < old.start and old.end <= outer.end:
            out[outer.start : outer.start + 4] = (outer.end - outer.start + grown).to_bytes(4)
    return Hostile("reference.mov", bytes(out), frozenset({"undecodable"}))


NAMES = tuple(name for name, _, _ in _MAKERS)
