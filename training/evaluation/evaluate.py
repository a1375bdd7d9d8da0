"""``lookwhen train evaluate``: accuracy by sparsity on held-out clips, with its cost.

One pass over the clips: each is decoded once, the selector sees each view once, the extractor once
per sparsity. Started by torchrun, every process takes its share of the clips::

    torchrun --nproc-per-node 8 --no-python lookwhen train evaluate CHECKPOINT kinetics \\
        ANNOTATIONS CLIPS out.json --split val --views 4x3 --bf16

A published network (a file that ``lookwhen import --checkpoint`` wrote) is measured so, too; what
selects needs no training then, such as ``--by group``. Any dense network, published or trained by
``lookwhen train teachers``, is measured with the methods that make it cheaper, which are named by
``--baseline``::

    lookwhen train evaluate DENSE STORE out.json --baseline dense --baseline random:0.9 \\
        --baseline rlt --baseline tome:64 --baseline vid-tldr:200,200,200,100

``lookwhen train pool`` pools the figures of several folds, and ``lookwhen train plot`` puts several
reports on one plot.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bundle.sampling import Views
from model.checkpoint import CheckpointError, load_checkpoint
from networks.backbone import Backbone
from networks.checkpoint import holds_network, load_network, load_selector
from networks.learned_selector import LearnedSelector
from networks.lite import LiteSelector
from startup.console import Command
from training.baselines import DenseViT
from training.command_line import parse_views
from training.datasets import KINDS, DataSet, DataSetError
from training.datasets.catalogue import kind_of
from training.datasets.command_line import Source, reading_options
from training.datasets.entries import nearest
from training.datasets.stores import open_store
from training.evaluation import (
    SELECTED_BY,
    BaselineMethod,
    LookWhenMethod,
    Measurement,
    Method,
    measure,
    parse_baseline,
    summarise,
)
from training.evaluation.baselines import BASELINES
from training.evaluation.clips import fit_labels, some_clips
from training.evaluation.networks import NETWORK_SELECTED_BY, NetworkMethod
from training.evaluation.plots import PlotError, draw
from training.evaluation.points import results_of
from training.evaluation.predictions import write_predictions
from training.evaluation.report import print_report, write_report
from training.processes import TrainingError, join_processes
from training.progress import tracked
from training.provenance import current_commit, file_digest
from training.teachers import TeacherError
from training.teachers.local import load_video_teacher

SPARSITIES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)

_USAGE = (
    "the command is `lookwhen train evaluate CHECKPOINT KIND PATH [CLIPS] OUT`, such as "
    "`... best.safetensors folders clips/ evaluation.json`, with a KIND of "
    f"{', '.join(KINDS)}; a store of rendered clips needs none"
)

# How many excluded clips are named on the terminal; the report names all.
_NAMED = 10


def load_method(
    checkpoint: Path, sparsities: Sequence[float], by: str | None, baselines: Sequence[str]
) -> tuple[Method, str | None]:
    """A network at some sparsities, or with some baselines; and what selects, None for those.

    Args:
        checkpoint: LookWhen's, a published network's, or a dense teacher's.
        sparsities: for the first two.
        by: what selects: by default the network's own selector, or without one ``group``, which
            is ahead of the others without training in FluxViT's ablation.
        baselines: in place of sparsities, see `BASELINES`.

    Raises:
        CheckpointError, TeacherError: what cannot be loaded, or has no classes.
        ValueError: settings that it cannot be run at.
    """
    published = holds_network(checkpoint)
    trained = load_selector(checkpoint) if published else None
    method: Method
    if baselines:
        backbone: Backbone
        backbone = load_network(checkpoint)[0] if published else _teacher(checkpoint)
        lite = trained if isinstance(trained, LiteSelector) else None
        method, by = BaselineMethod([parse_baseline(b, backbone, lite) for b in baselines]), None
    elif published:
        network, _ = load_network(checkpoint)
        learned = trained if isinstance(trained, LearnedSelector) else None
        by = by or ("group" if learned is None else "selector")
        method = NetworkMethod(network, sparsities, by=by, trained=learned)
    else:
        model, facts = load_checkpoint(checkpoint)
        framing = facts.get("framing", "crop")
        by = by or "selector"
        method = LookWhenMethod(model, sparsities, by=by, framing=framing)
    if len(method.config.labels) < 2:
        raise CheckpointError(f"{checkpoint}: has no classification head to evaluate")
    return method, by


def _teacher(checkpoint: Path) -> DenseViT:
    return load_video_teacher(checkpoint).network


def _source(data: Sequence[Path], **chosen: Any) -> Source:
    kind = str(data[0])
    if len(data) == 1 and kind not in KINDS and (own := kind_of(data[0])) is not None:
        return Source(own, data[0], **chosen)
    if kind not in KINDS:
        if "." in kind or "/" in kind or data[0].exists():
            said = f"say before {kind} of what kind it is"
        else:
            said = f"{kind!r} is no kind of data set, {nearest(kind, KINDS)}"
        raise click.UsageError(f"{said}; {_USAGE}")
    if not 2 <= len(data) <= 3:
        missing = "there is a KIND and no PATH, or no OUT" if len(data) == 1 else "too many paths"
        raise click.UsageError(f"{missing}; {_USAGE}")
    clips = data[2] if len(data) == 3 else None
    return Source(kind, data[1], clips, **chosen)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@reading_options
@click.option("--clips", type=click.IntRange(1), help="How many of them. Default: all.")
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=SPARSITIES,
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--by",
    type=click.Choice(list(dict.fromkeys((*SELECTED_BY, *NETWORK_SELECTED_BY)))),
    help="What selects: the network's own selector, where it has one; `target` (LookWhen) is the "
    "change of pixels; change, group, unique and random (published networks) are the selectors of "
    "`lookwhen import`.  [default: selector, or group where there is none]",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="NAME[:SETTING]",
    help="In place of sparsities, for a dense or a published network; may be repeated: "
    f"{BASELINES}.",
)
@click.option("--against", help="Setting that the others are compared with. Default: the densest.")
@click.option(
    "--views",
    default="1x1",
    callback=parse_views,
    show_default=True,
    help="Temporal x spatial views of a clip, such as 4x3.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Views at a time, in each process.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Processes that decode, for each process.",
)
@click.option("--device", default="auto", show_default=True, help="Such as cpu or cuda:1.")
@click.option("--bf16", is_flag=True, help="Multiply in bfloat16 where the device does.")
@click.option(
    "--predictions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file for what was said of each clip.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Picture of accuracy over multiply-accumulates, such as plot.svg.",
)
def main(
    checkpoint: Path,
    data: tuple[Path, ...],
    out: Path,
    reading: dict[str, Any],
    clips: int | None,
    sparsities: tuple[float, ...],
    by: str | None,
    baselines: tuple[str, ...],
    against: str | None,
    views: Views,
    batch: int,
    workers: int,
    device: str,
    bf16: bool,
    predictions: Path | None,
    plot: Path | None,
) -> None:  # fmt: skip
    """Measure CHECKPOINT on the clips of DATA, decoded from their compressed files.

    DATA is a store of rendered clips, or KIND PATH [CLIPS] as `lookwhen train data check`
    takes them. Writes a report to OUT, which `lookwhen export --accuracy` puts into a bundle.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    source = _source(data, **reading)
    commit = current_commit()  # of the code that runs, not of what is checked out when it ends
    try:
        with join_processes(device) as processes:
            if processes.first:
                out.parent.mkdir(parents=True, exist_ok=True)
            method, by = load_method(checkpoint, sparsities, by, baselines)
            whole = source.read()
            dataset = fit_labels(whole, method.config.labels)
            dataset = some_clips(dataset, clips or len(dataset))
            measurement = measure(
                method,
                dataset,
                views=views,
                batch=batch,
                workers=workers,
                lost_share=source.lost_share,
                processes=processes,
                bf16=bf16,
                track=_progress if processes.first else lambda batches, _: batches,
            )
            if not processes.first:
                return
        results, resampling = results_of(measurement, dataset)
        points = summarise(results, resampling, len(dataset.labels), against)
    except (CheckpointError, DataSetError, TeacherError, TrainingError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    root = source.clips or (source.path if source.path.is_dir() else source.path.parent)
    lost = {_shorten(name, root): _shorten(why, root) for name, why in measurement.lost.items()}
    about = {
        "checkpoint_sha256": file_digest(checkpoint),
        "commit": commit,
        "data": _about(source, dataset),
        "headline": dataset.task.headline,
        "selected_by": by,
        "views": str(views),
        "precision": "bfloat16" if bf16 else "float32",
        "clips": len(measurement.entries),
        "missing": len(whole.missing),
        "excluded": lost,
        "labels": list(method.config.labels),
    }
    write_report(out, about, points, resampling)
    if predictions is not None:
        names = [_shorten(entry.name, root) for entry in dataset.entries]
        write_predictions(predictions, measurement, dataset, names)
    title = f"{len(measurement.entries)} clips of {source}, {views} views"
    if by is not None:
        title += f", selected by {by}"
    print_report(Console(), title, dataset.task.headline, points, method.config.labels)
    _say_lost(measurement, lost)
    if plot is not None:
        try:
            draw([out], plot)
        except PlotError as error:
            raise click.ClickException(str(error)) from None


def _progress(batches: Iterable[Any], total: int) -> Iterable[Any]:
    return tracked(batches, "evaluating", total)


def _about(source: Source, dataset: DataSet) -> dict[str, Any]:
    """What was measured on, without paths of this machine."""
    about: dict[str, Any] = {"source": str(source), "name": dataset.name, "clips": len(dataset)}
    first = dataset.entries[0]
    if first.store is not None:
        about |= open_store(first.store, first.path).meta
    return about


def _shorten(text: str, root: Path) -> str:
    """Take the folder of the clips out of a clip's name or what is said of it."""
    return text.replace(f"{root}/", "").replace(f"{root} ", "")


def _say_lost(measurement: Measurement, lost: dict[str, str]) -> None:
    if not lost:
        return
    total = len(lost) + len(measurement.entries)
    click.echo(f"{len(lost)} of {total} clips cannot be read and are excluded:")
    for name in list(lost)[:_NAMED]:
        click.echo(f"  {name}: {lost[name]}")
    if len(lost) > _NAMED:
        click.echo(f"  and {len(lost) - _NAMED} more")
