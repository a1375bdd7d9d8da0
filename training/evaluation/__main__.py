"""``lookwhen train pool`` and ``plot``: the predictions of several folds; pictures of reports."""

from pathlib import Path

import click
from rich.console import Console

from startup.console import Group
from training.evaluation.plots import PlotError, draw
from training.evaluation.points import summarise
from training.evaluation.predictions import PredictionsError, read_predictions
from training.evaluation.report import print_report, write_report

# Of the tasks whose figures are shares of clips.
_HEADLINES = ("top1", "action_top1")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Put together what `lookwhen train evaluate` wrote."""


@main.command()
@click.argument(
    "predictions",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a report as well."
)
@click.option("--against", help="Setting that the others are compared with. Default: the densest.")
def pool(predictions: tuple[Path, ...], out: Path | None, against: str | None) -> None:
    """Take the clips of several files of PREDICTIONS as one measurement.

    For cross-validation: each fold's model predicts its held-out clips, and figures and intervals
    come from all of them together.
    """
    try:
        results, resampling, labels = read_predictions(predictions)
        points = summarise(results, resampling, len(labels), against)
    except (PredictionsError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    clips = points[0].clips
    headline = next((name for name in _HEADLINES if name in points[0].figures), None)
    headline = headline or next(iter(points[0].figures))
    if out is not None:
        about = {
            "headline": headline,
            "pooled": len(predictions),
            "clips": clips,
            "labels": list(labels),
        }
        write_report(out, about, points, resampling)
    said = [f"{clips} clips of {len(predictions)} files"]
    if resampling.grouped:
        said.append(f"{resampling.count} groups")
    print_report(Console(), ", ".join(said), headline, points, labels)


@main.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument(
    "reports",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
def plot(out: Path, reports: tuple[Path, ...]) -> None:
    """Draw accuracy over multiply-accumulates of some REPORTS.

    OUT is the picture, such as plot.svg.
    """
    try:
        draw(reports, out)
    except PlotError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main(prog_name="python -P -m training.evaluation")
