"""``python -m benchmarks.tuning``: what does a dense network gain by tuning it for several K?

A small VideoMAE learns the clips of :mod:`benchmarks.events` densely, from scratch. It is then
tuned as ``lookwhen train tune`` does, and once more with the same steps, all of them dense, so that
more training is not taken for tuning. All answer the same held-out clips at several sparsities; the
dense one also sees fewer frames, which costs as much and needs no selection.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.command_line import out_option
from benchmarks.events import MEAN, SIZE, STD, right_answers
from benchmarks.record import describe_run, write_result
from networks.building import build_network
from networks.checkpoint import load_network, load_selector, save_network
from networks.config import NetworkConfig, get_network_config
from networks.learned_selector import LearnedSelector
from training.datasets import Augmentation, DataSet, DataSetError, read_dataset
from training.datasets.identity import data_digest
from training.evaluation import BaselineMethod, Method, parse_baseline
from training.evaluation.clips import some_clips
from training.evaluation.networks import NetworkMethod
from training.evaluation.statistics import paired_lead, wilson_interval
from training.finetune.recipes import FineTuningRecipe
from training.finetune.run import finetune
from training.processes import Processes, TrainingError, join_processes
from training.tune import SelectorRecipe, TuningRecipe, tune

SPARSITIES = (0.0, 0.5, 0.75, 0.9)
# Frames that the dense network sees in their place, at the same share of the tokens.
FRAMES = {0.5: 2, 0.75: 4}

# Training views are nearly whole, and as light as the clip: how large a thing is tells the label,
# and colours are normalised by the clips' own mean.
_VIEWS = Augmentation(
    area=(0.9, 1.0), aspect=(0.95, 1.05), brightness=0.0, contrast=0.0, saturation=0.0
)
# Standard deviation of the blocks' matrices at the start, about 1 over the root of the width, which
# keeps the size of what passes. With the 0.02 that published networks start their pre-training
# with, a branch of 96 channels adds next to nothing, and hundreds of steps stay at chance.
_START = 0.1


@dataclass(frozen=True, slots=True)
class Setup:
    """The network and its three trainings; the defaults take minutes on one core.

    Attributes:
        dense_steps: of the training from scratch.
        tune_steps: of the tuning, and of the dense training that is its control.
        selector_steps: of the learned selector.
        learning_rate: of the training from scratch; tune_rate: of the tuning and its control.
        tune_at: sparsities that the tuning's steps draw from, three a step.
    """

    frames: int = 8
    size: int = SIZE
    width: int = 96
    depth: int = 2
    heads: int = 3
    batch: int = 32
    dense_steps: int = 300
    tune_steps: int = 100
    selector_steps: int = 100
    learning_rate: float = 1e-3
    tune_rate: float = 5e-4
    tune_at: tuple[float, ...] = (0.0, 0.3, 0.5, 0.75, 0.85, 0.9)
    seed: int = 0

    def network(self, labels: Sequence[str]) -> NetworkConfig:
        return dataclasses.replace(
            get_network_config("videomae_b16"), name="small VideoMAE", frames=self.frames,
            size=self.size, short_side=self.size, width=self.width, depth=self.depth,
            heads=self.heads, mlp_width=4 * self.width, video_width=self.width,
            sampling="uniform", stride=None, labels=tuple(labels), mean=MEAN, std=STD,
        )  # fmt: skip

    def dense(self, clips: int) -> FineTuningRecipe:
        return FineTuningRecipe(
            epochs=self.dense_steps * self.batch / clips, batch=self.batch, seed=self.seed,
            learning_rate=self.learning_rate, layer_decay=1.0, mixup=0.0, drop_path=0.0,
            label_smoothing=0.0,
            sparsities=(0.0, 0.0), keep_head=True, augmentation=_VIEWS,
        )  # fmt: skip

    def tuning(self, clips: int, *, dense: bool) -> TuningRecipe:
        recipe = TuningRecipe(
            epochs=self.tune_steps * self.batch / clips, batch=self.batch, seed=self.seed,
            learning_rate=self.tune_rate, sparsities=self.tune_at, augmentation=_VIEWS,
        )  # fmt: skip
        return dataclasses.replace(recipe, sparsities=(0.0,), counts=1) if dense else recipe

    def selector(self, clips: int) -> SelectorRecipe:
        return SelectorRecipe(
            epochs=self.selector_steps * self.batch / clips, batch=self.batch, seed=self.seed,
            augmentation=_VIEWS,
        )  # fmt: skip


_DEFAULT = Setup()


def train(
    setup: Setup, clips: DataSet, work: Path, workers: int, processes: Processes
) -> dict[str, Path]:
    """The checkpoints ``dense``, ``control`` and ``tuned``; what was interrupted goes on.

    Raises:
        TrainingError, DataSetError, ValueError: see the trainings.
    """
    start = work / "start.safetensors"
    if not start.exists():
        work.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(setup.seed)
        network = build_network(setup.network(clips.labels))
        for parameter in network.blocks.parameters():
            if parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=_START)
        save_network(network, start, {"name": "random weights", "seed": setup.seed})
    n = len(clips)
    dense = finetune(
        setup.dense(n), start, work / "dense", clips, processes=processes, workers=workers
    )
    common: dict[str, Any] = {"processes": processes, "workers": workers}
    control = tune(dense, work / "control", clips, setup.tuning(n, dense=True), None, **common)
    tuned = tune(
        dense, work / "tuned", clips, setup.tuning(n, dense=False), setup.selector(n), **common
    )
    return {"dense": dense, "control": control, "tuned": tuned}


def methods(checkpoints: Mapping[str, Path]) -> dict[str, Method]:
    """What answers the held-out clips, by its name in the table."""
    networks = {name: load_network(path)[0] for name, path in checkpoints.items()}
    selector = load_selector(checkpoints["tuned"])
    assert isinstance(selector, LearnedSelector)
    fewer = [parse_baseline(f"frames:{networks['dense'].config.frames // by}", networks["dense"])
             for by in FRAMES.values()]  # fmt: skip
    return {
        "dense, group": NetworkMethod(networks["dense"], SPARSITIES, by="group"),
        "dense, fewer frames": BaselineMethod(fewer),
        "control, group": NetworkMethod(networks["control"], SPARSITIES, by="group"),
        "tuned, group": NetworkMethod(networks["tuned"], SPARSITIES, by="group"),
        "tuned, learned": NetworkMethod(
            networks["tuned"], SPARSITIES, by="selector", trained=selector
        ),
    }


def compared(right: Mapping[str, Mapping[float, NDArray[np.bool_]]]) -> list[dict[str, Any]]:
    """A row for each way and sparsity: top-1, and its lead over the dense network with `group`."""
    rows = []
    for way, by_sparsity in right.items():
        for sparsity, hits in by_sparsity.items():
            before = right["dense, group"][sparsity]
            n, share = len(hits), float(hits.mean())
            gain, interval = paired_lead(hits, before)
            rows.append(
                {
                    "way": way, "sparsity": sparsity, "clips": n, "top1": share,
                    "interval": wilson_interval(share, n),
                    "gain": gain,
                    "gain_interval": interval,
                }
            )  # fmt: skip
    return rows


def answers(
    checkpoints: Mapping[str, Path], held: DataSet, workers: int, processes: Processes
) -> list[dict[str, Any]]:
    """Which held-out clips each way answers rightly, compared."""
    right: dict[str, dict[float, NDArray[np.bool_]]] = {}
    for way, method in methods(checkpoints).items():
        hits = right_answers(method, held, workers=workers, processes=processes)
        levels = tuple(FRAMES) if isinstance(method, BaselineMethod) else SPARSITIES
        right[way] = dict(zip(levels, hits, strict=True))
    return compared(right)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("train_folder", metavar="TRAIN",
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@click.argument("held_out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--dense-steps", default=_DEFAULT.dense_steps, show_default=True,
              type=click.IntRange(1))  # fmt: skip
@click.option(
    "--tune-steps", default=_DEFAULT.tune_steps, show_default=True, type=click.IntRange(1)
)
@click.option("--clips", type=click.IntRange(1), help="Held-out clips. Default: all.")
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Processes that decode.")
@click.option("--device", default="cpu", show_default=True)
@out_option("tuning")
def main(
    train_folder: Path, held_out: Path, work: Path, dense_steps: int, tune_steps: int,
    clips: int | None, seed: int, workers: int, device: str, out: Path,
) -> None:  # fmt: skip
    """Train on TRAIN, answer the clips of HELD_OUT; runs lie in WORK.

    Both are folders of `python -m benchmarks.events`. At its defaults about 8 minutes of one core.
    """
    setup = Setup(
        dense_steps=dense_steps, tune_steps=tune_steps, selector_steps=tune_steps, seed=seed
    )
    try:
        with join_processes(device) as processes:
            learnt = read_dataset("folders", train_folder)
            held = some_clips(read_dataset("folders", held_out), clips or sys.maxsize)
            checkpoints = train(setup, learnt, work, workers, processes)
            rows = answers(checkpoints, held, workers, processes)
            result = describe_run(processes.device) | {
                "setup": dataclasses.asdict(setup),
                "clips": {"train": len(learnt), "held_out": len(held)},
                "data": {"train": data_digest(learnt), "held_out": data_digest(held)},
                "labels": list(learnt.labels),
                "rows": rows,
            }
    except (DataSetError, TrainingError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    write_result(out, result)
    for row in rows:
        click.echo(f"{row['way']:20} {row['sparsity']:4g}  top-1 {row['top1']:.1%}, "
                   f"{100 * row['gain']:+.1f} points")  # fmt: skip
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
