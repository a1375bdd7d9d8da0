"""Bodies, however they are cut into pieces."""

import time
from dataclasses import replace
from itertools import pairwise

import pytest
from http_bodies import LIMITS, read
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BodyTooLarge,
    ClientDisconnected,
    EmptyBody,
    MalformedMultipart,
    MissingFile,
    NotAVideo,
    Overloaded,
    ServiceError,
    SeveralFiles,
    UnsupportedMediaType,
    UploadTimeout,
    UploadTooSlow,
)
from service.http.body import HeldMemory
from service.pipeline.way import Received

CLIP = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 20
BOUNDARY = b"----edge"
MULTIPART = "multipart/form-data; boundary=----edge"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    extra = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY.decode()}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes, end: bytes = b"--" + BOUNDARY + b"--\r\n") -> bytes:
    return b"".join(parts) + end


@pytest.mark.slow
@given(st.lists(st.integers(0, len(CLIP)), max_size=8))
def test_a_raw_body_in_any_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(CLIP)]
    pieces = [CLIP[a:b] for a, b in pairwise(edges)]
    content, received = read(pieces)
    assert content == CLIP
    assert received == Received("mp4", [])


WHOLE = form(part("sparsity", b"0.9"), part("file", CLIP, "a.mp4"), part("top", b"3"))


@pytest.mark.slow
@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_a_form_in_any_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[a:b] for a, b in pairwise(edges)]
    content, received = read(pieces, MULTIPART)
    assert content == CLIP
    assert received == Received("mp4", [("sparsity", "0.9"), ("top", "3")])


def test_a_form_byte_by_byte() -> None:
    content, _ = read([bytes([byte]) for byte in WHOLE], MULTIPART)
    assert content == CLIP


def test_a_file_without_a_file_name_is_a_file() -> None:
    content, _ = read([form(part("file", CLIP))], MULTIPART)
    assert content == CLIP


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (form(part("top", b"3")), MissingFile),
        (form(part("clip", CLIP, "a.mp4")), MissingFile),
        (form(part("file", CLIP, "a.mp4"), part("file", CLIP, "b.mp4")), SeveralFiles),
        (form(part("file", CLIP, "a.mp4"), part("other", CLIP, "b.mp4")), SeveralFiles),
        (form(part("file", b"", "a.mp4")), EmptyBody),
        (b"", EmptyBody),
        (form(part("file", b"GIF89a" + bytes(99), "a.mp4")), NotAVideo),
        (form(part("file", CLIP, "a.mp4"), end=b""), MalformedMultipart),
        (form(part("file", CLIP, "a.mp4"), end=b"--" + BOUNDARY), MalformedMultipart),
        (b"no boundary at all", MalformedMultipart),
        (form(*[part("top", b"3")] * 5), MalformedMultipart),
        (form(part("top", b"3" * 101)), MalformedMultipart),
        (form(part("x" * 101, b"3")), MalformedMultipart),
        (form(b"--" + BOUNDARY + b"\r\nContent-Type: video/mp4\r\n\r\nx\r\n"), MalformedMultipart),
        (form(b"--" + BOUNDARY + b"\r\nNo colon\r\n\r\nx\r\n"), MalformedMultipart),
    ],
)
def test_bad_forms(body: bytes, error: type[ServiceError]) -> None:
    with pytest.raises(error) as caught:
        read([body], MULTIPART)
    assert caught.value.detail


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", *(f"multipart/form-data; boundary={text}" for text in ("", "x" * 71))],
)
def test_a_form_without_a_usable_boundary(content_type: str) -> None:
    with pytest.raises(MalformedMultipart):
        read([WHOLE], content_type)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "videos/mp4", ";"])
def test_other_content_types(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        read([CLIP], content_type)


def test_the_cap_is_on_what_arrives() -> None:
    room = LIMITS.max_body_bytes - len(CLIP)
    assert len(read([CLIP, bytes(room)])[0]) == LIMITS.max_body_bytes
    with pytest.raises(BodyTooLarge):
        read([CLIP, bytes(room + 1)])
    with pytest.raises(BodyTooLarge):
        read([CLIP, bytes(room + 1)], content_length="10")  # it lies


def test_a_length_beyond_the_cap_is_refused_before_anything_is_read() -> None:
    with pytest.raises(BodyTooLarge):
        read([], ends="never", content_length=str(LIMITS.max_body_bytes + 1))


def test_what_is_not_a_video_is_refused_before_all_of_it_is_there() -> None:
    with pytest.raises(NotAVideo):
        read([b"GIF89a" + bytes(5000)], ends="never")


@pytest.mark.slow
def test_a_body_that_dribbles_is_given_up() -> None:
    with pytest.raises(UploadTimeout):
        read([CLIP], ends="never")


@pytest.mark.slow
def test_a_body_may_be_slow_for_the_grace_and_then_has_to_keep_up() -> None:
    """After 0.4 s of grace a byte is worth a millisecond: 5000 bytes may take 5.4 s, not 400 s."""
    slow = replace(
        LIMITS,
        upload_timeout_seconds=60,
        min_upload_bytes_per_second=1000,
        upload_grace_seconds=0.4,
    )
    # 100 bytes every 20 ms are five times the rate: all of it comes in.
    pieces = [CLIP[start : start + 100] for start in range(0, len(CLIP), 100)]
    assert read(pieces, limits=slow, pause=0.02)[0] == CLIP
    # 4 bytes every 20 ms are a fifth of it: they get the grace, and what those bytes are worth.
    began = time.monotonic()
    with pytest.raises(UploadTooSlow) as caught:
        read([CLIP[:4]] * 1000, limits=slow, pause=0.02)
    assert 0.4 <= time.monotonic() - began < 20
    assert caught.value.members["limit"] == 1000
    with pytest.raises(UploadTooSlow):
        read([CLIP[:12]], limits=slow, ends="never")


def test_all_bodies_together_have_so_much_memory() -> None:
    memory = HeldMemory(len(CLIP) + 10)
    memory.take(10)
    assert read([CLIP], memory=memory)[0] == CLIP
    assert memory.held_bytes == 10, "given back, also the last time"
    memory.take(1)
    with pytest.raises(Overloaded):
        read([CLIP], memory=memory)
    assert memory.held_bytes == 11
    with pytest.raises(ClientDisconnected):
        read([CLIP], ends="disconnect", memory=HeldMemory(len(CLIP)))


def test_a_client_that_leaves() -> None:
    with pytest.raises(ClientDisconnected):
        read([CLIP], ends="disconnect")
