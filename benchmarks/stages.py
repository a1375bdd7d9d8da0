"""``python -m benchmarks.stages CLIP``: where one clip's time goes, by sparsity.

Asks a running service for the same clip at several sparsities in turns, one request at a time, and
reads the stages' times from its answers. Ratios are taken within a round, so that whatever else the
machine does meets both sides.
"""

from pathlib import Path
from typing import Any

import click
import httpx
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.command_line import out_option
from benchmarks.record import describe_run, write_result
from lookwhen.bench.samples import spread

SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)
STAGES = ("upload", "decode", "queue", "select", "extract", "total")


def measure(
    clip: bytes, url: str, sparsities: tuple[float, ...], rounds: int
) -> dict[float, dict[str, list[float]]]:
    """Seconds of each stage, by sparsity, one sample per round.

    Raises:
        click.ClickException: the service does not answer, or answers a problem.
    """
    samples: dict[float, dict[str, list[float]]] = {
        sparsity: {stage: [] for stage in STAGES} for sparsity in sparsities
    }
    headers = {"content-type": "video/mp4"}
    with httpx.Client(base_url=url, timeout=120, headers=headers) as client:
        for turn in track(range(rounds + 1), "rounds", console=Console(stderr=True)):
            # Every other round backwards, so that no sparsity always follows the same one.
            for sparsity in sparsities if turn % 2 else tuple(reversed(sparsities)):
                timing = _ask(client, clip, sparsity)
                if turn:  # the first round warms up
                    for stage in STAGES:
                        samples[sparsity][stage].append(timing[stage])
    return samples


def _ask(client: httpx.Client, clip: bytes, sparsity: float) -> dict[str, float]:
    try:
        response = client.post("/classify", params={"sparsity": sparsity}, content=clip)
        answer = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise click.ClickException(f"{client.base_url} cannot be measured: {error}") from None
    if response.status_code != httpx.codes.OK:
        raise click.ClickException(f"the service answered: {answer.get('detail', answer)}")
    timing: dict[str, float] = answer["timing"]
    return timing


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("clip", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True)
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=SPARSITIES,
    show_default=True,
)
@click.option("--rounds", type=click.IntRange(2), default=25, show_default=True)
@out_option("stages")
def main(clip: Path, url: str, sparsities: tuple[float, ...], rounds: int, out: Path) -> None:
    """Measure a running service on CLIP."""
    samples = measure(clip.read_bytes(), url, sparsities, rounds)
    first = samples[sparsities[0]]["total"]
    rows: list[dict[str, Any]] = []
    for sparsity in sparsities:
        times = samples[sparsity]
        ratios = [a / b for a, b in zip(first, times["total"], strict=True)]
        rows.append(
            {
                "sparsity": sparsity,
                "seconds": {stage: spread(times[stage]) for stage in STAGES},
                "times_faster": spread(ratios),
            }
        )
    model = httpx.get(f"{url.rstrip('/')}/model", timeout=10).json()
    write_result(
        out,
        {
            **describe_run(torch.device("cpu")),
            "bundle": model["bundle"],
            "engine": model["engine"],
            "clip_bytes": clip.stat().st_size,
            "rounds": rounds,
            "rows": rows,
            "samples_seconds": {f"{sparsity:g}": samples[sparsity] for sparsity in sparsities},
        },
    )
    table = Table(title=f"milliseconds, median and quartiles of {rounds} rounds in turns")
    table.add_column("sparsity", justify="right")
    for stage in ("decode", "select", "extract", "total"):
        table.add_column(stage, justify="right")
    table.add_column(f"total against {sparsities[0]:g}", justify="right")
    for row in rows:
        cells = [_milliseconds(row["seconds"][stage]) for stage in ("decode", "select", "extract")]
        cells.append(_milliseconds(row["seconds"]["total"]))
        faster = row["times_faster"]
        cells.append(f"{faster['median']:.1f}x ({faster['low']:.1f}-{faster['high']:.1f})")
        table.add_row(f"{row['sparsity']:g}", *cells)
    Console().print(table)
    click.echo(f"wrote {out}")


def _milliseconds(value: dict[str, float]) -> str:
    return f"{1e3 * value['median']:.0f} ({1e3 * value['low']:.0f}-{1e3 * value['high']:.0f})"


if __name__ == "__main__":
    main()
