"""``lookwhen serve`` as a process, and what tests and measurements ask of it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.decoding.protocol import WORKER_NAME
from startup.path import child_environment, python_command

ROOT = Path(__file__).parents[1]
SERVE = tuple(python_command("-m", "lookwhen", "serve"))

_T = TypeVar("_T")


class Server:
    """``lookwhen serve`` on a free port.

    Args:
        bundle: directory of the bundle to serve.
        log: where its standard error goes.
        command: what is started instead, if it is to go wrong in a way of its own.
        environment: variables besides the settings; its PYTHONPATH goes before the usual one.
        settings: ``LOOKWHEN_*`` in lower case, without the prefix.
    """

    def __init__(
        self,
        bundle: Path,
        log: Path,
        *,
        command: Sequence[str] = SERVE,
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
        variables = {
            **inherited,
            **(environment or {}),
            "LOOKWHEN_BUNDLE": str(bundle),
            "LOOKWHEN_PORT": "0",
            "LOOKWHEN_LOG_FORMAT": "json",
            "LOOKWHEN_DECODE_WORKERS": "1",
            "LOOKWHEN_DECODE_SPARE_WORKERS": "0",
            "LOOKWHEN_INTRA_OP_THREADS": "1",
            # A busy machine starts a worker in minutes, and that is not what is asked here.
            "LOOKWHEN_DECODE_START_TIMEOUT_SECONDS": "300",
            # Measuring the machine takes seconds; who asks about speed gives them.
            "LOOKWHEN_WARM_UP_SECONDS": "0",
            "LOOKWHEN_CALIBRATION_SECONDS": "0",
        } | {f"LOOKWHEN_{name.upper()}": str(value) for name, value in settings.items()}
        self._log = log
        safe = child_environment(variables)
        paths = ((environment or {}).get("PYTHONPATH"), safe.get("PYTHONPATH"))
        if path := os.pathsep.join(filter(None, paths)):
            safe["PYTHONPATH"] = path
        with log.open("wb") as stderr:
            # A group of its own: Ctrl-C reaches its parent, which ends it in good order.
            self.process = subprocess.Popen(
                [*command],
                cwd=ROOT,
                env=safe,
                stderr=stderr,
                process_group=0,
            )
        self.url = self._wait_for_address().replace("//0.0.0.0:", "//127.0.0.1:")
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def logs(self) -> list[dict[str, Any]]:
        """Every line of the log, which must be JSON without exception."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def wait_for_log(self, message: str, **fields: object) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            for line in self.logs():
                if line["message"] == message and fields.items() <= line.items():
                    return line
            return None

        return wait_for(found, f"log line {message!r} with {fields}")

    def wait_until_ready(self, seconds: float = 300) -> Self:
        wait_for(lambda: self.client.get("/readyz").status_code == 200, "readiness", seconds)
        return self

    def classify(self, clip: Path, **query: str | float) -> httpx.Response:
        headers = {"content-type": "video/x"}
        return self.client.post(
            "/classify", params=query, content=clip.read_bytes(), headers=headers
        )

    def metric(self, name: str, /, **labels: str) -> float:
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        raise AssertionError(f"no metric {name} with {labels}")

    def worker_pids(self) -> list[int]:
        """The decode workers that are running, from /proc."""
        return [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and _is_worker_of(path, self.process.pid)
        ]

    def stop(self, sig: int = signal.SIGTERM, seconds: float = 30) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(seconds)

    def _wait_for_address(self) -> str:
        def address() -> str | None:
            assert self.process.poll() is None, self._log.read_text()
            for line in self.logs():
                if line["message"] == "listening":
                    return str(line["address"])
            return None

        return wait_for(address, "the server's address", seconds=180)


def _is_worker_of(path: Path, parent: int) -> bool:
    try:
        name, _, rest = (path / "stat").read_text().rpartition(")")
        status, command = rest.split(), (path / "cmdline").read_bytes()
    except OSError:
        return False
    # One that was started by itself, or forked off the one that is warm.
    works = b"service.decoding.worker" in command or name.endswith(f"({WORKER_NAME}")
    return works and int(status[1]) == parent and status[0] != "Z"


def wait_for(check: Callable[[], _T | None], what: str, seconds: float = 60) -> _T:
    """Ask until the answer is true; for what happens in another process."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:g} seconds in vain for {what}")
