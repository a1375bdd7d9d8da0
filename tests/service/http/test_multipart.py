"""Forms as the standard allows them and as clients spell them; and those that it forbids."""

import email.mime.multipart
import email.mime.nonmultipart
import email.policy
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import requests
from http_bodies import LIMITS, read
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from multipart_forms import CLIENTS, CLIP, FORM, HEAD, LEGAL, lines
from service_server import Server

from service.errors import MalformedMultipart, ServiceError, SeveralFiles
from service.http.multipart import MAX_HEADER_BYTES, MAX_PREAMBLE_BYTES, MultipartReader
from service.pipeline.way import Received

# 255 bytes of UTF-8, the most that Linux keeps, and 255 UTF-16 code units, the most that NTFS does.
LINUX_NAME = "動" * 83 + "ab.mp4"
NTFS_NAME = "動" * 251 + ".mp4"

ROOM = replace(LIMITS, max_body_bytes=200_000)


def same(body: bytes, content_type: str, fields: list[tuple[str, str]]) -> None:
    """It is read alike as a whole, and byte by byte, or nearly so."""
    for size in (len(body), 1 if len(body) < 4096 else 499):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        content, received = read(pieces, content_type, limits=ROOM)
        assert content == CLIP
        assert received == Received("mp4", fields)


TOP = [("top", "3")]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_clients_send(client: str) -> None:
    content_type, body = CLIENTS[client]
    same(body, content_type, TOP)


@pytest.mark.parametrize("form", LEGAL)
def test_what_is_legal(form: str) -> None:
    same(LEGAL[form], "multipart/form-data; boundary=b", TOP)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/form-data; boundary="a b:c/d=e?f(g),h"', "a b:c/d=e?f(g),h"),
        ("Multipart/Form-Data; Boundary=b", "b"),
        ("multipart/form-data;charset=utf-8;boundary=b;x=1", "b"),
        ('multipart/form-data; boundary="' + "'()+_,-./:=?" * 5 + '"', "'()+_,-./:=?" * 5),
        (f"multipart/form-data; boundary={'7' * 70}", "7" * 70),
        ("multipart/form-data; boundary=--", "--"),
    ],
)
def test_boundaries(content_type: str, boundary: str) -> None:
    body = (FORM + b"\r\n--b--\r\n").replace(b"--b", b"--" + boundary.encode())
    same(body, content_type, TOP)


def named(disposition: str) -> bytes:
    return lines("--b", f"Content-Disposition: form-data; name=file; {disposition}",
                 "Content-Type: application/octet-stream", "Content-Transfer-Encoding: binary",
                 f"Content-Length: {len(CLIP)}", "", CLIP, "--b--", "")  # fmt: skip


@pytest.mark.parametrize("name", [LINUX_NAME, NTFS_NAME], ids=["Linux", "NTFS"])
def test_the_longest_names_in_every_spelling(name: str) -> None:
    """The smallest limit of form fields takes nothing from the room that headers have."""
    assert len(LINUX_NAME.encode()) == 255
    encoded = f"filename*=UTF-8''{quote(name)}"
    as_mail = "=?UTF-8?Q?" + quote(name).replace("%", "=") + "?="
    entities = "".join(f"&#{ord(letter)};" for letter in name)
    for spelt in (
        f'filename="{name}"', encoded, f'filename="{name}"; {encoded}', f'filename="{as_mail}"',
        f'filename="{quote(name)}"; {encoded}', f'filename="{entities}"; {encoded}',
        f'filename="{as_mail}"; {encoded}',
    ):  # fmt: skip
        body = named(spelt)
        assert read([body], "multipart/form-data; boundary=b", limits=LIMITS)[0] == CLIP


def test_the_limits_are_named() -> None:
    def refused(body: bytes) -> MalformedMultipart:
        with pytest.raises(MalformedMultipart) as caught:
            read([body], "multipart/form-data; boundary=b", limits=ROOM)
        return caught.value

    documented = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    assert f"A part's headers may have {MAX_HEADER_BYTES:,} bytes" in documented

    fixed = len(named('filename=""')) - len(lines("--b", "", "", CLIP, "--b--", ""))
    longest = "x" * (MAX_HEADER_BYTES - fixed)
    assert read([named(f'filename="{longest}"')], "multipart/form-data; boundary=b")[0] == CLIP
    error = refused(named(f'filename="{longest}x"'))
    assert f"more than {MAX_HEADER_BYTES} bytes" in error.detail
    assert error.members["limit"] == MAX_HEADER_BYTES

    preamble = b"x" * (MAX_PREAMBLE_BYTES - 2) + b"\r\n"
    whole = FORM + b"\r\n--b--\r\n"
    assert read([preamble + whole], "multipart/form-data; boundary=b", limits=ROOM)[0] == CLIP
    for longer in (b"x" + preamble, b"\r\n--bx" * MAX_PREAMBLE_BYTES + b"\r\n"):
        error = refused(longer + whole)
        assert f"first {MAX_PREAMBLE_BYTES} bytes" in error.detail
        assert error.members["limit"] == MAX_PREAMBLE_BYTES


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ((FORM + b"\r\n--b--\r\n").replace(b"\r\n", b"\n"), MalformedMultipart, "CR LF"),
        (FORM + b"x\n--b--\r\n", MalformedMultipart, "last boundary"),
        (b"x" + FORM[:20], MalformedMultipart, "none of the boundaries"),
        (FORM.replace(b"--b\r\n", b"--b\r\n: x\r\n"), MalformedMultipart, "`Name: value`"),
        (FORM.replace(b"--b\r\n", b"--b\r\n x: y\r\n"), MalformedMultipart, "`Name: value`"),
        (lines("--b", "", CLIP, "--b--"), MalformedMultipart, "no Content-Disposition"),
        (
            lines("--b", HEAD, "Content-Transfer-Encoding: base64", "", "AAAA", "--b--"),
            MalformedMultipart,
            "'base64'; send it as it is",
        ),
        (
            lines("--b", "Content-Disposition: form-data; name=file",
                  "Content-Type: multipart/mixed; boundary=c", "", "--c", "--b--"),
            SeveralFiles,
            "one request for each clip",
        ),
        (
            FORM + lines("", "--b", "Content-Disposition: form-data; name=x; filename*=utf-8''y",
                         "", "z", "--b--"),
            SeveralFiles,
            "`for clip in",
        ),
    ],
)  # fmt: skip
def test_what_is_not_legal(body: bytes, error: type[ServiceError], said: str) -> None:
    for size in (len(body), 1):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        with pytest.raises(error) as caught:
            read(pieces, "multipart/form-data; boundary=b", limits=ROOM)
        assert said in caught.value.detail


class Collected:
    """The parts as they are told."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.ended = 0

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        assert headers == {b"content-disposition": b"form-data; name=x"}
        self.parts.append(b"")

    def data(self, data: memoryview) -> None:
        self.parts[-1] += data

    def end(self) -> None:
        self.ended += 1


BOUNDARY_LETTERS = "abcXYZ019'()+_,-./:=?"
TEXT = st.text("ab-\r\n :\u52d5", max_size=30)


@pytest.mark.slow
@settings(deadline=None)
@given(
    boundary=st.text(BOUNDARY_LETTERS, min_size=1, max_size=70),
    contents=st.lists(TEXT, max_size=3),
    preamble=TEXT,
    epilogue=TEXT,
    padding=st.text(" \t", max_size=5),
    step=st.integers(1, 90),
    data=st.data(),
)
def test_any_legal_form_in_any_pieces(
    boundary: str,
    contents: list[str],
    preamble: str,
    epilogue: str,
    padding: str,
    step: int,
    data: st.DataObject,
) -> None:
    """Contents hold what looks like boundaries as far as the standard lets them."""
    forbidden = f"\r\n--{boundary}"
    nearly = data.draw(st.sampled_from(["", *(forbidden[:cut] for cut in range(len(forbidden)))]))
    parts = [f"{content}{nearly}".encode() for content in contents]
    assume(all(forbidden.encode() not in b"\r\n" + part for part in (*parts, preamble.encode())))
    body = f"{preamble}\r\n".encode()
    for content in parts:
        body += f"--{boundary}{padding}\r\nContent-Disposition: form-data; name=x\r\n".encode()
        body += b"\r\n" + content + b"\r\n"
    body += f"--{boundary}--{padding}\r\n{epilogue}".encode()
    collected = Collected()
    reader = MultipartReader(boundary.encode(), collected)
    for start in range(0, len(body), step):
        reader.feed(body[start : start + step])
    reader.finish()
    assert collected.parts == parts
    assert collected.ended == len(parts)


def with_mail(url: str, clip: bytes) -> int:
    """Python's own library for mail, which some build forms with: preamble, folded headers."""
    form = email.mime.multipart.MIMEMultipart("form-data", boundary="=a=")
    form.preamble = "This is a multi-part message in MIME format."
    part = email.mime.nonmultipart.MIMENonMultipart("video", "mp4")
    part.add_header("Content-Disposition", "form-data", name="file", filename=LINUX_NAME)
    part.set_payload("@")
    form.attach(part)
    policy = email.policy.HTTP.clone(max_line_length=78)
    body = form.as_bytes(policy=policy).partition(b"\r\n\r\n")[2].replace(b"@", clip)
    assert body.startswith(b"This is")
    assert b"\r\n " in body
    headers = {"content-type": 'multipart/form-data; boundary="=a="'}
    return httpx.post(f"{url}/classify", content=body, headers=headers).status_code


def with_requests(url: str, clip: bytes) -> int:
    files = {"file": (LINUX_NAME, clip)}
    return requests.post(
        f"{url}/classify", files=files, data={"top": 3, "strict": True}, timeout=120
    ).status_code


def with_httpx(url: str, clip: bytes) -> int:
    files = {"file": (LINUX_NAME, clip)}
    form = {"top": 3, "strict": True}
    return httpx.post(f"{url}/classify", files=files, data=form, timeout=120).status_code


def without_a_type(url: str, clip: bytes) -> int:
    return requests.post(f"{url}/classify", data=clip, timeout=120).status_code


@pytest.mark.parametrize("send", [with_mail, with_requests, with_httpx, without_a_type])
def test_python_clients(server: Server, white: Path, send: Callable[[str, bytes], int]) -> None:
    assert send(server.url, white.read_bytes()) == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(server: Server, white: Path, tmp_path: Path) -> None:
    clip = tmp_path / LINUX_NAME
    clip.write_bytes(white.read_bytes())
    for sent in (
        ["-F", f"file=@{clip}"],
        ["-F", f"file=@{clip};encoder=binary", "-F", "top=3", "-F", "sparsity="],
        ["-F", f"file=@{clip}", "-H", "Expect: 100-continue"],
        ["--data-binary", f"@{clip}", "-H", "Content-Type: video/mp4"],
        ["--data-binary", f"@{clip}", "-H", "Content-Type:"],
        ["-T", str(clip), "-X", "POST"],
    ):
        done = subprocess.run(
            ["curl", "-sS", "-w", "%{http_code}", *sent, f"{server.url}/classify"],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert done.stdout.endswith("}200"), (sent, done.stdout)
