"""``python -m benchmarks.pretraining``: does learning where to look pay, and which targets?

Two experiments on rendered clips, with teachers of ``lookwhen train teachers``. Every
variant starts from the weights of the video teacher (as the paper's start from DINOv3; the selector
as its first blocks), is pre-trained, fine-tuned with a frozen selector, and evaluated on held-out
clips, all with the same number of clips seen, once per seed:

    selection   the selector's target: top1_distance against its rivals and against chance
    targets     the extractor's targets: each alone, and all of them

Each step goes on where it was interrupted; a finished variant is not run again.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.record import RESULTS, describe_run, write_result
from model.checkpoint import CheckpointError, load_checkpoint
from model.config import get_config
from training.datasets import DataSet, DataSetError, read_dataset
from training.datasets.identity import data_digest
from training.evaluation import BaselineMethod, LookWhenMethod, Method, measure, parse_baseline
from training.evaluation.points import results_of, summarise
from training.evaluation.report import points_as_json
from training.finetune.recipes import FineTuningRecipe
from training.finetune.run import finetune
from training.loop import TrainingError
from training.pretrain import RECIPES, pretrain
from training.pretrain.recipes import BY_CHANCE
from training.pretrain.start import Start
from training.processes import Processes, join_processes
from training.provenance import file_digest
from training.sources import FeatureSource, open_sources
from training.targets import ExtractorTargets
from training.teachers import TeacherError
from training.teachers.local import load_video_teacher

SPARSITIES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
NONE = ExtractorTargets(video=False, change=False, frames=False, patches=False)
BASELINES = (
    "dense", "random:0.5", "random:0.7", "random:0.9", "rlt", "rlt:0.05", "tome:32", "tome:64",
    "tome:96", "vid-tldr:64,64,64,32", "vid-tldr:128,128,128,64",
)  # fmt: skip

# Fields of the pre-training's recipe in which each variant differs; `rates` is the share that it
# takes of all learning rates. At a quarter less is lost of what the video teacher's weights know,
# which who selects by chance does not find out anew.
EXPERIMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "selection": {
        name: {"selection": name}
        for name in ("top1_distance", "attention_change", "attention", "k_center", "random")
    }
    | {
        f"{name}, quarter rates": {"selection": name, "rates": 0.25}
        for name in ("top1_distance", "random")
    },
    "targets": {
        "all": {},
        "video": {"targets": dataclasses.replace(NONE, video=True)},
        "change": {"targets": dataclasses.replace(NONE, change=True)},
        "change, not normalised": {
            "targets": dataclasses.replace(NONE, change=True, normalise=False)
        },
        "frames": {"targets": dataclasses.replace(NONE, frames=True)},
        "patches": {"targets": dataclasses.replace(NONE, patches=True)},
    },
}


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """What every variant gets."""

    pretrain_steps: int
    finetune_steps: int
    seeds: int
    workers: int


def run_variant(
    fields: Mapping[str, Any],
    seed: int,
    budget: Budget,
    out: Path,
    train: DataSet,
    held: DataSet,
    sources: Mapping[str, FeatureSource],
    processes: Processes,
    backbone: Path,
) -> dict[str, Any]:
    """Pre-train, fine-tune, evaluate; returns the points of the curve, as JSON."""
    done = out / "points.json"
    fields = dict(fields)
    rates = fields.pop("rates", 1.0)
    made_of = {
        "pretrain_steps": budget.pretrain_steps,
        "finetune_steps": budget.finetune_steps,
        "train": data_digest(train),
        "held_out": data_digest(held),
        "backbone": file_digest(backbone),
        **{name: source.identity for name, source in sources.items()},
        **({} if rates == 1.0 else {"rates": rates}),
    }
    if done.exists():
        stored: dict[str, Any] = json.loads(done.read_text())
        if stored["made_of"] != made_of:
            raise TrainingError(
                f"{done} is of another budget, data or teacher; choose another WORK"
            )
        return stored
    mini = RECIPES["mini"]
    if chance := fields.get("selection") == BY_CHANCE:
        mini = mini.by_chance()
    assert mini.matrix_learning_rate is not None
    recipe = dataclasses.replace(
        mini,
        seed=seed,
        steps=budget.pretrain_steps,
        learning_rate=rates * mini.learning_rate,
        matrix_learning_rate=rates * mini.matrix_learning_rate,
        **fields,
    )
    pretrained = pretrain(
        recipe,
        train,
        out / "pretrained",
        processes=processes,
        image=sources["image"],
        video=sources["video"],
        workers=budget.workers,
        start=Start(backbone=backbone).load(recipe),
    )
    tuning = FineTuningRecipe(
        seed=seed,
        batch=32,
        epochs=budget.finetune_steps * 32 / len(train),
        optimizer="muon",
        learning_rate=rates * 1e-3,
        matrix_learning_rate=rates * 2e-3,
        layer_decay=1.0,
        mixup=0.0,
        drop_path=0.0,
        label_smoothing=0.05,
        select_by="random" if chance else "selector",
        augmentation=recipe.augmentation,
    )
    tuned = finetune(
        tuning, pretrained, out / "finetuned", train, processes=processes, workers=budget.workers
    )
    model, _ = load_checkpoint(tuned)
    method = LookWhenMethod(model, SPARSITIES, by="random" if chance else "selector")
    result = {
        "seed": seed,
        "made_of": made_of,
        "points": evaluate(method, held, budget.workers, processes),
    }
    if processes.first:
        write_result(done, result)
    return result


def evaluate(
    method: Method, held: DataSet, workers: int, processes: Processes
) -> list[dict[str, Any]]:
    """The points of a method's curve, without its confusions."""
    measurement = measure(method, held, workers=workers, processes=processes)
    results, resampling = results_of(measurement, held)
    points = points_as_json(summarise(results, resampling, len(held.labels)))
    return [
        {name: value for name, value in point.items() if name not in ("confusion", "per_class")}
        for point in points
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("experiment", type=click.Choice(list(EXPERIMENTS)))
@click.argument("train", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("held_out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--image", required=True, help="The local image teacher's file.")
@click.option("--video", required=True, help="The local video teacher's file.")
@click.option("--image-store", type=click.Path(path_type=Path), help="Its stored features.")
@click.option("--video-store", type=click.Path(path_type=Path), help="Its stored features.")
@click.option("--variant", "variants", multiple=True, help="Only these; may be repeated.")
@click.option("--seeds", default=2, show_default=True, type=click.IntRange(1))
@click.option("--pretrain-steps", default=1000, show_default=True, help="Of 32 clips.")
@click.option("--finetune-steps", default=700, show_default=True, help="Of 32 clips.")
@click.option("--clips", type=click.IntRange(1), help="Held-out clips. Default: all.")
@click.option("--workers", default=1, show_default=True, help="Processes that decode.")
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the result goes. Default: benchmarks/results/pretraining_EXPERIMENT.json.",
)
def main(
    experiment: str, train: Path, held_out: Path, work: Path, image: str, video: str,
    image_store: Path | None, video_store: Path | None, variants: Sequence[str], seeds: int,
    pretrain_steps: int, finetune_steps: int, clips: int | None, workers: int, device: str,
    out: Path | None,
) -> None:  # fmt: skip
    """Run EXPERIMENT on the stores TRAIN and HELD_OUT; what is on the way lies in WORK."""
    chosen = EXPERIMENTS[experiment]
    for name in variants:
        if name not in chosen:
            raise click.UsageError(f"no variant {name!r}; known: {', '.join(chosen)}")
    budget = Budget(pretrain_steps, finetune_steps, seeds, workers)
    try:
        with join_processes(device) as processes:
            learnt = read_dataset("moving-things", train)
            held = read_dataset("moving-things", held_out)
            held = held.subset(range(min(len(held), clips or len(held))))
            sources, learnt = open_sources(
                {"image": ("local_image", image), "video": ("local_video", video)},
                {"image": image_store, "video": video_store},
                learnt,
                get_config(RECIPES["mini"].config),
                processes.device,
            )
            result = describe_run(processes.device) | {
                "budget": dataclasses.asdict(budget),
                "clips": {"train": len(learnt), "held_out": len(held)},
                "curves": {},
            }
            for seed in range(seeds):
                for name in variants or chosen:
                    folder = work / experiment / f"{name.replace(' ', '_')}-{seed}"
                    Console(stderr=True).print(f"[bold]{name}[/bold], seed {seed}")
                    curve = run_variant(
                        chosen[name],
                        seed,
                        budget,
                        folder,
                        learnt,
                        held,
                        sources,
                        processes,
                        Path(video),
                    )
                    result["curves"].setdefault(name, []).append(curve)
            if experiment == "selection":
                backbone = load_video_teacher(Path(video)).network
                dense = BaselineMethod([parse_baseline(text, backbone) for text in BASELINES])
                result["baselines"] = evaluate(dense, held, workers, processes)
            if processes.first:
                path = out or RESULTS / f"pretraining_{experiment}.json"
                write_result(path, result)
                click.echo(f"wrote {path}")
    except (CheckpointError, DataSetError, TeacherError, TrainingError, ValueError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
