"""The first bytes decide what reaches a decoder."""

from contextlib import suppress
from pathlib import Path

import pytest
import service_clips as clips
from hypothesis import given
from hypothesis import strategies as st

from service.containers import SNIFF_BYTES, identify
from service.errors import ContainerNotAccepted, EmptyBody, NotAVideo


@pytest.mark.parametrize(
    ("name", "encode", "expected"),
    [
        ("a.mp4", ("-c:v", "libx264"), "mp4"),
        ("a.mov", ("-c:v", "mpeg4"), "mov"),
        ("a.webm", ("-c:v", "libvpx"), "webm"),
        ("a.mkv", ("-c:v", "mpeg4"), "matroska"),
        ("a.avi", ("-c:v", "mpeg4"), "avi"),
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
        (b"\x00\x00\x00\x20ftypM4A " + bytes(20), "only sound"),
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
        ((b"\x47" + bytes(187)) * 3, "transport stream"),
        (b"OggS" + bytes(40), "Ogg"),
        (b"FLV\x01" + bytes(40), "Flash"),
        (b"\x00\x00\x01\xba" + bytes(40), "program stream"),
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
    start=st.sampled_from([b"", b"\x1a\x45\xdf\xa3", b"RIFF", b"\0\0\0 ftyp"]),
    tail=st.binary(max_size=300),
)
def test_any_bytes_are_identified_or_refused(start: bytes, tail: bytes) -> None:
    with suppress(NotAVideo, ContainerNotAccepted, EmptyBody):
        assert identify(start + tail) in ("mp4", "mov", "webm", "matroska", "avi")
