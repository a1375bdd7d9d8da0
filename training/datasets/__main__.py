"""``python -P -m training.datasets``: say what a data set holds, and whether every clip decodes.

Worth a few minutes before hours of training.
"""

import logging
from collections import Counter

import click
from rich.console import Console
from rich.progress import track

from model.config import get_config
from startup.console import Command
from training.datasets.command_line import Source, source_arguments
from training.datasets.entries import DataSet
from training.datasets.errors import DataSetError
from training.datasets.views import evaluation_batches


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@source_arguments
@click.option("--decode", is_flag=True, help="Decode a view of every clip.")
@click.option("--workers", default=2, show_default=True, help="Processes that decode.")
def main(source: Source, decode: bool, workers: int) -> None:
    """Read the data set of KIND from PATH (annotations, list, index, folder or store) and CLIPS."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        dataset = source.read()
        _describe(dataset)
        if decode:
            unreadable = _decode(dataset, workers, source.lost_share)
            click.echo(f"{len(dataset) - unreadable} of {len(dataset)} clips decode")
    except DataSetError as error:
        raise click.ClickException(str(error)) from None


def _describe(dataset: DataSet) -> None:
    counts = Counter(label for entry in dataset.entries for label in entry.labels)
    groups = {entry.group for entry in dataset.entries if entry.group}
    click.echo(f"{dataset.name}: {len(dataset)} clips, {len(dataset.missing)} missing")
    click.echo(f"{len(dataset.labels)} classes, measured by {dataset.task.headline}")
    if counts:
        (most, times), (least, fewest) = counts.most_common()[0], counts.most_common()[-1]
        click.echo(
            f"clips of a class: {times} ({dataset.labels[most]}) "
            f"to {fewest} ({dataset.labels[least]}); {len(dataset.labels) - len(counts)} have none"
        )
    if groups:
        click.echo(f"{len(groups)} groups")
    if any(dataset.splits()):
        click.echo("splits: " + ", ".join(f"{k} {v}" for k, v in dataset.splits().items()))


def _decode(dataset: DataSet, workers: int, lost_share: float) -> int:
    """How many clips could not be read."""
    batches = evaluation_batches(
        dataset, get_config("lookwhen_mini16"), batch=16, workers=workers, lost_share=lost_share
    )
    console = Console(stderr=True)
    for _ in track(batches, "decoding", total=len(batches), console=console, transient=True):
        pass
    return len(batches.ledger.lost)


if __name__ == "__main__":
    main(prog_name="python -P -m training.datasets")
