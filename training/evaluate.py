"""``python -m training.evaluate``: held-out accuracy and recall of moving tokens by sparsity."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bundle.tokens import tokens_to_keep
from model.checkpoint import CheckpointError, load_checkpoint
from model.classifier import LookWhen
from model.layers import patchify
from model.selection import gather_tokens, select_top_k
from training.data import Sample, eval_loader
from training.moving_things.labels import LABELS
from training.moving_things.store import ClipStore, StoreError

SPARSITIES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
SELECTED_BY = ("selector", "target", "random")


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy at one sparsity.

    top1 is the share of clips whose first label is right; recall the share of the truly moving
    tokens that were kept, over the clips that have any.
    """

    sparsity: float
    kept: int
    top1: float
    recall: float
    clips: int
    confusion: list[list[int]]


@torch.inference_mode()
def evaluate(
    model: LookWhen, batches: Iterable[Sample], sparsities: Sequence[float], *, by: str = "selector"
) -> list[Point]:
    """Measure ``model`` at several sparsities in one pass over the clips.

    The selector runs once per clip, the extractor once per sparsity.

    Args:
        by: what selects: ``selector``, ``target`` (the selection target) or ``random``.

    Raises:
        ValueError: no batches, or an unknown ``by``.
    """
    if by not in SELECTED_BY:
        raise ValueError(f"select by one of {', '.join(SELECTED_BY)}, not {by!r}")
    model.eval()
    config = model.config
    classes = len(config.labels)
    kept = [tokens_to_keep(sparsity, config.tokens) for sparsity in sparsities]
    confusion = torch.zeros(len(sparsities), classes, classes, dtype=torch.int64)
    recall = torch.zeros(len(sparsities), dtype=torch.float64)
    clips, clips_moving = 0, 0
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        scores, context = model.selector(batch.clip_small)
        if by == "target":
            scores = batch.target
        elif by == "random":
            scores = torch.rand(scores.shape, generator=generator)
        patches = patchify(batch.frames, config.patch)
        moving_count = batch.moving.sum(dim=1)
        clips += len(batch.label)
        clips_moving += int((moving_count > 0).sum())
        for i, k in enumerate(kept):
            positions = select_top_k(scores, k)
            features = model.extractor(gather_tokens(patches, positions), positions, context)
            predicted = model.head(features.video).argmax(dim=1)
            pairs = batch.label * classes + predicted
            confusion[i] += torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
            found = batch.moving.gather(1, positions).sum(dim=1)
            recall[i] += (found / moving_count.clamp(min=1)).sum()
    if clips == 0:
        raise ValueError("there is nothing to evaluate: no clips")
    return [
        Point(
            sparsity=sparsity,
            kept=k,
            top1=int(confusion[i].diagonal().sum()) / clips,
            recall=float(recall[i]) / max(1, clips_moving),
            clips=clips,
            confusion=confusion[i].tolist(),
        )
        for i, (sparsity, k) in enumerate(zip(sparsities, kept, strict=True))
    ]


def write_report(
    path: Path,
    checkpoint: Path,
    data: Path,
    by: str,
    points: Sequence[Point],
    labels: Sequence[str],
) -> None:
    """Write what was measured, on what, as JSON; the checkpoint is named by its SHA-256."""
    document = {
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "data": json.loads((data / "meta.json").read_text()),
        "selected_by": by,
        "labels": list(labels),
        "points": [dataclasses.asdict(point) for point in points],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(1), help="Default: all of the store.")
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=SPARSITIES,
    show_default=True,
    help="May be repeated.",
)
@click.option("--by", type=click.Choice(SELECTED_BY), default="selector", show_default=True)
@click.option("--workers", default=2, show_default=True, help="Processes that decode clips.")
def main(
    checkpoint: Path,
    data: Path,
    out: Path,
    clips: int | None,
    sparsities: tuple[float, ...],
    by: str,
    workers: int,
) -> None:
    """Measure CHECKPOINT on the rendered clips in DATA, decoded from their compressed files.

    Writes a report to OUT, which `python -m export --accuracy` puts into a bundle.
    """
    try:
        model, _ = load_checkpoint(checkpoint)
        available = len(ClipStore(data))
    except (CheckpointError, StoreError) as error:
        raise click.ClickException(str(error)) from None
    if model.config.labels != LABELS:
        raise click.ClickException(f"{checkpoint}: its labels are not those of moving_things")
    wanted = min(available, clips or available)
    loader = eval_loader(data, model.config, batch=20, clips=wanted, workers=workers)
    batches = (Sample(*batch) for batch in loader)
    shown = track(
        batches, "evaluating", total=len(loader), console=Console(stderr=True), transient=True
    )
    points = evaluate(model, shown, sparsities, by=by)
    write_report(out, checkpoint, data, by, points, model.config.labels)
    table = Table(title=f"{wanted} clips of {data}, selected by {by}")
    for column in ("sparsity", "kept", "top-1", "95 % interval", "moving tokens kept"):
        table.add_column(column, justify="right")
    for point in points:
        low, high = wilson_interval(point.top1, point.clips)
        table.add_row(
            f"{point.sparsity:g}",
            str(point.kept),
            f"{point.top1:.1%}",
            f"{low:.1%} - {high:.1%}",
            f"{point.recall:.1%}",
        )
    Console().print(table)


def wilson_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval for a share of ``count`` trials; z = 1.96 covers 95 %."""
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale


if __name__ == "__main__":
    main()
