"""``lookwhen train data check``: say what a data set holds, and whether every clip decodes.

Worth a few minutes before hours of training.
"""

import logging
from collections import Counter

import click

from model.config import get_config
from startup.console import Command
from training.datasets.command_line import Source, source_arguments
from training.datasets.entries import DataSet
from training.datasets.errors import DataSetError
from training.datasets.ledger import Ledger
from training.datasets.views import evaluation_batches
from training.progress import tracked


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@source_arguments
@click.option("--decode", is_flag=True, help="Decode a view of every clip.")
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True,
              help="Processes that decode.")  # fmt: skip
def main(source: Source, decode: bool, workers: int) -> None:
    """Say what a data set holds and, with --decode, whether every clip of it decodes.

    The data set is of KIND, in PATH (annotations, list, index, folder or store) and CLIPS.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        dataset = source.read()
        _describe(dataset)
        if decode:
            ledger = _decode(dataset, workers)
            click.echo(f"{len(dataset) - len(ledger.lost)} of {len(dataset)} clips decode")
            ledger.share = source.lost_share
            ledger.check()
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


def _decode(dataset: DataSet, workers: int) -> Ledger:
    """Decode all clips, however many cannot be read: these are in the ledger."""
    batches = evaluation_batches(
        dataset, get_config("lookwhen_mini16"), batch=16, workers=workers, lost_share=1.0
    )
    for _ in tracked(batches, "decoding", len(batches)):
        pass
    return batches.ledger


if __name__ == "__main__":
    main(prog_name="python -P -m training.datasets")
