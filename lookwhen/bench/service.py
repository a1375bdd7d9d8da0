"""The service that is measured: one that runs, or one that is started for it."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lookwhen.bench.asking import BenchError
from lookwhen.client.errors import Problem, Unreachable
from lookwhen.client.http import Client
from service.http.model_schemas import Model
from startup.path import child_environment, python_command

_LOOK_SECONDS = 0.05
_STOP_SECONDS = 10.0
# What would keep the service from being asked, or put another's address in the way.
_NOT_HERE = ("API_KEYS", "API_KEYS_FILE", "METRICS_PORT", "ROOT_PATH", "SHUTDOWN_NOTICE_SECONDS")


class Service:
    """A ``lookwhen serve`` of our own, on a free port of this machine, which nobody else knows."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process, self._log = process, log

    def address(self, until: float) -> str:
        """Where it listens.

        Raises:
            BenchError: it ended instead, or not yet.
        """
        while True:
            for line in self._lines():
                if line.get("message") == "listening":
                    return str(line["address"])
            self.require_running()
            _require_time(until, "the service does not listen yet")
            time.sleep(_LOOK_SECONDS)

    def require_running(self) -> None:
        """Raise BenchError, with the reason that its log has, where it has ended."""
        if (status := self._process.poll()) is not None:
            said = [line for line in self._lines() if line.get("level") in ("critical", "error")]
            last = said[-1] if said else {}
            words = last.get("reason") or last.get("message") or self._log.read_text()[-2000:]
            raise BenchError(f"the service ended with status {status}: {words or 'no reason'}")

    def stop(self) -> None:
        """End it in good order, or at once where that takes long."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _lines(self) -> Iterator[dict[str, Any]]:
        for text in self._log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                if isinstance(line := json.loads(text), dict):
                    yield line


@contextlib.contextmanager
def started(bundle: Path | None) -> Iterator[Service]:
    """Start ``lookwhen serve`` with the settings of the environment, but for address and keys."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in {f"LOOKWHEN_{left_out}" for left_out in _NOT_HERE}
    } | {"LOOKWHEN_HOST": "127.0.0.1", "LOOKWHEN_PORT": "0"}
    options = ["--log-format", "json", "--log-level", "info"]
    if bundle is not None:
        options += ["--bundle", str(bundle)]
    with tempfile.TemporaryDirectory(prefix="lookwhen-bench-") as folder:
        log = Path(folder) / "log"
        service: Service | None = None
        try:
            with log.open("wb") as stderr, _signals_held():
                # A group of its own: Ctrl-C reaches this process, which ends it in good order.
                process = subprocess.Popen(
                    python_command("-m", "lookwhen", "serve", *options),
                    env=child_environment(variables),
                    stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, process_group=0,
                )  # fmt: skip
                service = Service(process, log)
            yield service
        finally:
            if service is not None:
                service.stop()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals that end a program wait: one that came while a process is started would leave it
    behind, known to nobody."""
    came: list[int] = []
    usual: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            usual[ending] = signal.signal(ending, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)


def wait_until_ready(client: Client, url: str, until: float, own: Service | None) -> None:
    """Return once the service takes clips; one that is not our own is not waited for.

    Raises:
        BenchError: it cannot be reached, does not become ready in time, or ends.
    """
    while True:
        if own is not None:
            own.require_running()
        try:
            health = client.ready()
        except Unreachable as error:
            raise BenchError(str(error)) from None
        except ValueError:
            raise BenchError(f"{url} does not answer as a LookWhen service does") from None
        if health.status == "ready":
            return
        if own is None:
            raise BenchError(f"{url} takes no clips: {health.reason or health.status}")
        _require_time(until, "the service is not warm yet")
        time.sleep(_LOOK_SECONDS)


def describe(client: Client) -> Model:
    """What is served.

    Raises:
        BenchError: it cannot be reached, or asks for another key.
    """
    try:
        return client.model()
    except Unreachable as error:
        raise BenchError(str(error)) from None
    except Problem as error:
        hint = "; --key or LOOKWHEN_KEY gives one" if error.code == "unauthorized" else ""
        raise BenchError(f"the service refuses: {error}{hint}") from None


def _require_time(until: float, what: str) -> None:
    if time.perf_counter() > until:
        raise BenchError(f"{what}, and the time is over; give more --seconds")
