"""``python -m benchmarks.folds``: what fine-tuning on a few hundred labelled clips is worth.

For each part (a value in a column of an index of clips) a checkpoint is fine-tuned on all clips
outside it and predicts those inside; the predictions of all parts are pooled into one measurement::

    python -m benchmarks.folds survfight built-in START clips/index.csv WORK --column fold5_source
    python -m benchmarks.folds skateboard built-in START clips/index.csv WORK --part test

Each call is one variant; results/NAME.json holds all that were measured. ``--against`` compares
with one of those, clip by clip. No step is chosen by what it gains on the clips that are measured:
the last one counts. A part goes on where it was interrupted, and a finished one is not run again.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console

from benchmarks.record import RESULTS, describe_run, write_result
from bundle.sampling import Views
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from training.command_line import parse_views
from training.datasets import Augmentation, DataSetError
from training.datasets.command_line import Source
from training.evaluation import LookWhenMethod, measure
from training.evaluation.points import Result, summarise
from training.evaluation.predictions import (
    PredictionsError,
    read_predictions,
    write_predictions,
)
from training.evaluation.report import intervals_as_json, points_as_json, print_report
from training.evaluation.statistics import Estimates, Mean, Resampling, Share
from training.finetune import RECIPES, FineTuningRecipe, Sharing, finetune
from training.loop import TrainingError
from training.processes import Processes, join_processes
from training.progress import counted
from training.provenance import file_digest

SPARSITIES = (0.0, 0.7, 0.9, 0.95)  # without --sparsity
STILL = Augmentation(
    jitter=False, area=(1, 1), aspect=(1, 1), flip=False, brightness=0, contrast=0, saturation=0
)


def folder_of(work: Path, variant: str, part: str) -> Path:
    """Where a part of a variant lies."""
    return work / f"{variant.replace(' ', '_')}-{part}"


def run_part(
    recipe: FineTuningRecipe,
    start: Path,
    source: Source,
    part: str,
    views: Views,
    out: Path,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    workers: int,
    processes: Processes,
    sharing: Sharing | None = None,
) -> Path:
    """Fine-tune on the clips outside a part, predict those inside; returns the predictions' file.

    Args:
        sharing: see :func:`training.finetune.finetune`; a frozen stem says the same of a clip on
            both sides of a part.

    Raises:
        TrainingError: the folder holds a part that was measured otherwise.
    """
    done, about = out / "predictions.csv", out / "about.json"
    made_of = {
        "recipe": dataclasses.asdict(recipe),
        "start": file_digest(start),
        "part": part,
        "views": str(views),
        "sparsities": list(sparsities),
    }
    made_of = json.loads(json.dumps(made_of))
    if done.exists():
        if json.loads(about.read_text()) != made_of:
            raise TrainingError(
                f"{out} is of another recipe, start, views or sparsities; choose another WORK"
            )
        return done
    train, held = source.read_with_held_out(split=part)
    assert held is not None
    tuned = finetune(
        recipe, start, out, train, processes=processes, workers=workers, sharing=sharing,
        count=counted,
    )  # fmt: skip
    model, _ = load_checkpoint(tuned)
    method = LookWhenMethod(model, sparsities)
    measurement = measure(method, held, views=views, workers=workers, processes=processes)
    if processes.first:
        root = source.path.parent
        names = [entry.name.replace(f"{root}/", "") for entry in held.entries]
        about.write_text(json.dumps(made_of))
        write_predictions(done, measurement, held, names)
    processes.wait()
    return done


def compare(
    results: Sequence[Result], others: Sequence[Result], resampling: Resampling
) -> dict[str, list[float]]:
    """What top-1 gains over another variant, with its interval: by sparsity, and ``mean`` of all.

    Args:
        results, others: of the same clips, in the same order.
        resampling: of these clips.
    """

    def estimates(given: Sequence[Result]) -> Estimates:
        shares = {result.setting.name: result.figures["top1"] for result in given}
        hits = [share.hits for share in shares.values() if isinstance(share, Share)]
        return Estimates.of({**shares, "mean": Mean(np.mean(hits, axis=0))}, resampling)

    ours, theirs = estimates(results), estimates(others)
    return {name: list(ours.difference(name, theirs)) for name in ours.statistics}


def from_chance(start: Path, seed: int, out: Path) -> Path:
    """A checkpoint of the shape of ``start`` whose weights are random.

    One that is there stays: safetensors does not order its metadata, so that the same weights,
    written again, would be another file and the parts that were begun from it another run's.
    """
    parent, _ = load_checkpoint(start)
    torch.manual_seed(seed)
    path = out / f"chance-{seed}.safetensors"
    if path.exists() and load_checkpoint(path)[0].config == parent.config:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(LookWhen(parent.config), path, {"name": "chance", "seed": seed})
    return path


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.argument("variant")
@click.argument("start", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--column", default="split", show_default=True, help="Column of the parts.")
@click.option("--part", "parts", multiple=True, help="Default: each value in the column.")
@click.option(
    "--recipe",
    "recipe_name",
    type=click.Choice(list(RECIPES)),
    default="own",
    show_default=True,
    help="What is not said here is its own.",
)
@click.option("--epochs", default=40.0, show_default=True, help="How often a clip is seen.")
@click.option("--from-chance", "chance", is_flag=True, help="Random weights of START's shape.")
@click.option("--plain", is_flag=True, help="Training views without augmentation.")
@click.option("--train-selector", is_flag=True, help="The selector adapts to the change in pixels.")
@click.option("--size", type=click.IntRange(1), help="Pixels on a side, in place of START's.")
@click.option(
    "--stored-views",
    default=None,
    type=click.IntRange(0),
    help="Views of a clip that START's stem looks at once, for all parts; nothing is mixed then. "
    "Default: the recipe's.",
)
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=SPARSITIES,
    show_default=True,
    help="To measure at; may be repeated.",
)
@click.option("--against", help="Variant to compare with, whose predictions are in WORK.")
@click.option("--views", default="1x1", callback=parse_views, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that decode.")
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the result goes. Default: benchmarks/results/NAME.json.",
)
def main(
    name: str, variant: str, start: Path, index: Path, work: Path, column: str,
    parts: Sequence[str], recipe_name: str, epochs: float, chance: bool, plain: bool,
    train_selector: bool, size: int | None, stored_views: int | None,
    sparsities: Sequence[float], against: str | None, views: Views, seed: int,
    workers: int, device: str, out: Path | None,
) -> None:  # fmt: skip
    """Measure VARIANT, which starts from START, on the clips of INDEX; what is on the way lies in
    WORK."""
    # Whether views are mirrored is up to each recipe; these sets' labels stay what they are.
    source = Source("index", index, column=column, flip=True)
    changes: dict[str, Any] = {"epochs": epochs, "seed": seed, "size": size}
    if stored_views is None:
        stored_views = RECIPES[recipe_name].stored_views
    if stored_views:
        changes |= {"stored_views": stored_views, "mixup": 0.0}
    if plain:
        changes["augmentation"] = STILL
    if train_selector or chance:
        changes |= {"train_selector": True, "map_weight": 0.5}
    if chance:
        changes |= {"selector_rate": 1.0, "layer_decay": 1.0}
    recipe = dataclasses.replace(RECIPES[recipe_name], **changes)
    path = out or RESULTS / f"{name}.json"
    try:
        with join_processes(device) as processes:
            if chance:
                start = from_chance(start, seed, work)
            dataset = source.read()
            measured = parts or sorted({entry.split for entry in dataset.entries})
            about = describe_run(processes.device)
            views_of = work / f"views-{file_digest(start)[:12]}-{stored_views}-{seed}"
            files = []
            for part in measured:
                Console(stderr=True).print(f"[bold]{variant}[/bold], part {part}")
                folder = folder_of(work, variant, part)
                files.append(
                    run_part(
                        recipe, start, source, part, views, folder, sparsities=sparsities,
                        workers=workers, processes=processes,
                        sharing=Sharing(dataset, views_of) if stored_views else None,
                    )
                )  # fmt: skip
        if processes.first:
            results, resampling, labels = read_predictions(files)
            points = summarise(results, resampling, len(labels))
            curve = {
                **about,
                "recipe": dataclasses.asdict(recipe),
                "start": file_digest(start),
                "views": str(views),
                "column": column,
                "parts": list(measured),
                "labels": list(labels),
                "intervals": intervals_as_json(resampling),
                "points": points_as_json(points),
            }
            if against is not None:
                theirs = [folder_of(work, against, part) / "predictions.csv" for part in measured]
                others, _, _ = read_predictions(theirs)
                difference = compare(results, others, resampling)
                curve["against"] = {"variant": against, "top1": difference}
            known = json.loads(path.read_text()) if path.exists() else {"variants": {}}
            known["variants"][variant] = curve
            write_result(path, known)
            title = f"{name}, {variant}: {points[0].clips} clips of {len(measured)} parts"
            print_report(Console(), title, "top1", points, labels)
            click.echo(f"wrote {path}")
    except (CheckpointError, DataSetError, PredictionsError, TrainingError, ValueError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
