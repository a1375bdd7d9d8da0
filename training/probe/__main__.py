"""``lookwhen train probe``: the command line.

Published (the authors' linear probes at 90 % sparsity, top-1 %, Charades mAP; none was reproduced
here), of pre-training with all targets: K400-20K 72.5, SSv2-20K 38.1, Diving48 37.6, EK100-20K
13.5, Jester-20K 79.0, Charades 31.3. A run costs one pass of the network over all clips, and
seconds for the classifiers::

    lookwhen train probe pretrained.safetensors runs/probe diving48 annotations/ videos/ \\
        --split train --test-split test --sparsity 0.9 --workers 8
"""

import dataclasses
import json
import logging
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bundle.sampling import Views
from model.checkpoint import CheckpointError
from model.writing import whole_file
from startup.console import Command
from training.command_line import config_of, parse_views
from training.datasets import DataSetError
from training.datasets.command_line import Source, source_arguments
from training.evaluation.networks import NETWORK_SELECTED_BY
from training.prediction import Machine, predict_options, predict_probe, tell
from training.probe.classifier import ProbeSettings
from training.probe.run import ProbePoint, Tokens, probe, report
from training.processes import choose_device
from training.progress import counted
from training.provenance import current_commit, file_digest


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@source_arguments
@click.option("--test", type=click.FloatRange(0, 1, True, True), help="Share to measure on.")
@click.option("--test-split", help="Split, or value in the index's column, to measure on.")
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=(0.0, 0.7, 0.9),
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--tokens",
    type=click.Choice(["video", "video+frames"]),
    default="video",
    show_default=True,
    help="The video token alone, or with the mean of the frame tokens.",
)
@click.option(
    "--by",
    type=click.Choice(NETWORK_SELECTED_BY),
    help="What chooses a published network's tokens.  [default: its own selector, or group]",
)
@click.option(
    "--views", default="1x1", callback=parse_views, show_default=True, help="Such as 4x3."
)
@click.option("--epochs", type=click.IntRange(1), default=ProbeSettings().epochs, show_default=True)
@click.option(
    "--least-steps",
    type=click.IntRange(1),
    default=ProbeSettings().least_steps,
    show_default=True,
    help="Of each classifier, however few clips there are.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of splits and of the clips' order.",
)
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True,
              help="Processes that decode.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="Such as cpu or cuda.")
@predict_options
def main(
    checkpoint: Path,
    out: Path,
    source: Source,
    test: float | None,
    test_split: str | None,
    sparsities: tuple[float, ...],
    tokens: Tokens,
    by: str | None,
    views: Views,
    epochs: int,
    least_steps: int,
    seed: int,
    workers: int,
    device: str,
    machine: Machine | None,
) -> None:
    """Measure CHECKPOINT's features on a data set by linear classifiers.

    The data set is KIND PATH [CLIPS], as for `lookwhen train data check`. Features and probe.json
    go to OUT.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = ProbeSettings(epochs=epochs, least_steps=least_steps, seed=seed)
    try:
        train, held = source.read_with_held_out(split=test_split, share=test, seed=seed)
        if held is None:
            raise click.UsageError("say what to measure on: --test or --test-split")
        if machine is not None:
            clips = len(train) + len(held)
            config = config_of(checkpoint)
            predicted = predict_probe(config, clips, sparsities, views=views.count, low=machine.low)
            tell([predicted], machine, device, config)
            return
        points, lost = probe(
            checkpoint,
            out,
            train,
            held,
            tuple(dict.fromkeys(sparsities)),
            tokens=tokens,
            by=by,
            settings=settings,
            device=choose_device(device),
            views=views,
            workers=workers,
            lost_share=source.lost_share,
            count=counted,
        )
    except (CheckpointError, DataSetError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    document = {
        "checkpoint_sha256": file_digest(checkpoint),
        "commit": current_commit(),
        "data": f"{train.name}, {source}",
        "tokens": tokens,
        "selected_by": by,
        "views": str(views),
        "settings": dataclasses.asdict(settings),
        "unreadable": {name: len(clips) for name, clips in lost.items()},
        "points": report(points),
    }
    with whole_file(out / "probe.json") as part:
        part.write_text(json.dumps(document, indent=2) + "\n")
    _show(points, f"{train.name}: linear probe of the {tokens} tokens, {views} views")


def _show(points: list[ProbePoint], title: str) -> None:
    table = Table(title=f"{title}, {points[0].test_clips} clips")
    for column in ("sparsity", "tokens kept", *points[0].figures):
        table.add_column(column, justify="right")
    for point in points:
        figures = (f"{f.value:.1%} ({f.low:.1%} - {f.high:.1%})" for f in point.figures.values())
        table.add_row(f"{point.sparsity:g}", str(point.kept), *figures)
    Console().print(table)


if __name__ == "__main__":
    main(prog_name="python -P -m training.probe")
