"""Streams are fetched by a program that follows nothing and says no password."""

import asyncio
import errno
import functools
import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import live_processes
import pytest

from service.decoding.clusters import ClusterCutter, Piece
from service.decoding.fetching import (
    Fetcher,
    FetchPlan,
    SourceError,
    StreamLost,
    plan_of,
    plan_of_pipe,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of video, as a file and as a transport stream."""
    folder = tmp_path_factory.mktemp("streams")
    for name in ("clip.mp4", "clip.ts"):
        subprocess.run(
            ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
             "testsrc2=size=64x64:rate=10:duration=1", "-pix_fmt", "yuv420p", "-g", "5",
             folder / name],
            check=True,
        )  # fmt: skip
    return folder


@contextmanager
def served(folder: Path, *, tls: bool = False) -> Iterator[tuple[str, list[str]]]:
    """A folder over HTTP, and what was asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http{'s' if tls else ''}://localhost:{server.server_port}", asked
        server.shutdown()
        serving.join()


async def fetch(plan: FetchPlan) -> tuple[list[Piece], str]:
    """The clusters that came, and what was said last."""
    cutter, found = ClusterCutter(), list[Piece]()
    async with Fetcher(plan) as fetcher:
        async for chunk in fetcher.chunks():
            found += [piece for piece in cutter.push(chunk) if piece.time is not None]
        return found, await fetcher.why()


@pytest.mark.slow
def test_files_and_addresses_are_fetched(folder: Path) -> None:
    pieces, said = asyncio.run(fetch(plan_of(str(folder / "clip.mp4"), "prefer")))
    assert (len(pieces), said) == (10, "")
    with served(folder) as (url, _):
        pieces, said = asyncio.run(fetch(plan_of(f"{url}/clip.ts", "prefer")))
    assert (len(pieces), said) == (10, "")


@pytest.mark.slow
def test_a_playlist_is_not_followed(folder: Path) -> None:
    with served(folder) as (url, asked):
        for name, text in (
            ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{url}/clip.ts\n"),
            ("list.ffconcat", "ffconcat version 1.0\nfile {url}/clip.ts\n"),
        ):
            (folder / name).write_text(text.format(url=url))
            pieces, said = asyncio.run(fetch(plan_of(f"{url}/{name}", "off")))
            assert not pieces
            assert said
        assert {path.rpartition(".")[2] for path in asked} == {"m3u8", "ffconcat"}


@pytest.mark.slow
def test_a_password_is_not_said(folder: Path) -> None:
    with served(folder) as (url, _):
        source = url.replace("://", "://someone:p@secret@") + "/none.ts?token=hidden"
        plan = plan_of(source, "prefer")
        assert plan.shown == f"{url}/none.ts"
        pieces, said = asyncio.run(fetch(plan))
    assert not pieces
    assert "404" in said
    assert plan.shown in said
    assert "secret" not in said
    assert "hidden" not in said


@pytest.mark.slow
def test_a_certificate_is_held_against_the_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("key.pem", "certificate.pem"):
        (folder / name).unlink(missing_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "certificate.pem",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    with served(folder, tls=True) as (url, _):
        pieces, said = asyncio.run(fetch(plan_of(f"{url}/clip.ts", "prefer")))
        assert not pieces
        assert said
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "certificate.pem"))
        pieces, said = asyncio.run(fetch(plan_of(f"{url}/clip.ts", "prefer")))
        assert (len(pieces), said) == (10, "")


@pytest.mark.slow
def test_what_is_sent_is_muxed_anew(folder: Path) -> None:
    async def send() -> list[Piece]:
        cutter, found = ClusterCutter(), list[Piece]()
        async with Fetcher(plan_of_pipe("mpegts", "prefer"), piped=True) as fetcher:
            await fetcher.send((folder / "clip.ts").read_bytes())
            fetcher.end()
            async for chunk in fetcher.chunks():
                found += cutter.push(chunk)
        return found

    assert len(asyncio.run(send())) == 11


@pytest.mark.slow
def test_a_host_that_is_not_there_is_told() -> None:
    with pytest.raises(StreamLost, match=r"^nowhere\.invalid: "):
        asyncio.run(fetch(plan_of("rtsp://user:secret@nowhere.invalid/a", "prefer")))


def test_a_process_that_cannot_be_watched_is_not_left_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []

    def none_left(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        asyncio.run(fetch(plan_of_pipe("mpegts", "off")))
    (pid,) = started
    assert not live_processes.is_running(pid)


def test_each_attempt_takes_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("rtsp://camera/door", "off")

    async def numbered(turn: int) -> str:
        async def found(*_: object, **__: object) -> list[Any]:
            return [(0, 0, 0, "", ("::1", 554, 0, 0)), (0, 0, 0, "", ("127.0.0.1", 554))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        return (await Fetcher(plan, turn=turn)._numbered())[-1]

    assert [asyncio.run(numbered(turn)) for turn in range(3)] == [
        "rtsp://[::1]/door", "rtsp://127.0.0.1/door", "rtsp://[::1]/door",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("ftp://host/a", "ftp:// is not fetched"),
        ("concat://a|b", "concat:// is not fetched"),
        ("rtsp:///a", "names no host"),
        ("http://[::1/a", "IPv6 address in brackets"),
        ("nowhere.mp4", "No such file"),
    ],
)
def test_what_is_no_source_is_told_in_a_sentence(source: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        plan_of(source, "prefer")


def test_a_file_that_is_no_video_is_none(tmp_path: Path) -> None:
    script = tmp_path / "clip.mp4"
    script.write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    with pytest.raises(SourceError, match="concat script"):
        plan_of(str(script), "prefer")
