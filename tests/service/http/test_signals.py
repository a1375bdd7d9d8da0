"""Signals to a real service under load: what was accepted is answered, whatever comes."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from service_server import SERVE, Server, wait_for

pytestmark = pytest.mark.long

StartServer = Callable[..., Server]

# What nothing is meant by, and what Python itself ignores.
HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE)


@pytest.fixture(autouse=True)
def sighup_has_its_usual_meaning() -> Iterator[None]:
    """Also where the tests were started by nohup, whose children ignore it as well."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


# A machine that does much else may take its time.
PATIENT = {"shutdown_grace_seconds": 3600, "request_timeout_seconds": 3600,
           "decode_timeout_seconds": 600}  # fmt: skip


def accepted(server: Server, clip: Path, count: int = 2) -> list[Future[httpx.Response]]:
    """Requests that have been accepted and take seconds to answer."""
    pool = ThreadPoolExecutor(count)
    answers = [pool.submit(server.classify, clip, sparsity=0) for _ in range(count)]
    pool.shutdown(wait=False)
    wait_for(lambda: server.metric("lookwhen_requests_in_flight") == count, "all to be in")
    return answers


def statuses(answers: list[Future[httpx.Response]]) -> list[int]:
    return [answer.result(600).status_code for answer in answers]


def test_a_signal_that_means_nothing_changes_nothing(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle, **PATIENT).wait_until_ready()
    workers = server.worker_pids()
    answers = accepted(server, white)
    for sig in HARMLESS:
        # To the workers as well, as a service manager sends it to all processes of a service.
        for pid in (server.process.pid, *workers):
            for _ in range(20):
                os.kill(pid, sig)
        if sig != signal.SIGPIPE:
            server.wait_for_log("a signal that changes nothing", signal=signal.Signals(sig).name)
    assert statuses(answers) == [200, 200]
    assert server.client.get("/readyz").status_code == 200
    assert server.worker_pids() == workers, "none was lost"
    assert server.stop() == 0


def test_sighup_does_not_cut_an_ending_short(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle, **PATIENT).wait_until_ready()
    answers = accepted(server, white)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("shutting down", signal="SIGTERM")
    for _ in range(3):  # systemd does, where SendSIGHUP= is set
        server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("a signal that changes nothing", signal="SIGHUP")
    assert statuses(answers) == [200, 200]
    assert server.process.wait(120) == 0


def test_sigquit_ends_it_in_good_order(
    start_server: StartServer, slow_bundle: Path, white: Path
) -> None:
    server = start_server(slow_bundle, **PATIENT).wait_until_ready()
    answers = accepted(server, white)
    for pid in (server.process.pid, *server.worker_pids()):
        os.kill(pid, signal.SIGQUIT)
    server.wait_for_log("shutting down", signal="SIGQUIT")
    assert statuses(answers) == [200, 200]
    assert server.process.wait(120) == 0


# Runs what it is given on a terminal of its own, which closes at SIGUSR1.
_TERMINAL = """
import os, pty, signal, sys
stderr = os.dup(2)
child, terminal = pty.fork()
if child == 0:
    os.dup2(stderr, 2)
    os.execvp(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGUSR1, lambda *_: os.close(terminal))
_, status = os.waitpid(child, 0)
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 100 - code)
"""

# As a person does: the shell tells its jobs when its terminal closes.
_SHELL = 'set -m; "$@" & job=$!; trap "kill -HUP $job" HUP; wait $job; wait $job'


@pytest.mark.parametrize("through_a_shell", [False, True])
def test_the_end_of_its_terminal_ends_it_in_good_order(
    start_server: StartServer, slow_bundle: Path, white: Path, through_a_shell: bool
) -> None:
    shell = ["bash", "-c", _SHELL, "bash"] if through_a_shell else []
    command = [sys.executable, "-c", _TERMINAL, *shell, *SERVE]
    server = start_server(slow_bundle, command=command, **PATIENT).wait_until_ready()
    answers = accepted(server, white)
    server.process.send_signal(signal.SIGUSR1)
    server.wait_for_log("shutting down", signal="SIGHUP")
    assert statuses(answers) == [200, 200]
    server.wait_for_log("stopped")
    if not through_a_shell:
        assert server.process.wait(120) == 0


def test_sighup_on_a_terminal_that_stays_changes_nothing(start_server: StartServer) -> None:
    server = start_server(command=[sys.executable, "-c", _TERMINAL, *SERVE]).wait_until_ready()
    (pid,) = _children(server.process.pid)
    os.kill(pid, signal.SIGHUP)
    server.wait_for_log("a signal that changes nothing", signal="SIGHUP")
    assert server.client.get("/readyz").status_code == 200
    os.kill(pid, signal.SIGTERM)
    assert server.process.wait(120) == 0


def test_nohup_is_nohup(start_server: StartServer) -> None:
    # It says what it redirects unless that has been done.
    nohup = ["sh", "-c", 'exec nohup "$@" < /dev/null > /dev/null', "sh"]
    command = [sys.executable, "-c", _TERMINAL, *nohup, *SERVE]
    server = start_server(command=command).wait_until_ready()
    (pid,) = _children(server.process.pid)
    server.process.send_signal(signal.SIGUSR1)
    threading.Event().wait(2)
    os.kill(pid, signal.SIGHUP)
    assert server.client.get("/readyz").status_code == 200
    assert not any(line["message"] == "shutting down" for line in server.logs())
    os.kill(pid, signal.SIGTERM)
    server.wait_for_log("stopped")


def _children(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in children.split()]
