"""Streams as packets: FFmpeg's program, confined, takes them from where they are and writes them as
Matroska, a cluster for each, without decoding one."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from service.decoding.containers import SNIFF_BYTES, Container, identify
from service.decoding.demuxer import DEMUXERS
from service.decoding.sandbox.confinement import SandboxPolicy
from service.errors import ServiceError
from startup.path import child_environment, python_command
from startup.sandbox.program import NOT_RUN, Powers
from startup.sandbox.seccomp import Sockets

_PROGRAM = "startup.sandbox.program"
_MEMORY_BYTES = 1 << 30
_CHUNK_BYTES = 64 << 10
_MOST_SAID = 2000
_STOP_SECONDS = 1.0
# The second is the dynamic linker's, where a library is missing. FFmpeg itself ends with neither.
_NOT_RUN = (NOT_RUN, 127)
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "PYTHONHOME",
                "PYTHONUSERBASE", "PYTHONDONTWRITEBYTECODE")  # fmt: skip

# What may come by HTTP: no playlists, which name further addresses.
_FORMATS = (*sorted(set(DEMUXERS.values())), "flv", "mpjpeg", "h264", "hevc")
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,tcp", "rtsps": "rtsp,rtsps,rtp,tls,tcp", "http": "http,tcp",
    "https": "https,http,tls,tcp",
}  # fmt: skip

# FFmpeg looks at a stream for up to five seconds before it says anything.
_SOON = ("-analyzeduration", "1000000")
# From the muxer, a cluster as soon as the next packet comes, and nothing that is written later.
MUXED = ("-map", "0:v:0", "-c", "copy", "-f", "matroska", "-live", "1", "-cluster_time_limit", "1",
        "-cluster_size_limit", "1", "-flush_packets", "1", "pipe:1")  # fmt: skip


# The first packets of an RTSP stream have no time stamps of presentation, and those with frames
# that are shown in another order none of decoding; the muxer wants both, and writes the first.
_DATED = ("-copyts", "-avoid_negative_ts", "disabled", "-bsf:v",
          r"setts=pts=if(eq(PTS\,NOPTS)\,if(eq(PREV_OUTPTS\,NOPTS)\,0\,PREV_OUTPTS+1)\,PTS)"
          r":dts=(N/1000-3600)/TB")  # fmt: skip


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


class SourceError(Exception):
    """A source that cannot be watched at all; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """How a source is fetched.

    Attributes:
        arguments: FFmpeg's, up to its input.
        output: those of its output, beside what all have.
        ends: whether the source has an end: a file. Others break.
        powers: what the program keeps.
        host: that is connected to; empty of other sources.
        shown: the source without its password.
    """

    arguments: tuple[str, ...]
    powers: Powers
    shown: str
    ends: bool = False
    host: str = ""
    output: tuple[str, ...] = ()


def plan_of(source: str, sandbox: SandboxPolicy) -> FetchPlan:
    """How to fetch a file in real time, a camera (``/dev/video0``), an address of RTSP or HTTP.

    Raises:
        SourceError: it is none of these, or cannot be read.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    if found is None:
        return _of_path(Path(source), sandbox)
    scheme = found.group(1).lower()
    if scheme not in _PORTS:
        raise SourceError(
            f"{scheme}:// is not fetched; a source is a file, a camera such as /dev/video0, or an "
            "address that begins with rtsp://, rtsps://, http:// or https://"
        )
    try:
        parts = urlsplit(source)
        host, port = parts.hostname or "", parts.port or _PORTS[scheme]
    except ValueError:
        raise SourceError("the address cannot be read; write an IPv6 address in brackets") from None
    if not host:
        raise SourceError(f"the address names no host: {scheme}://HOST/PATH")
    place = f"[{host}]" if ":" in host else host
    shown = urlunsplit(
        (scheme, place + (f":{parts.port}" if parts.port else ""), parts.path, "", "")
    )
    tells_names = scheme.endswith("s")
    arguments, files = ["-protocol_whitelist", _PROTOCOLS[scheme]], tuple[str, ...]()
    if scheme == "https":
        arguments += ["-tls_verify", "1"]
        if trusted := os.environ.get("SSL_CERT_FILE"):
            arguments += ["-ca_file", trusted]
            files = (trusted,)
    if scheme in ("rtsp", "rtsps"):
        arguments += ["-rtsp_transport", "tcp"]
    else:
        arguments += ["-format_whitelist", ",".join(_FORMATS)]
    return FetchPlan(
        (*arguments, *_SOON, "-i", source),
        # A name is looked up before powers are given up, unless a certificate has to name it.
        _powers(sandbox, files=files, port=port, sockets="all" if tells_names else "connections"),
        shown,
        host="" if tells_names else host,
        output=_DATED if scheme in ("rtsp", "rtsps") else (),
    )


def _of_path(path: Path, sandbox: SandboxPolicy) -> FetchPlan:
    try:
        path = path.resolve(strict=True)
        if stat.S_ISCHR(path.stat().st_mode):
            return FetchPlan(
                ("-f", "v4l2", "-i", str(path)), _powers(sandbox, devices=(str(path),)), str(path)
            )
        with path.open("rb") as file:
            demuxer = DEMUXERS[identify(file.read(SNIFF_BYTES))]
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    except ServiceError as error:
        raise SourceError(f"{path}: {error.detail}") from None
    return FetchPlan(
        ("-protocol_whitelist", "file", "-f", demuxer.partition(",")[0], "-re",
         "-i", f"file:{path}"),
        _powers(sandbox, files=(str(path),)),
        str(path),
        ends=True,
    )  # fmt: skip


def plan_of_pipe(container: Container, sandbox: SandboxPolicy) -> FetchPlan:
    """How to take a stream that somebody sends, by the container that it begins as."""
    return FetchPlan(
        ("-protocol_whitelist", "pipe", "-f", DEMUXERS[container].partition(",")[0],
         *_SOON, "-i", "pipe:0"),
        _powers(sandbox),
        "what was sent",
    )  # fmt: skip


def _powers(
    sandbox: SandboxPolicy,
    *,
    files: tuple[str, ...] = (),
    devices: tuple[str, ...] = (),
    port: int = 0,
    sockets: Sockets = "none",
) -> Powers:
    program = shutil.which("ffmpeg")
    if program is None:
        raise SourceError(
            "streams take FFmpeg's program, which is not installed (Debian, Ubuntu: apt-get "
            "install ffmpeg; macOS: brew install ffmpeg)"
        )
    return Powers(os.path.realpath(program), files, devices, port, sockets, _MEMORY_BYTES, sandbox)


class Fetcher:
    """The process that fetches one stream; ends with the ``async with`` block.

    Args:
        piped: the stream is sent, by :meth:`send`.
        turn: which of the addresses of the host's name is connected to, counted around.

    Attributes:
        came: whether anything of the stream has come.
    """

    def __init__(self, plan: FetchPlan, *, piped: bool = False, turn: int = 0) -> None:
        self._plan, self._piped, self._turn = plan, piped, turn
        self.came = False
        self._process: asyncio.subprocess.Process | None = None
        self._said = b""
        self._handle: int | None = None
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        arguments = await self._numbered()
        self._process = await asyncio.create_subprocess_exec(
            *python_command("-m", _PROGRAM, str(os.getpid()), self._plan.powers.text()),
            "-nostdin", "-hide_banner", "-v", "error", *arguments, *self._plan.output, *MUXED,
            stdin=asyncio.subprocess.PIPE if self._piped else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            env=child_environment(
                {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            ),
        )  # fmt: skip
        if hasattr(os, "pidfd_open"):
            try:
                self._handle = os.pidfd_open(self._process.pid)
            except OSError:  # no descriptor is left
                self._process.kill()
                await self._process.wait()
                raise
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._stop()
        finally:
            if self._handle is not None:
                os.close(self._handle)

    async def _stop(self) -> None:
        assert self._process is not None
        assert self._listening is not None
        process = self._process
        with contextlib.suppress(ProcessLookupError):
            if self._handle is None:
                process.kill()
            else:  # asyncio would wait for a child that has ended in two places at once
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        # What it had written is read to its end, or its pipe would keep the process waiting.
        if process.stdout is not None:
            while await process.stdout.read(_CHUNK_BYTES):
                pass
        await process.wait()
        await self._listening

    async def _numbered(self) -> tuple[str, ...]:
        """FFmpeg's arguments, with the host's number in the place of its name."""
        plan = self._plan
        if not plan.host:
            return plan.arguments
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(plan.host, plan.powers.port, type=socket.SOCK_STREAM)
        except OSError as error:
            self._said = f"{plan.host}: {error.strerror}".encode()
            raise StreamLost(self._words()) from None
        number = str(found[self._turn % len(found)][4][0])
        *options, source = plan.arguments
        parts = urlsplit(source)
        place = f"[{number}]" if ":" in number else number
        who = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        port = f":{parts.port}" if parts.port else ""
        if parts.scheme == "http":
            options[-1:-1] = ["-headers", f"Host: {parts.netloc.rpartition('@')[2]}\r\n"]
        netloc = who + place + port
        return *options, urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))

    async def chunks(self) -> AsyncIterator[bytes]:
        """What it writes, until it ends.

        Raises:
            SourceError: it cannot be run.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(_CHUNK_BYTES):
            self.came = True
            yield data
        if not self.came:
            await self._require_start()

    async def _require_start(self) -> None:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        if self._process.returncode in _NOT_RUN:
            raise SourceError(
                f"FFmpeg's program cannot be run: {await self.why() or 'it does not say why'}"
            )

    async def send(self, data: bytes) -> None:
        """Give it a part of the stream; waits until there is room.

        Raises:
            StreamLost: it has ended.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise StreamLost(self._words()) from None

    def end(self) -> None:
        """Nothing more is sent."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(_MOST_SAID):
            self._said = (self._said + data)[-_MOST_SAID:]

    async def why(self) -> str:
        """What FFmpeg said last, in one line without what the source's address holds."""
        if self._listening is not None:
            # It has ended its output, and is about to end.
            await asyncio.wait({self._listening}, timeout=_STOP_SECONDS)
        return self._words()

    def _words(self) -> str:
        lines = self._said.decode(errors="replace").strip().splitlines()
        line = lines[-1] if lines else ""
        # Whatever address it names: a redirect's as well, and one with a number in a name's place.
        line = _ADDRESS.sub(lambda _: self._plan.shown, line)
        return "".join(letter if letter.isprintable() else "?" for letter in line)


class StreamLost(Exception):
    """A source broke; the text says how."""
