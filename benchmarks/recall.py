"""``python -m benchmarks.recall``: which tokens each selection target would keep.

Before any network learns a target, this is the best that a selector could do by it: the share of
the truly moving tokens of rendered clips, which the renderer knows, that lie among the K tokens
that score highest. Beside the trained image teacher stands one of the same shape with random
weights, because what a feature space is worth must be told apart from what distances alone are
worth.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.command_line import out_option
from benchmarks.record import describe_run, write_result
from bundle.sampling import Views
from bundle.tokens import tokens_to_keep
from model.config import get_config
from training.datasets import DataSetError, evaluation_batches, read_dataset
from training.evaluation.truth import MovingTokens
from training.processes import choose_device
from training.provenance import file_digest
from training.targets import selection_target
from training.teachers import TeacherError
from training.teachers.image import ImageViT
from training.teachers.local import LocalImageTeacher, load_image_teacher
from training.teachers.teacher import Teacher

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
TARGETS = (
    "top1_distance", "top10_distance", "attention_change", "attention", "k_center",
    "k_center_pixels", "pixel_change", "random",
)  # fmt: skip
# These do not look at the teacher.
_WITHOUT_TEACHER = frozenset({"k_center_pixels", "pixel_change", "random"})


def recalls(
    store: Path, teachers: dict[str, Teacher], clips: int, batch: int, device: torch.device
) -> dict[str, dict[str, list[list[float]]]]:
    """Teacher to target to a row of recalls, by sparsity, for each clip in which a thing moves.

    Raises:
        DataSetError: no store.
    """
    config = get_config("lookwhen_mini16")
    dataset = read_dataset("moving-things", store)
    dataset = dataset.subset(range(min(clips, len(dataset))))
    truth = MovingTokens(config, Views(1, 1))
    kept = [tokens_to_keep(sparsity, config.tokens) for sparsity in SPARSITIES]
    found: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    console = Console(stderr=True)
    batches = evaluation_batches(dataset, config, batch=batch, workers=0)
    for views in track(batches, "measuring", console=console):
        seeds = views.entry.tolist()
        frames = views.frames.to(device)
        moving = torch.cat([truth.of(dataset.entries[index]) for index in seeds]).to(device)
        some = moving.any(dim=1)
        for name, teacher in teachers.items():
            said = teacher(frames, attention=True)
            for target in TARGETS:
                if target in _WITHOUT_TEACHER and name != next(iter(teachers)):
                    continue
                scores = selection_target(target, config.grid)(frames, said, seeds=seeds)
                order = scores.argsort(dim=1, descending=True)
                shares = [
                    (moving.gather(1, order[:, :k]).sum(dim=1) / moving.sum(dim=1).clamp(min=1))
                    for k in kept
                ]
                found[name][target] += torch.stack(shares, dim=1)[some].tolist()
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("store", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--clips", default=360, show_default=True, type=click.IntRange(1))
@click.option("--batch", default=12, show_default=True, type=click.IntRange(1))
@click.option("--device", default="auto", show_default=True)
@out_option("recall")
def main(store: Path, image: Path, clips: int, batch: int, device: str, out: Path) -> None:
    """Measure all targets of the local image teacher IMAGE on the first clips of STORE."""
    try:
        chosen = choose_device(device)
        trained = load_image_teacher(image)
        torch.manual_seed(0)
        untrained = LocalImageTeacher(ImageViT(trained.network.config))
        teachers: dict[str, Teacher] = {"trained": trained, "random weights": untrained}
        with torch.no_grad():
            found = recalls(
                store, {n: t.to(chosen) for n, t in teachers.items()}, clips, batch, chosen
            )
    except (DataSetError, TeacherError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    rows = [
        {
            "teacher": None if target in _WITHOUT_TEACHER else name,
            "target": target,
            "recall": np.mean(values, axis=0).tolist(),
            "standard_error": (np.std(values, axis=0, ddof=1) / len(values) ** 0.5).tolist(),
            "clips": len(values),
        }
        for name, targets in found.items()
        for target, values in targets.items()
    ]
    result = describe_run(chosen) | {
        "image": file_digest(image),
        "configuration": dataclasses.asdict(trained.network.config),
        "sparsities": list(SPARSITIES),
        "rows": rows,
    }
    write_result(out, result)
    for row in rows:
        click.echo(f"{row['target']:18}{row['teacher'] or '':16}{_percent(row['recall'])}")
    click.echo(f"wrote {out}")


def _percent(shares: Sequence[float]) -> str:
    return "  ".join(f"{share:6.1%}" for share in shares)


if __name__ == "__main__":
    main()
