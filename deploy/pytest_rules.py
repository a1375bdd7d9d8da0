"""A plugin of pytest for continuous integration: what is skipped, and what fails by chance.

    python -m pytest -p deploy.pytest_rules --allowed-skips .ci/skips.txt

A skip whose reason is not in the file fails the run: a test that is skipped unnoticed sees nothing.

A test that failed is run once more, by itself in a process of its own, where neither another
test's leavings nor its load can be to blame. One that passes then is flaky: the run passes, its
first failure is shown, and a line that begins with FLAKY names it. Rerunning within the process
(pytest-rerunfailures) would give a test the same broken server of the session again.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

MOST_RERUNS = 10  # more failures than that are no accident
RERUN_SECONDS = 600.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--allowed-skips",
        type=Path,
        metavar="FILE",
        help="reasons for which tests may be skipped, one a line; any other skip fails the run",
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    # the processes of pytest-xdist load this plugin too, and report to the one that has a terminal
    if isinstance(reporter, TerminalReporter) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Rules(config, reporter, allowed_reasons(config)))


def allowed_reasons(config: pytest.Config) -> frozenset[str] | None:
    """The lines of the file of ``--allowed-skips``, without its comments; None without a file.

    Raises:
        pytest.UsageError: it cannot be read.
    """
    path: Path | None = config.getoption("allowed_skips")
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise pytest.UsageError(f"--allowed-skips: {path}: {error.strerror}") from None
    stripped = (line.strip() for line in lines)
    return frozenset(line for line in stripped if line and not line.startswith("#"))


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test or a file was skipped."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return reason.removeprefix("Skipped: ")


def passes_alone(nodeid: str, config: pytest.Config) -> bool:
    """Run one test in a process of its own; whether it passed."""
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--color=no"]
    if config.inipath is not None:
        command += ["-c", str(config.inipath)]
    process = subprocess.Popen(
        [*command, nodeid],
        cwd=config.rootpath,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=RERUN_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        # servers that the test has started, too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # a test that was skipped this time has passed nothing
    return process.returncode == 0 and re.search(r"\b1 passed\b", said) is not None


class Rules:
    """Judges a run at its end, before the summary is printed."""

    def __init__(
        self, config: pytest.Config, reporter: TerminalReporter, allowed: frozenset[str] | None
    ) -> None:
        self._config = config
        self._reporter = reporter
        self._allowed = allowed
        self._flaky: dict[str, list[pytest.TestReport]] = {}
        self._forbidden: list[tuple[str, str]] = []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.TESTS_FAILED:
            self._run_again()
            stats = self._reporter.stats
            # Stopped by -x or --maxfail, a run has not seen the tests that were to come.
            whole = not session.shouldfail and not session.shouldstop
            if whole and not stats.get("failed") and not stats.get("error"):
                session.exitstatus = pytest.ExitCode.OK
        if self._allowed is not None:
            for report in self._reporter.stats.get("skipped", []):
                if (reason := skip_reason(report)) not in self._allowed:
                    self._forbidden.append((report.nodeid, reason))
        if self._forbidden and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self) -> None:
        show = self._reporter
        if self._flaky:
            show.section("failed, then passed by itself")
            for nodeid, reports in self._flaky.items():
                for report in reports:
                    show.write_sep("_", f"{nodeid} ({report.when})")
                    show.write_line(report.longreprtext)
                    for title, text in report.sections:
                        show.write_sep("-", title)
                        show.write_line(text)
            for nodeid in self._flaky:
                show.write_line(f"FLAKY {nodeid}", yellow=True)
        if self._forbidden:
            show.section("skipped, and not allowed to be")
            for nodeid, reason in self._forbidden:
                show.write_line(f"SKIPPED {nodeid}: {reason}", red=True)

    def _run_again(self) -> None:
        stats = self._reporter.stats
        failures: dict[str, list[pytest.TestReport]] = {}
        for category in ("failed", "error"):
            for report in stats.get(category, []):
                # a file that cannot be imported is not run again
                if isinstance(report, pytest.TestReport):
                    failures.setdefault(report.nodeid, []).append(report)
        self._reporter.ensure_newline()
        if len(failures) > MOST_RERUNS:
            self._reporter.write_line(f"{len(failures)} tests failed, too many to run again")
            return
        for nodeid, reports in failures.items():
            self._reporter.write_line(f"once more, by itself: {nodeid}")
            if passes_alone(nodeid, self._config):
                self._flaky[nodeid] = reports
        for category in ("failed", "error"):
            left = [r for r in stats.pop(category, []) if r.nodeid not in self._flaky]
            if left:
                stats[category] = left
        if self._flaky:
            stats["flaky"] = [reports[0] for reports in self._flaky.values()]
