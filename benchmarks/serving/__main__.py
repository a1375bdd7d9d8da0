"""``python -m benchmarks.serving``: the service against three general-purpose servers.

All host the same two sessions, decode with the same code, have the same CPUs and see the same
clips. Requests arrive by a Poisson process with mixed sparsities. An answer counts when it came
before the deadline with the label that the clip gets at that sparsity.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import bundle_option, clips_option, out_option
from benchmarks.record import write_result
from benchmarks.serving.environments import RIVALS, python_of
from benchmarks.serving.measuring import Material, Plan, measure
from benchmarks.serving.servers import ServerError, SetUp
from service.settings import load_settings


def _show(result: dict[str, Any]) -> None:
    table = Table(title=f"deadline {result['deadline_seconds']:g} s, "
                        f"p99 bound {result['p99_bound_seconds']:g} s")  # fmt: skip
    for column in ("server", "capacity/s", "at that p99", "load", "offered/s", "goodput/s",
                   "p99 ms", "refused", "late"):  # fmt: skip
        table.add_column(column, justify="left" if column == "server" else "right")
    for name, server in result["servers"].items():
        bound = server["throughput_at_p99"]
        for index, point in enumerate(server["points"]):
            p99, counts = point["latency_seconds"]["p99"], point["outcomes"]
            table.add_row(
                "" if index else name,
                "" if index else f"{server['capacity_per_second']:.1f}",
                "" if index else ("none" if bound is None else f"{bound:.1f}"),
                f"{point['load']:g} ({point['round'] + 1})",
                f"{point['offered_per_second']:.1f}",
                f"{point['goodput_per_second']:.1f}",
                "" if p99 is None else f"{1000 * p99:.0f}",
                str(counts["refused"] + counts["expired"]),
                str(counts["late"] + counts["failed"] + counts["wrong"]),
                end_section=index == len(server["points"]) - 1,
            )
    Console().print(table)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--environments",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/rivals"),
    show_default=True,
    help="Where `python -m benchmarks.serving.environments` installed the rivals.",
)
@click.option(
    "--rival", "rivals", type=click.Choice(RIVALS), multiple=True, default=RIVALS, show_default=True
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Of a point, over all rounds.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Turns in which the servers are measured.",
)
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    default=(0.6, 0.75, 0.9),
    show_default=True,
    help="Share of a server's own capacity; repeatable.",
)
@click.option(
    "--overload",
    "overloads",
    type=click.FloatRange(1),
    multiple=True,
    default=(2.0, 5.0),
    show_default=True,
    help="Times a server's own capacity.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds after which a caller hangs up.",
)
@click.option(
    "--p99",
    type=click.FloatRange(0, min_open=True),
    default=0.25,
    show_default=True,
    help="Seconds; throughput is compared at this 99th percentile.",
)
@clips_option()
@click.option("--workers", type=click.IntRange(1), help="CPUs they share. Default: all there are.")
@click.option(
    "--capacity-seconds", type=click.FloatRange(0, min_open=True), default=10, show_default=True
)
@bundle_option()
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what the servers print in this folder.",
)
@out_option("serving")
def main(
    environments: Path, rivals: tuple[str, ...], seconds: float, rounds: int,
    rates: tuple[float, ...], overloads: tuple[float, ...], deadline: float, p99: float,
    clips: int, workers: int | None, capacity_seconds: float, bundle: Path | None, seed: int,
    logs: Path | None, out: Path,
) -> None:  # fmt: skip
    """Measure the service and its rivals in turns.

    At its defaults about 30 minutes: five points of a minute for each of four servers, two more
    for the service when it may degrade, and the starts. --seconds 20 takes 12 minutes.
    """
    missing = [rival for rival in rivals if not python_of(environments, rival).exists()]
    if missing:
        raise click.UsageError(
            f"{', '.join(missing)} not found under {environments}; install with "
            f"`python -m benchmarks.serving.environments {environments}`"
        )
    plan = Plan(seconds, rounds, rates, overloads, capacity_seconds, seed)
    with tempfile.TemporaryDirectory() as temporary:
        setup = SetUp(
            bundle=bundle,
            workers=workers or len(os.sched_getaffinity(0)),
            deadline=deadline,
            # As many as the service admits by default.
            queue=load_settings().max_requests_in_flight,
            environments=environments,
            logs=logs or Path(temporary),
        )
        try:
            result = measure(rivals, setup, plan, Material(clips, bundle), p99)
        except ServerError as error:
            raise click.ClickException(str(error)) from None
    write_result(out, result)
    _show(result)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
