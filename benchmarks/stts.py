"""``python -m benchmarks.stts``: do STTS's selectors learn to keep what chance does not?

A small Video Swin is trained on the clips of :mod:`benchmarks.events` twice for each seed, with
selectors that learn and by chance, everything else alike; both answer the same held-out clips. The
network whose selectors learnt answers them a second time with chance in their place.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.command_line import out_option
from benchmarks.events import right_answers
from benchmarks.record import describe_run, write_result
from networks.stts import SelectingSwin, stts_cost
from networks.video_swin import swin_cost
from training.datasets import Batch, DataSet, DataSetError, read_dataset
from training.datasets.identity import data_digest
from training.evaluation import Method
from training.evaluation.clips import some_clips
from training.evaluation.methods import Answer, Setting
from training.evaluation.statistics import paired_lead, wilson_interval
from training.processes import Processes, TrainingError, join_processes
from training.stts import SttsRecipe, load_stts, train_stts, views_of

# How a network was trained, and what selects when it answers.
ARMS = (("learned", "learned"), ("learned", "chance"), ("chance", "chance"))


class SttsMethod(Method):
    """A Video Swin with selectors, by what they score, by chance, or both."""

    def __init__(self, network: SelectingSwin, selected: tuple[str, ...]) -> None:
        config = network.config
        self.network = self.selecting = network
        self.config = views_of(config.frames, config.size)
        self.settings = tuple(Setting(series="stts", name=name) for name in selected)
        self.macs = stts_cost(config, network.places)

    def answer(self, batch: Batch) -> Iterator[Answer]:
        """See :meth:`training.evaluation.Method.answer`; by chance, a row's draw is its batch's."""
        count = torch.full((len(batch.frames),), self.macs)
        for setting in self.settings:
            self.selecting.select_by_chance(setting.name == "chance")
            yield Answer(self.selecting(batch.frames), count, torch.zeros_like(count), None)


def run_seed(
    recipe: SttsRecipe, work: Path, train: DataSet, held: DataSet, workers: int,
    processes: Processes,
) -> dict[tuple[str, str], NDArray[np.bool_]]:  # fmt: skip
    """Which held-out clips are right, bool [n], for each of :data:`ARMS`; a run that was
    interrupted goes on.

    Raises:
        TrainingError, DataSetError, ValueError: see :func:`training.stts.train_stts`.
    """
    right: dict[tuple[str, str], NDArray[np.bool_]] = {}
    for trained in ("learned", "chance"):
        arm = dataclasses.replace(recipe, by_chance=trained == "chance")
        folder = work / f"{trained}-{recipe.seed}"
        file = train_stts(arm, train, folder, processes=processes, workers=workers)
        network, _ = load_stts(file)
        selected = tuple(name for way, name in ARMS if way == trained)
        torch.manual_seed(recipe.seed)  # what chance draws
        method = SttsMethod(network, selected)
        answers = right_answers(method, held, workers=workers, processes=processes)
        right |= {(trained, name): hits for name, hits in zip(selected, answers, strict=True)}
    return right


def compared(right: dict[tuple[str, str], list[NDArray[np.bool_]]]) -> list[dict[str, Any]]:
    """A row for each arm, all seeds together: top-1, and its difference to the learned one."""
    ours = np.concatenate(right[ARMS[0]])
    rows = []
    for arm in ARMS:
        hits = np.concatenate(right[arm])
        share, n = float(hits.mean()), len(hits)
        ahead, interval = paired_lead(ours, hits)
        rows.append(
            {
                "trained": arm[0],
                "selected": arm[1],
                "answers": n,
                "top1": share,
                "interval": wilson_interval(share, n),
                "by_seed": [float(one.mean()) for one in right[arm]],
                "learned_ahead": ahead,
                "learned_ahead_interval": interval,
            }
        )
    return rows


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("train", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("held_out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--place", "places", multiple=True, help="Of a selector, such as T0_0.5; repeatable. "
              "Default: the recipe's.")  # fmt: skip
@click.option("--steps", default=SttsRecipe().steps, show_default=True, type=click.IntRange(1))
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1))
@click.option("--clips", type=click.IntRange(1), help="Held-out clips. Default: all.")
@click.option("--workers", default=0, show_default=True, help="Processes that decode.")
@click.option("--device", default="cpu", show_default=True)
@out_option("stts")
def main(
    train: Path, held_out: Path, work: Path, places: tuple[str, ...], steps: int,
    seeds: int, clips: int | None, workers: int, device: str, out: Path,
) -> None:  # fmt: skip
    """Train on TRAIN, answer the clips of HELD_OUT; runs lie in WORK.

    Both are folders of `python -m benchmarks.events`. At its defaults about 15 minutes of one core.
    """
    recipe = SttsRecipe(steps=steps)
    if places:
        recipe = dataclasses.replace(recipe, places=places)
    try:
        with join_processes(device) as processes:
            learnt = read_dataset("folders", train)
            held = some_clips(read_dataset("folders", held_out), clips or sys.maxsize)
            right: dict[tuple[str, str], list[NDArray[np.bool_]]] = {arm: [] for arm in ARMS}
            for seed in range(seeds):
                seeded = dataclasses.replace(recipe, seed=seed)
                found = run_seed(seeded, work, learnt, held, workers, processes)
                for arm, hits in found.items():
                    right[arm].append(hits)
            network = recipe.network(learnt.labels)
            result = describe_run(processes.device) | {
                "recipe": dataclasses.asdict(recipe),
                "clips": {"train": len(learnt), "held_out": len(held)},
                "data": {"train": data_digest(learnt), "held_out": data_digest(held)},
                "labels": list(learnt.labels),
                "macs": {
                    "selecting": stts_cost(network.config, network.places),
                    "dense": swin_cost(network.config),
                },
                "rows": compared(right),
            }
    except (DataSetError, TrainingError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    write_result(out, result)
    for row in result["rows"]:
        click.echo(
            f"trained {row['trained']:8} selected {row['selected']:8} top-1 {row['top1']:.1%}, "
            f"learned ahead by {100 * row['learned_ahead']:+.1f} points"
        )
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
