"""``lookwhen train tune``: the command line."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import click

from networks.checkpoint import read_network_config
from networks.selectors import SELECTORS
from startup.console import Command
from training.command_line import loop_options, run_training
from training.datasets.command_line import Source
from training.prediction import Forecast, Machine, predict_options, predict_tuning
from training.processes import Processes
from training.running import Running
from training.teachers import TEACHERS
from training.tune.options import COMMON, POSITIVE, network_arguments, step_options
from training.tune.recipe import SelectorRecipe, TuningRecipe
from training.tune.run import tune

_DEFAULT, _SELECTOR = TuningRecipe(), SelectorRecipe()


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@network_arguments
@click.option("--epochs", type=POSITIVE, default=_DEFAULT.epochs, show_default=True)
@step_options(_DEFAULT, rate_of="network")
@click.option(
    "--layer-decay",
    type=click.FloatRange(0, 1),
    default=_DEFAULT.layer_decay,
    show_default=True,
    help="Rate of a block, as a share of the next one's.",
)
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=_DEFAULT.sparsities,
    show_default=True,
    help="That steps draw from; may be repeated.",
)
@click.option(
    "--counts",
    type=click.IntRange(1),
    default=_DEFAULT.counts,
    show_default=True,
    help="Sparsities in a step, on the same views.",
)
@click.option(
    "--select-by",
    type=click.Choice(SELECTORS),
    multiple=True,
    default=_DEFAULT.select_by,
    show_default=True,
    help="One is drawn for each step.",
)
@click.option(
    "--distil-weight",
    type=click.FloatRange(0),
    default=_DEFAULT.distil_weight,
    show_default=True,
    help="Of the network's own dense answer.",
)
@click.option(
    "--label-weight",
    type=click.FloatRange(0),
    default=_DEFAULT.label_weight,
    show_default=True,
    help="Of labels, where the data set's are the network's.",
)
@click.option(
    "--selector-epochs",
    type=click.FloatRange(0),
    default=_SELECTOR.epochs,
    show_default=True,
    help="Of the selector's training; 0 for no selector.",
)
@click.option(
    "--target", default=_SELECTOR.target, show_default=True, help="What the selector learns."
)
@click.option(
    "--image",
    type=(click.Choice(TEACHERS), str),
    metavar="NAME WEIGHTS",
    help="Teacher of the selector, in place of the network itself.",
)
@predict_options
@loop_options(workers=2)
def main(
    checkpoint: Path,
    out: Path,
    source: Source,
    sparsities: tuple[float, ...],
    selector_epochs: float,
    target: str,
    image: tuple[str, str] | None,
    workers: int,
    running: Running,
    device: str,
    machine: Machine | None,
    **turned: Any,
) -> None:  # fmt: skip
    """Tune CHECKPOINT, a published network, for part of its tokens, and train its selector.

    Clips are the data set of KIND in PATH, see `lookwhen train data check`. OUT/tuned.safetensors
    holds both; `lookwhen export` makes a bundle of it. Started again, the command goes on.
    """

    clips = functools.cache(source.read)

    def recipes() -> tuple[TuningRecipe, SelectorRecipe | None]:
        recipe = dataclasses.replace(TuningRecipe(), sparsities=sparsities, **turned)
        if not selector_epochs:
            return recipe, None
        common = {name: turned[name] for name in COMMON}
        return recipe, dataclasses.replace(
            SelectorRecipe(), epochs=selector_epochs, target=target, **common
        )

    def predict(processes: int, low: int) -> list[Forecast]:
        config = read_network_config(checkpoint)
        runs = predict_tuning(*recipes(), config, len(clips()), processes=processes, low=low)
        if image is not None and len(runs) > 1:
            instead = (f"the teacher {' '.join(image)}, in place of the network's own features",)
            runs[1] = dataclasses.replace(runs[1], uncounted=instead)
        return runs

    def go(processes: Processes) -> list[str]:
        recipe, selector = recipes()
        written = tune(
            checkpoint,
            out,
            clips(),
            recipe,
            selector,
            teacher=image,
            processes=processes,
            data=str(source),
            workers=workers,
            running=running,
            lost_share=source.lost_share,
        )
        return [f"wrote {written}"]

    run_training(
        go, predict, lambda: read_network_config(checkpoint), device=device, machine=machine
    )


if __name__ == "__main__":
    main(prog_name="python -P -m training.tune")
