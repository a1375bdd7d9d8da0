"""``lookwhen train lite``: the command line."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from startup.console import Command
from training.command_line import loop_options, run_training
from training.datasets.command_line import Source
from training.lite.recipe import LITE_TUNING, LiteRecipe
from training.lite.run import train_lite
from training.processes import Processes
from training.running import Running
from training.tune.options import COMMON, POSITIVE, network_arguments, step_options

_DEFAULT = LiteRecipe()


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@network_arguments
@click.option(
    "--epochs",
    type=POSITIVE,
    default=_DEFAULT.epochs,
    show_default=True,
    help="Of the selector's training.",
)
@click.option(
    "--tune-epochs",
    type=click.FloatRange(0),
    default=LITE_TUNING.epochs,
    show_default=True,
    help="Of the network's tuning; 0 leaves the network as it is.",
)
@step_options(_DEFAULT, rate_of="selector")
@click.option(
    "--layers",
    type=click.IntRange(1),
    default=_DEFAULT.layers,
    show_default=True,
    help="Last blocks that the oracle looks at.",
)
@loop_options(workers=2)
def main(
    checkpoint: Path,
    out: Path,
    source: Source,
    tune_epochs: float,
    workers: int,
    running: Running,
    device: str,
    **turned: Any,
) -> None:  # fmt: skip
    """Train LITE's selector for CHECKPOINT, a published network, and tune the network to it.

    Clips are the data set of KIND in PATH, see `lookwhen train data check`; their labels are the
    network's. OUT/lite.safetensors holds both, for `lookwhen train evaluate --baseline lite:KEPT`.
    Started again, the command goes on.
    """

    def go(processes: Processes) -> list[str]:
        recipe = dataclasses.replace(LiteRecipe(), **turned)
        tuning = None
        if tune_epochs:
            common = {name: turned[name] for name in COMMON}
            tuning = dataclasses.replace(LITE_TUNING, epochs=tune_epochs, **common)
        written = train_lite(
            checkpoint,
            out,
            source.read(),
            recipe,
            tuning,
            processes=processes,
            data=str(source),
            workers=workers,
            running=running,
            lost_share=source.lost_share,
        )
        return [f"wrote {written}"]

    run_training(go, None, None, device=device, machine=None)


if __name__ == "__main__":
    main(prog_name="python -P -m training.lite")
