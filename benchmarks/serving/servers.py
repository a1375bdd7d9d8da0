"""The servers: how each is started, asked, told apart from the others, and ended."""

import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.processes import cpu_seconds, parents, rss_bytes
from benchmarks.record import ROOT
from benchmarks.serving.environments import python_of
from benchmarks.serving.load import Reader
from lookwhen.bench.connections import request_bytes
from startup.path import child_environment, python_command

# Marks our processes, also those that start processes of their own in sessions of their own.
_MARK = "LOOKWHENS_BENCHMARK"

_START_SECONDS = 300.0
_STOP_SECONDS = 20.0


class ServerError(Exception):
    """A server could not be started; the text ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A server and one way to set it up.

    Attributes:
        rival: which of the rivals, or ``lookwhen``.
        batch: largest batch of a rival's own batching; 1 is none. The service decides for itself.
        query: more parameters of each request, for the service.
    """

    name: str
    rival: str
    batch: int = 1
    query: str = ""


LOOKWHEN = Kind("lookwhen", "lookwhen")
KINDS = {
    kind.name: kind
    for kind in (
        LOOKWHEN,
        # May answer sparser than asked when it is busy, rather than refuse.
        Kind("lookwhen, degrading", "lookwhen", query="&max_sparsity=0.95"),
        Kind("litserve", "litserve"),
        Kind("litserve, batches", "litserve", batch=4),
        Kind("ray", "ray"),
        Kind("ray, batches", "ray", batch=4),
        Kind("bentoml", "bentoml"),
        Kind("bentoml, batches", "bentoml", batch=4),
    )
}


@dataclass(frozen=True, slots=True)
class SetUp:
    """What all servers are given alike.

    Attributes:
        workers: CPUs that they share: decode processes and threads of the service, workers of the
            rivals.
        deadline: seconds that a request may take.
        queue: requests that may wait or be worked on, for the rivals that can refuse.
        environments: the folder of the rivals' environments.
        logs: a folder for what the servers print.
    """

    bundle: Path | None
    workers: int
    deadline: float
    queue: int
    environments: Path
    logs: Path


class Server:
    """A running server."""

    def __init__(self, kind: Kind, port: int, process: subprocess.Popen[bytes], mark: str) -> None:
        self.kind, self.process = kind, process
        self.url = f"http://127.0.0.1:{port}"
        self._mark = mark

    def requests(
        self, clips: list[bytes], sparsities: list[float]
    ) -> dict[tuple[int, float], bytes]:
        """Ready-made requests by clip and sparsity."""
        return {
            (index, sparsity): request_to(self.kind, self.url, clip, sparsity)
            for index, clip in enumerate(clips)
            for sparsity in sparsities
        }

    def memory_bytes(self) -> int:
        """Resident memory of all its processes; pages that they share count in each."""
        return sum(rss_bytes(pid) for pid in self.pids())

    def cpu_seconds(self) -> float:
        """That all its processes have computed; those that have ended are not in it."""
        spent = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                spent += cpu_seconds(pid)
        return spent

    def pids(self) -> list[int]:
        """All its processes: those that bear the mark, and their descendants."""
        parent_of = parents()
        ours = {pid for pid in parent_of if _is_marked(pid, self._mark)} | {self.process.pid}
        while more := {pid for pid, parent in parent_of.items() if parent in ours} - ours:
            ours |= more
        return sorted(ours)

    def stop(self) -> None:
        """End it: first as its supervisor would, then whatever of it is left."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_SECONDS)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def request_to(kind: Kind, url: str, clip: bytes, sparsity: float) -> bytes:
    """One request in the form that the server's documentation shows."""
    if kind.rival == "lookwhen":
        path = f"/classify?sparsity={sparsity:g}&top=1{kind.query}"
        return request_bytes(url + path, "video/mp4", clip)
    if kind.rival == "ray":
        return request_bytes(f"{url}/classify?sparsity={sparsity:g}", "video/mp4", clip)
    item = {"video": base64.b64encode(clip).decode(), "sparsity": sparsity}
    if kind.rival == "litserve":
        return request_bytes(f"{url}/predict", "application/json", json.dumps(item).encode())
    if kind.batch > 1:
        body = json.dumps({"items": [item]}).encode()
        return request_bytes(f"{url}/classify", "application/json", body)
    boundary = secrets.token_hex(16)
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="sparsity"\r\n\r\n{sparsity:g}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="clip.mp4"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    ).encode() + clip
    body += f"\r\n--{boundary}--\r\n".encode()
    return request_bytes(f"{url}/classify", f"multipart/form-data; boundary={boundary}", body)


def reader_of(kind: Kind) -> Reader:
    """How to read the label, and the sparsity used, out of its answers."""

    def lookwhen(body: bytes) -> tuple[str, float | None]:
        answer = json.loads(body)
        return str(answer["labels"][0]["label"]), float(answer["sparsity"]["used"])

    def rival(body: bytes) -> tuple[str, float | None]:
        answer = json.loads(body)
        # A method of BentoML that takes a list gives one.
        return str(answer[0] if isinstance(answer, list) else answer["label"]), None

    return lookwhen if kind.rival == "lookwhen" else rival


@contextlib.contextmanager
def running(kind: Kind, setup: SetUp) -> Iterator[Server]:
    """Start a server, give it when it listens, end it afterwards.

    Raises:
        ServerError: it ended, or did not listen in time.
    """
    server = start(kind, setup)
    try:
        _wait_until_it_listens(server, setup)
        yield server
    finally:
        server.stop()


def wait_until_ready(server: Server, seconds: float = _START_SECONDS) -> None:
    """Wait until a service (no rival) takes clips.

    Raises:
        ServerError: it ended, or was not ready in time.
    """
    deadline = time.monotonic() + seconds
    while server.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{server.url}/readyz", timeout=10).status_code == httpx.codes.OK:
                return
        time.sleep(0.2)
    raise ServerError("the service is not ready")


def start(kind: Kind, setup: SetUp) -> Server:
    """Start a server; it listens some seconds later."""
    port, mark = _free_port(), secrets.token_hex(8)
    command, environment = command_of(kind, setup, port)
    setup.logs.mkdir(parents=True, exist_ok=True)
    with _log(kind, setup).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, _MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(kind, port, process, mark)


def command_of(kind: Kind, setup: SetUp, port: int) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a server."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LOOKWHEN_", "RAY_", "BENTOML_"))
    }
    if kind.rival == "lookwhen":
        settings = {
            "PORT": port,
            "LOG_LEVEL": "warning",
            "INTRA_OP_THREADS": setup.workers,
            "DECODE_WORKERS": setup.workers,
            "REQUEST_TIMEOUT_SECONDS": setup.deadline,
            "DECODE_START_TIMEOUT_SECONDS": _START_SECONDS,
            # The same few clips come again and again: with a cache, decoding would not be measured.
            "CACHE_BYTES": 0,
        } | ({"BUNDLE": setup.bundle} if setup.bundle else {})
        environment |= {f"LOOKWHEN_{name}": str(value) for name, value in settings.items()}
        return python_command("-m", "lookwhen", "serve"), child_environment(environment)
    configuration = json.dumps(
        {
            "port": port,
            "bundle": str(setup.bundle.absolute()) if setup.bundle else None,
            "workers": setup.workers,
            "batch": kind.batch,
            "deadline": setup.deadline,
            "queue": setup.queue,
        }
    )
    python = python_of(setup.environments, kind.rival)
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    if kind.rival == "bentoml":
        environment |= {
            "BENCHMARK_CONFIGURATION": configuration,
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(setup.logs.absolute() / "bentoml"),
        }
        service = "benchmarks.serving.app_bentoml:Classify"
        serve = ["serve", service, "--host", "127.0.0.1", "--port", str(port)]
        return [str(python), "-P", "-m", "bentoml", *serve], environment
    # Left alone, Ray's workers run at niceness 15 and everybody else's at 0.
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    application = f"benchmarks.serving.app_{kind.rival}"
    return [str(python), "-P", "-m", application, configuration], environment


def _wait_until_it_listens(server: Server, setup: SetUp) -> None:
    port = int(server.url.rpartition(":")[2])
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    log = _log(server.kind, setup).read_text(errors="replace")
    last = "\n".join(log.splitlines()[-30:])
    raise ServerError(f"{server.kind.name} does not listen. Its last words:\n{last}")


def _log(kind: Kind, setup: SetUp) -> Path:
    return setup.logs / f"{kind.name.replace(', ', '-')}.log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_marked(pid: int, mark: str) -> bool:
    with contextlib.suppress(OSError):
        return f"{_MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    return False
