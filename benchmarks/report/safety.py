"""The long runs of :mod:`benchmarks.safety` as Markdown: for ``docs/operating-safely.md``."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.report.tables import markdown, where

Result = dict[str, Any]

MiB = 1024 * 1024


def fuzz(result: Result) -> str:
    """How damaged clips were answered, what happened to workers, what grew."""
    restarts = ", ".join(
        f"{count:.0f} {reason}" for reason, count in result["worker_restarts"].items()
    )
    return "\n\n".join(
        [
            where(result),
            f"{result['mutants']:,} mutants of {len(result['clips'])} clips in "
            f"{result['seconds'] / 60:.0f} minutes, seed {result['seed']}; not answered as they "
            f"must be: {len(result['failures'])}; the slowest answer took "
            f"{result['slowest_seconds']:.1f} s. Workers replaced: {restarts}. "
            f"{_verdict(result)}",
            _answers(result["answered"]),
            _growth(result["growth"]),
        ]
    )


def soak(result: Result) -> str:
    """Traffic, answers and growth of a long run."""
    return "\n\n".join(
        [
            where(result),
            f"{result['minutes']:g} minutes at {result['rate']:g} requests a second, a fifth of "
            f"them hostile: {result['requests']:,} requests; the slowest answer took "
            f"{result['slowest_seconds']:.1f} s. {_verdict(result)}",
            _answers(result["answered"]),
            _growth(result["growth"]),
        ]
    )


def drain(result: Result) -> str:
    """What became of the requests of a service that was stopped under load."""
    seconds = sorted(result["seconds_from_signal_to_exit"])
    in_flight = result["in_flight_at_the_signal"]
    return "\n\n".join(
        [
            where(result),
            f"{result['times']} times SIGTERM at {result['rate']:g} requests a second, with "
            f"{_range(min(in_flight), max(in_flight))} requests accepted and not yet answered: "
            f"accepted and lost: {result['accepted_and_lost']}; from the signal to the exit "
            f"{seconds[0]:.1f} to {seconds[-1]:.1f} s. {_verdict(result)}",
            _answers(result["answered"]),
        ]
    )


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _verdict(result: Result) -> str:
    faults = result["faults"]
    return "The run passed." if not faults else f"**The run failed**: {'; '.join(faults)}."


def _answers(answered: Mapping[str, int]) -> str:
    rows = [[f"`{code}`", f"{count:,}"] for code, count in answered.items()]
    return markdown(["answered with", "requests"], rows)


def _growth(growth: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for what, found in growth.items():
        unit, name = 1.0, what.replace("_", " ")
        if what.endswith("_bytes"):
            unit, name = MiB, f"{name.removesuffix(' bytes')}, MiB"
        rows.append(
            [name, f"{found['most_over_the_run'] / unit:.1f}", f"{found['limit'] / unit:.0f}"]
        )
    return markdown(["growth over the run, upper end of 95 %", "at most", "limit"], rows)


TABLES: dict[str, Callable[[Result], str]] = {"fuzz": fuzz, "soak": soak, "drain": drain}
