"""Which container an upload is, from its first bytes: an allow-list.

FFmpeg probes some four hundred formats, among them playlists that make it open other files or the
network (ffconcat, HLS, DASH, SDP). Nothing reaches it whose first bytes are not those of a
container people really upload; that FFmpeg then takes it for the same container is asked in the
decode worker (:mod:`service.decoding.demuxer`). What is refused is named where it is known, so that
the answer helps.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from service.errors import ContainerNotAccepted, EmptyBody, NotAVideo, NoVideoStream

Container = Literal["mp4", "mov", "webm", "matroska", "avi", "mpegts", "mpegps"]
CONTAINERS: tuple[Container, ...] = get_args(Container)

# What people call them.
TITLES: dict[Container, str] = {
    "mp4": "MP4",
    "mov": "MOV",
    "webm": "WebM",
    "matroska": "MKV",
    "avi": "AVI",
    "mpegts": "MPEG-TS",
    "mpegps": "MPEG-PS",
}

# Enough for the EBML header of any muxer, whose document type is what tells WebM from others, and
# for 21 packets of a transport stream.
SNIFF_BYTES = 4096

# A transport stream's packet, and the one of Blu-ray and AVCHD with four bytes of time before it:
# the distance of its sync bytes and where the first is. Packets of 204 bytes, with a code that
# corrects errors, are those of broadcasting equipment, and are not accepted.
_PACKETS = ((188, 0), (192, 4))
# One sync byte is the letter G. A stream with a picture has at least a table of programs, a table
# of streams and a packet of the picture.
_LEAST_PACKETS = 3
_NULL_PACKET = 0x1FFF
_PACK_HEADER = b"\x00\x00\x01\xba"

_EBML = b"\x1a\x45\xdf\xa3"
_EBML_DOCTYPE = b"\x42\x82"

# QuickTime files from before `ftyp` existed begin with any of these atoms.
_OLD_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ")
_IMAGE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif",
                 b"avis", b"crx ")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Known:
    """Something that is refused by name."""

    start: bytes
    name: str
    is_video: bool = False


_UNKNOWN = _Known(b"", "")
# Text is matched in lower case after a byte order mark and white space, because FFmpeg skips some.
_TEXTS = (
    _Known(b"ffconcat version", "an FFmpeg concat script"),
    _Known(b"#extm3u", "an HLS or M3U playlist"),
    _Known(b"v=0\r", "an SDP session description"),
    _Known(b"v=0\n", "an SDP session description"),
    _Known(b"<mpd", "a DASH manifest"),
    _Known(b"<smil", "a SMIL playlist"),
    _Known(b"<?xml", "an XML document, such as a DASH manifest"),
    _Known(b"<!doctype html", "a web page"),
    _Known(b"<html", "a web page"),
    _Known(b"[playlist]", "a PLS playlist"),
    _Known(b"{", "a JSON document"),
    _Known(b"http://", "an address; addresses are not fetched"),
    _Known(b"https://", "an address; addresses are not fetched"),
    _Known(b"file:", "an address; addresses are not fetched"),
    _Known(b"rtsp://", "an address; addresses are not fetched"),
)  # fmt: skip

_BINARIES = (
    _Known(b"GIF87a", "a GIF image"),
    _Known(b"GIF89a", "a GIF image"),
    _Known(b"\x89PNG\r\n\x1a\n", "a PNG image"),
    _Known(b"\xff\xd8\xff", "a JPEG image"),
    _Known(b"BM", "a BMP image"),
    _Known(b"II*\x00", "a TIFF image"),
    _Known(b"MM\x00*", "a TIFF image"),
    _Known(b"ID3", "an MP3 file"),
    _Known(b"\xff\xfb", "an MP3 file"),
    _Known(b"\xff\xf1", "an AAC file"),
    _Known(b"fLaC", "a FLAC file"),
    _Known(b"%PDF", "a PDF document"),
    _Known(b"PK\x03\x04", "a ZIP archive"),
    _Known(b"\x1f\x8b", "a gzip archive"),
    _Known(b"\x7fELF", "a program"),
    _Known(b"MZ", "a program"),
    _Known(b"OggS", "an Ogg file", is_video=True),
    _Known(b"FLV\x01", "a Flash video", is_video=True),
    _Known(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file", is_video=True),
    _Known(b"\x00\x00\x01\xb3", "a raw MPEG video stream", is_video=True),
    _Known(b"\x00\x00\x00\x01", "a raw H.264 or HEVC stream", is_video=True),
    _Known(b"DKIF", "an IVF file", is_video=True),
    _Known(b"YUV4MPEG2", "a YUV4MPEG2 file", is_video=True),
    _Known(b".RMF", "a RealMedia file", is_video=True),
    _Known(b"\x06\x0e\x2b\x34", "an MXF file", is_video=True),
)


def identify(head: bytes, accepted: Collection[Container] = CONTAINERS) -> Container:
    """Name the container that the first bytes of a clip belong to.

    Args:
        head: the first ``SNIFF_BYTES`` bytes, or all there are.
        accepted: the containers that are let through.

    Raises:
        EmptyBody: there are none.
        NotAVideo: known to be something else, or nothing known.
        NoVideoStream: a container that holds only sound, and perhaps a cover.
        ContainerNotAccepted: a video container outside the allow-list.
    """
    if not head:
        raise EmptyBody
    found = _recognise(head)
    if isinstance(found, _Known):
        if found.is_video:
            raise ContainerNotAccepted(found.name, titles(accepted))
        raise NotAVideo(found.name or None, titles(accepted))
    if found not in accepted:
        raise ContainerNotAccepted(TITLES[found], titles(accepted))
    return found


def titles(containers: Collection[Container]) -> list[str]:
    """What people call them, the usual ones first."""
    return [TITLES[container] for container in CONTAINERS if container in containers]


def _recognise(head: bytes) -> Container | _Known:
    if head[:4] == _EBML:
        return _matroska(head)
    if head[:4] == b"RIFF":
        return _riff(head)
    if (container := _iso_media(head)) is not None:
        return container
    if _is_program_stream(head):
        return "mpegps"
    # One sync byte of a GIF is its first letter, and the others may be made to fit.
    if not head.startswith(b"GIF8") and _is_transport_stream(head):
        return "mpegts"
    for known in _BINARIES:
        if head.startswith(known.start):
            return known
    text = re.sub(rb"^(\xef\xbb\xbf)?\s*", b"", head[:512]).lower()
    for known in _TEXTS:
        if text.startswith(known.start):
            return known
    return _UNKNOWN


def _iso_media(head: bytes) -> Container | _Known | None:
    """MP4 and QuickTime: a size, then the type of the first box."""
    if len(head) < 12:
        return None
    size, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if kind == b"ftyp" and size >= 12:
        brand = head[8:12]
        if brand in _AUDIO_BRANDS:
            raise NoVideoStream
        if brand in _IMAGE_BRANDS:
            return _Known(b"", "a HEIF or AVIF image")
        return "mov" if brand == b"qt  " else "mp4"
    # A size of 0 means "to the end of the file", 1 "a 64-bit size follows".
    if kind in _OLD_QUICKTIME_ATOMS and (size in (0, 1) or size >= 8):
        return "mov"
    return None


def _is_transport_stream(head: bytes) -> bool:
    """Whether every packet that begins in there has a header (ISO/IEC 13818-1, 2.4.3.2).

    Its first byte is the sync byte, and two of its bits say what follows; both being 0 is reserved,
    except in packets that are there to fill.
    """
    for distance, first in _PACKETS:
        headers = [head[at : at + 4] for at in range(first, len(head) - 3, distance)]
        if len(headers) >= _LEAST_PACKETS and all(
            sync == 0x47 and (control & 0x30 or (high & 0x1F) << 8 | low == _NULL_PACKET)
            for sync, high, low, control in headers
        ):
            return True
    return False


def _is_program_stream(head: bytes) -> bool:
    """Whether it begins with a pack header, of MPEG-1 or MPEG-2, that a start code follows.

    Both have bits that are always 1 between the parts of their clock and their rate (ISO/IEC
    11172-1, 2.4.3.2; ISO/IEC 13818-1, 2.5.3.3); start codes of systems are those from 0xBA on.
    """
    if not head.startswith(_PACK_HEADER) or len(head) < 18:
        return False
    if head[4] & 0xF1 == 0x21:  # MPEG-1
        marked = head[6] & 1 and head[8] & 1 and head[9] & 0x80 and head[11] & 1
        following = head[12:16]
    elif head[4] & 0xC4 == 0x44:  # MPEG-2, with up to seven bytes that fill
        marked = head[6] & 4 and head[8] & 4 and head[9] & 1 and head[12] & 3 == 3
        at = 14 + (head[13] & 7)
        following = head[at : at + 4]
    else:
        return False
    return bool(marked) and following[:3] == b"\x00\x00\x01" and following[3:] >= b"\xba"


def _riff(head: bytes) -> Container | _Known:
    form = head[8:12]
    if form == b"AVI ":
        return "avi"
    names = {b"WAVE": "a WAV file", b"WEBP": "a WebP image"}
    return _Known(b"", names.get(form, "a RIFF file"))


def _matroska(head: bytes) -> Container | _Known:
    """Walk the EBML header's elements up to its document type."""
    try:
        end, position = _ebml_size(head, 4)
        end += position
        while position < min(end, len(head)):
            width = _ebml_width(head[position])
            name, position = head[position : position + width], position + width
            size, position = _ebml_size(head, position)
            if name == _EBML_DOCTYPE:
                document = head[position : position + size].rstrip(b"\x00")
                if document == b"webm":
                    return "webm"
                if document == b"matroska":
                    return "matroska"
                break
            position += size
    except IndexError:
        pass
    return _Known(b"", "an EBML file that is neither WebM nor Matroska", is_video=True)


def _ebml_width(first: int) -> int:
    """Bytes of a variable-length number, from the leading zero bits of its first byte."""
    if first == 0:
        raise IndexError("not a number of at most 8 bytes")
    return 9 - first.bit_length()


def _ebml_size(head: bytes, position: int) -> tuple[int, int]:
    """Return (value, position after it)."""
    first = head[position]
    width = _ebml_width(first)
    if position + width > len(head):
        raise IndexError("the number is cut off")
    value = int.from_bytes(head[position : position + width], "big") & ((1 << (7 * width)) - 1)
    return value, position + width
