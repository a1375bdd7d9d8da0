"""The first bytes decide what reaches a decoder."""

from contextlib import suppress
from pathlib import Path

import pytest
import service_clips as clips
from hypothesis import given
from hypothesis import strategies as st

from service.decoding.containers import CONTAINERS, SNIFF_BYTES, TITLES, Container, identify, titles
from service.errors import ContainerNotAccepted, EmptyBody, NotAVideo, NoVideoStream


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encode", "expected"),
    [
        ("a.mp4", ("-c:v", "libx264"), "mp4"),
        ("a.mov", ("-c:v", "mpeg4"), "mov"),
        ("a.webm", ("-c:v", "libvpx"), "webm"),
        ("a.mkv", ("-c:v", "mpeg4"), "matroska"),
        ("a.avi", ("-c:v", "mpeg4"), "avi"),
        ("a.ts", ("-c:v", "libx264"), "mpegts"),
        ("a.ts", ("-c:v", "libx264", "-output_ts_offset", "90000"), "mpegts"),
        ("a.m2ts", ("-c:v", "libx264"), "mpegts"),
        ("a.mpg", ("-c:v", "mpeg1video", "-r", "25"), "mpegps"),
        ("a.mpg", ("-c:v", "mpeg1video", "-r", "25", "-f", "vcd"), "mpegps"),
        ("a.mpg", ("-c:v", "mpeg2video", "-r", "25", "-f", "svcd"), "mpegps"),
        ("a.vob", ("-c:v", "mpeg2video", "-r", "25"), "mpegps"),
    ],
)
def test_accepts_containers(
    tmp_path: Path, name: str, encode: tuple[str, ...], expected: str
) -> None:
    clip = clips.pattern(tmp_path / name, *encode, size="32x32", seconds=0.2)
    assert identify(clip.read_bytes()[:SNIFF_BYTES]) == expected


@pytest.mark.parametrize("atom", [b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"])
def test_accepts_quicktime_from_before_ftyp(atom: bytes) -> None:
    assert identify(b"\x00\x00\x00\x08" + atom + b"\x00" * 8) == "mov"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "concat script"),
        (b"\xef\xbb\xbf  \r\nffconcat version 1.0\n", "concat script"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "HLS"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "SDP"),
        (b'<?xml version="1.0"?><MPD>', "DASH"),
        (b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'>", "DASH"),
        (b"http://example.com/clip.mp4", "addresses are not fetched"),
        (b"GIF89a" + bytes(40), "GIF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "JPEG"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "WAV"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "WebP"),
        (b"\x00\x00\x00\x20ftypheic" + bytes(20), "HEIF"),
        (b"ID3\x04" + bytes(40), "MP3"),
        (b"%PDF-1.7", "PDF"),
        (b"<!DOCTYPE html><html>", "web page"),
    ],
)
def test_names_what_is_not_a_video(head: bytes, said: str) -> None:
    with pytest.raises(NotAVideo) as caught:
        identify(head)
    assert said in caught.value.detail
    assert "MP4" in caught.value.detail  # what to send instead


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"OggS" + bytes(40), "Ogg"),
        (b"FLV\x01" + bytes(40), "Flash"),
        (b"\x1a\x45\xdf\xa3\x84\x42\x82\x81x", "neither WebM nor Matroska"),
        (b"\x1a\x45\xdf\xa3", "neither WebM nor Matroska"),
    ],
)
def test_names_containers_outside_the_list(head: bytes, said: str) -> None:
    with pytest.raises(ContainerNotAccepted) as caught:
        identify(head)
    assert said in caught.value.detail


def test_nothing_is_an_empty_body() -> None:
    with pytest.raises(EmptyBody):
        identify(b"")


@given(
    start=st.sampled_from(
        [b"", b"\x1a\x45\xdf\xa3", b"RIFF", b"\0\0\0 ftyp", b"\0\0\1\xba", b"\x47\x40\x11\x10"]
    ),
    tail=st.binary(max_size=300),
)
def test_any_bytes_are_identified_or_refused(start: bytes, tail: bytes) -> None:
    with suppress(NotAVideo, NoVideoStream, ContainerNotAccepted, EmptyBody):
        assert identify(start + tail) in CONTAINERS


@pytest.mark.parametrize("brand", [b"M4A ", b"M4B ", b"F4A "])
def test_a_song_has_no_video_stream_also_with_a_cover(brand: bytes) -> None:
    with pytest.raises(NoVideoStream):
        identify(b"\x00\x00\x00\x20ftyp" + brand + bytes(20))


def packets(*headers: bytes, before: bytes = b"") -> bytes:
    return b"".join(before + header.ljust(188, b"\xff") for header in headers)


PACKET = b"\x47\x40\x11\x10"


def test_a_transport_stream_is_several_packets_at_their_distance() -> None:
    assert identify(packets(PACKET, PACKET, PACKET)) == "mpegts"
    assert identify(packets(*[PACKET] * 30)[:SNIFF_BYTES]) == "mpegts"
    assert identify(packets(*[PACKET] * 3, before=b"\x0e\xbf\x46\x22")) == "mpegts"
    # The times before packets of 192 bytes may look like anything, such as a BMP image.
    assert identify(packets(*[PACKET] * 3, before=b"BM\0\0")) == "mpegts"
    filling = b"\x47\x1f\xff\x00"
    assert identify(packets(PACKET, filling, PACKET)) == "mpegts"
    for wrong in (
        packets(PACKET, PACKET),
        packets(PACKET, PACKET, b"\x46\x40\x11\x10"),
        packets(*[PACKET] * 10, b"\x00", PACKET),
        packets(PACKET, b"\x47\x40\x11\x00", PACKET),  # reserved: neither payload nor more header
        b"".join(PACKET.ljust(204, b"\xff") for _ in range(10)),
        b"\x47" * 3,
    ):
        with pytest.raises(NotAVideo):
            identify(wrong)


def test_a_gif_is_a_gif_even_when_a_g_comes_at_every_distance() -> None:
    for start in (b"GIF89a", b"GIF87a"):
        with pytest.raises(NotAVideo) as caught:
            identify(packets(start, *[PACKET] * 20))
        assert "a GIF image" in caught.value.detail


# The first bytes of FFmpeg's own: pack header, then the header of the system.
MPEG_2 = bytes.fromhex("000001ba4400040004018666cff8000001bb0009c333670021ff")
MPEG_1 = bytes.fromhex("000001ba2100010001c33367000001bb0009c333670021ffe0e0")


@pytest.mark.parametrize("head", [MPEG_1, MPEG_2])
def test_a_program_stream_is_a_pack_header_with_all_its_marks(head: bytes) -> None:
    assert identify(head) == "mpegps"
    second = head[3:].index(b"\0\0\1") + 3
    marks = (4, 6, 8, 9, 11 if head is MPEG_1 else 12, second + 2, second + 3)
    for at in marks:
        wrong = bytearray(head)
        wrong[at] = 0
        with pytest.raises(NotAVideo):
            identify(bytes(wrong))
    for length in range(1, 18):
        with pytest.raises(NotAVideo):
            identify(head[:length])


def test_bytes_that_fill_a_pack_header_are_skipped() -> None:
    filled = MPEG_2[:13] + b"\xfb\xff\xff\xff" + MPEG_2[14:]
    assert identify(filled) == "mpegps"


HEADS = {
    "mp4": b"\0\0\0\x20ftypisom" + bytes(20),
    "mov": b"\0\0\0\x20ftypqt  " + bytes(20),
    "webm": b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm",
    "matroska": b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska",
    "avi": b"RIFF\x24\0\0\0AVI LIST",
    "mpegts": packets(PACKET, PACKET, PACKET),
    "mpegps": MPEG_2,
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_that_is_switched_off_is_named_with_those_that_are_not(
    container: Container,
) -> None:
    assert identify(HEADS[container], [container]) == container
    others = [name for name in CONTAINERS if name != container]
    with pytest.raises(ContainerNotAccepted) as caught:
        identify(HEADS[container], others)
    detail = caught.value.detail
    assert f"looks like {TITLES[container]}, which is not accepted" in detail
    assert caught.value.members["accepted"] == titles(others)
    assert all(TITLES[name] in detail.partition("Send ")[2] for name in others)
    assert TITLES[container] not in detail.partition("Send ")[2]
    only = identify_refusal(HEADS[container], others[0])
    assert f"Send {TITLES[others[0]]}, for instance" in only


def identify_refusal(head: bytes, accepted: Container) -> str:
    with pytest.raises(ContainerNotAccepted) as caught:
        identify(head, [accepted])
    return caught.value.detail
