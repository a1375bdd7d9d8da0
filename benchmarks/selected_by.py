"""``python -m benchmarks.selected_by``: one extractor, and what selects the tokens for it.

Takes the reports of ``lookwhen train evaluate`` with ``--by selector``, ``--by target`` (the change
of pixels) and ``--by random``, of one checkpoint on the same clips, and writes them as one result.
"""

import json
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.command_line import out_option
from benchmarks.record import describe_run, write_result

_WAYS = ("selector", "target", "random")
_FIGURES = ("sparsity", "kept", "macs", "clips", "top1")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("selector", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("random", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@out_option("selected_by")
def main(selector: Path, target: Path, random: Path, out: Path) -> None:
    """Put the reports of SELECTOR, TARGET and RANDOM side by side."""
    reports = [json.loads(path.read_text()) for path in (selector, target, random)]
    for path, way, report in zip((selector, target, random), _WAYS, reports, strict=True):
        if report.get("selected_by") != way:
            raise click.ClickException(f"{path} was not measured with --by {way}")
    for name in ("checkpoint_sha256", "data", "views"):
        if len({json.dumps(report.get(name), sort_keys=True) for report in reports}) != 1:
            raise click.ClickException(f"the reports are not of one {name}")
    rows = [
        {"by": way, "points": [_point(point) for point in report["points"]]}
        for way, report in zip(_WAYS, reports, strict=True)
    ]
    result = describe_run(torch.device("cpu")) | {
        "commit": reports[0]["commit"],  # that measured
        "checkpoint_sha256": reports[0]["checkpoint_sha256"],
        "rows": rows,
    }
    write_result(out, result)
    click.echo(f"wrote {out}")


def _point(point: dict[str, Any]) -> dict[str, Any]:
    return {name: point[name] for name in _FIGURES} | {"interval": point["intervals"]["top1"]}


if __name__ == "__main__":
    main()
