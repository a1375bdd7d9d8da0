"""``lookwhen train builtin``: train selector, extractor and head at once, on labels.

What the built-in bundle is made with. There is no teacher: the selector learns from a target in
pixels (:func:`training.targets.pixel_change`), the extractor from the labels. Because an untrained
selector shows the extractor nothing worth learning from, the target itself selects at first and
hands over to the selector, batch by batch, as that learns.

Runs on a CPU in bfloat16 where that is fast. A run writes ``state.safetensors`` as it goes and,
started again with the same arguments, goes on from there; ``checkpoint.safetensors`` is the result.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from bundle.tokens import tokens_to_keep
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig, get_config
from startup.console import Command
from training.command_line import loop_options
from training.data import TURNING, CloseUps, Sample, train_loader
from training.hand_over import target_selects
from training.loop import LoopSettings, Objective, TrainingError, run_loop
from training.losses import map_loss
from training.moving_things.labels import LABELS
from training.moving_things.store import ClipStore, StoreError
from training.optimizers import build_optimizers
from training.processes import Processes, join_processes
from training.provenance import current_commit, file_digest
from training.running import Running


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run, whole. Defaults: the built-in bundle's."""

    config: str = "lookwhen_mini16"
    seed: int = 0
    batch: int = 32
    steps: int = 6600
    learning_rate: float = 1e-3  # AdamW's
    matrix_learning_rate: float = 3e-3  # Muon's
    final_rate: float = 1e-3  # share of the peak
    weight_decay: float = 0.05
    warm_up: float = 0.02  # share of the steps
    clip_gradient: float = 1.0
    label_smoothing: float = 0.05
    drop_path: float = 0.0
    map_weight: float = 0.5
    # Of the standardised target: at 1 the target's weight lies on some fifty tokens, at 0.5 on
    # seven, too few to rank all that moves.
    map_temperature: float = 1.0
    # The selector takes over from the target between these shares of the steps.
    hand_over: tuple[float, float] = (0.1, 0.35)
    # Sparsities come from a grid over the trained range: a CPU's kernels are compiled for each new
    # shape, which costs as much as the step itself when every step has another K.
    levels: int = 7
    # Until this share of the steps only the sparser half of the grid, which is cheaper, and easier
    # to learn from because little but the event is kept.
    sparse_until: float = 0.35
    # Share of the later steps at one of these, so that dense answers are not far from what was
    # trained; on fewer clips, so that they cost no more than the others.
    dense_share: float = 0.12
    dense_sparsities: tuple[float, ...] = (0.0, 0.25, 0.5)
    dense_batch: float = 0.3  # share of the batch
    # The mean of the patch tokens must tell the label as well, through the same head: from scratch,
    # tokens learn what they show long before the video token learns where to look.
    pooled_weight: float = 0.5
    # A selector that has learnt may stay as it is, and then is not gone through backwards.
    train_selector: bool = True
    # Which clips are shown more often, and from nearer.
    close_ups: CloseUps | None = None
    # Of the loss over all labels, and of one over nothing but the ways of turning, on the clips in
    # which something turns.
    label_weight: float = 1.0
    turning_weight: float = 0.0

    @property
    def loop(self) -> LoopSettings:
        return LoopSettings.of(self, self.steps)


# Further from where a run ended, with a selector that has learnt: no target to lean on, the whole
# trained range from the first step, lower rates.
_CONTINUED = Recipe(
    learning_rate=5e-4, matrix_learning_rate=1.5e-3, hand_over=(0.0, 0.0), sparse_until=0.0
)

RECIPES = {
    # The built-in bundle, from scratch.
    "default": Recipe(),
    # And further from there, in another order of clips.
    "default-continued": dataclasses.replace(_CONTINUED, seed=1, steps=1000),
    # Which way things turn, which from scratch is never found out: from near first, where what a
    # token shows of a turn is larger, and as a question of its own: among all labels it stayed a
    # guess for several times as long. The target selects again: to the selector this is new.
    "turning-near": Recipe(
        seed=2,
        steps=600,
        learning_rate=1e-3,
        matrix_learning_rate=3e-3,
        hand_over=(0.6, 1.0),
        sparse_until=1.0,
        dense_share=0.0,
        label_weight=0.0,
        turning_weight=1.0,
        close_ups=CloseUps(others=False, share=1.0, side=(0.35, 0.65)),
    ),
    # Then from ever further away, among all other events.
    "turning-far": Recipe(
        seed=3,
        steps=1500,
        learning_rate=1e-3,
        matrix_learning_rate=3e-3,
        hand_over=(0.0, 0.0),
        sparse_until=0.3,
        turning_weight=1.0,
        close_ups=CloseUps(repeat=5, share=0.7, side=(0.4, 1.0)),
    ),
    # And as they will be seen, at lower rates.
    "turning-settled": dataclasses.replace(
        _CONTINUED,
        seed=4,
        steps=2000,
        turning_weight=1.0,
        close_ups=CloseUps(repeat=3, share=0.3, side=(0.6, 1.0)),
    ),
    # Last, nothing but clips as they are, and more of the dense steps: what else there is to tell
    # apart had suffered, and dense answers most.
    "settled": dataclasses.replace(
        _CONTINUED, seed=5, steps=1200, dense_share=0.3, turning_weight=0.5
    ),
    # All of it together, at the low rates at which turning is learnt from whole pictures as well:
    # at those above, what had been learnt of it from near was lost.
    "together": dataclasses.replace(
        _CONTINUED,
        seed=6,
        steps=2100,
        learning_rate=3e-4,
        matrix_learning_rate=8e-4,
        train_selector=False,
        dense_share=0.25,
        turning_weight=1.0,
        close_ups=CloseUps(repeat=4),
    ),
}


def build(recipe: Recipe) -> tuple[LookWhen, list[Optimizer]]:
    """The model as the seed initialises it, and its optimisers."""
    torch.manual_seed(recipe.seed)
    config = dataclasses.replace(get_config(recipe.config), labels=LABELS)
    model = LookWhen(config, recipe.drop_path)
    model.selector.requires_grad_(recipe.train_selector)
    if not recipe.map_weight:
        model.selector.head.requires_grad_(False)  # nothing would tell it what to choose
    return model, build_optimizers(
        model,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
    )


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What chance decides for one step, as a pure function of seed and step."""

    sparsity: float
    by_target: bool
    share: float  # of the batch's clips that the step is shown


def plan(recipe: Recipe, config: ModelConfig, step: int) -> StepPlan:
    """Draw the step's sparsity, whether the target selects, and how many clips it is shown."""
    rng = np.random.default_rng((recipe.seed, 1, step))
    progress = step / recipe.steps
    levels = np.linspace(config.lowest_sparsity, config.highest_sparsity, recipe.levels)
    if progress < recipe.sparse_until:
        levels = levels[recipe.levels // 2 :]
    sparsity = rng.choice(levels)
    share = 1.0
    if rng.random() < recipe.dense_share and progress >= recipe.sparse_until:
        sparsity = rng.choice(recipe.dense_sparsities)
        share = recipe.dense_batch
    by_target = target_selects(recipe.hand_over, progress, rng)
    return StepPlan(float(sparsity), by_target, share)


class Supervised(Objective):
    """Labels for extractor and head, the pixels' change for the selector."""

    def __init__(self, model: LookWhen, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe

    def forward(self, batch: Sample, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe, model = self.recipe, self.model
        drawn = plan(recipe, model.config, step)
        rows = max(1, round(drawn.share * len(batch.label)))
        batch = Sample(*(tensor[:rows] for tensor in batch))
        kept = tokens_to_keep(drawn.sparsity, model.config.tokens)
        predicted = model(
            batch.frames,
            batch.clip_small,
            kept,
            selection=batch.target if drawn.by_target else None,
        )
        pooled = model.head(predicted.features.patches.mean(dim=1))
        label_loss, pooled_loss = (
            self._label_loss(logits.float(), batch.label) for logits in (predicted.logits, pooled)
        )
        with torch.no_grad():
            moving = batch.moving.sum(dim=1)
            own = predicted.scores.float().topk(kept, dim=1).indices
            found = batch.moving.gather(1, own).sum(dim=1)
            recall = (found / moving.clamp(min=1))[moving > 0]
            accuracy = (predicted.logits.argmax(dim=1) == batch.label).float().mean()
        total = label_loss + recipe.pooled_weight * pooled_loss
        shown = {"label_loss": label_loss.item(), "pooled_loss": pooled_loss.item()}
        if recipe.map_weight:
            selector_loss = map_loss(predicted.scores, batch.target, recipe.map_temperature)
            total = total + recipe.map_weight * selector_loss
            shown["map_loss"] = selector_loss.item()
        return total, {
            "accuracy": accuracy.item(),
            "recall": recall.mean().item() if len(recall) else 1.0,
            **shown,
            "sparsity": drawn.sparsity,
            "by_target": float(drawn.by_target),
        }

    def _label_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        recipe, ways = self.recipe, sorted(TURNING)
        loss = recipe.label_weight * F.cross_entropy(
            logits, label, label_smoothing=recipe.label_smoothing
        )
        turning = torch.isin(label, torch.tensor(ways, device=label.device))
        if recipe.turning_weight and turning.any():
            way = (label[turning] == ways[1]).long()
            loss = loss + recipe.turning_weight * F.cross_entropy(logits[turning][:, ways], way)
        return loss


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    processes: Processes,
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    start: Path | None = None,
) -> Path:
    """Run the recipe, or the rest of it; returns the checkpoint's path.

    Args:
        start: a checkpoint whose weights the run starts from, in place of random ones; a
            pre-trained one without labels will do.

    Raises:
        TrainingError: see :func:`training.loop.run_loop`.
        CheckpointError: ``start`` cannot be read, or is of another shape.
    """
    model, optimizers = build(recipe)
    commit = current_commit()  # of the code that runs, not of what is checked out when it ends
    before: dict[str, Any] = {}
    if start is not None:
        parent, before = load_checkpoint(start)
        # A pre-trained network has no labels yet: its head starts at random.
        same = dataclasses.replace(
            parent.config, labels=parent.config.labels or model.config.labels
        )
        if same != model.config:
            raise CheckpointError(f"{start}: is not of the shape {model.config.name}")
        model.load_state_dict(model.state_dict() | parent.state_dict())

    def load(first: int, last: int) -> Iterable[Sample]:
        loader = train_loader(
            data,
            model.config,
            batch=recipe.batch,
            seed=recipe.seed,
            first=first,
            last=last,
            workers=workers,
            rank=processes.rank,
            world=processes.world,
            pin=processes.pins,
            close_ups=recipe.close_ups,
        )
        return (Sample(*batch) for batch in loader)

    meta = ClipStore(data).meta
    identity = {
        **dataclasses.asdict(recipe),
        "clips": f"{meta['clips']} of seed {meta['seed']}",
        "start": None if start is None else file_digest(start),
    }
    checkpoint = out / "checkpoint.safetensors"
    ran = run_loop(
        Supervised(model, recipe).to(processes.device),
        optimizers,
        load,
        recipe.loop,
        out,
        recipe=identity,
        processes=processes,
        running=running,
    )
    if processes.first and (ran or not checkpoint.exists()):
        save_checkpoint(
            model,
            checkpoint,
            {
                "recipe": dataclasses.asdict(recipe),
                "name": "training.supervised",
                "data": f"moving_things, {meta['clips']} clips of seed {meta['seed']}",
                "clips_seen": recipe.steps * recipe.batch + int(before.get("clips_seen", 0)),
                "continues": before,
                "commit": commit,
            },
        )
    processes.wait()
    return checkpoint


def _options() -> Iterator[click.Option]:
    """One option per field of the recipe that a person would turn."""
    for name, text in (
        ("config", "Shape of the network."),
        ("seed", "Seed of weights, order and augmentation."),
        ("steps", "Optimiser steps."),
        ("batch", "Clips per step."),
        ("learning_rate", "AdamW's peak learning rate."),
        ("matrix_learning_rate", "Muon's peak learning rate, for the matrices inside blocks."),
        ("map_weight", "Weight of the selector's loss; 0 switches it off."),
        ("dense_share", "Share of steps denser than the trained range."),
    ):
        kind = click.Choice(list(CONFIGS)) if name == "config" else type(getattr(Recipe(), name))
        yield click.Option(
            [f"--{name.replace('_', '-')}"], type=kind, help=f"{text}  [default: the recipe's]"
        )


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="default", show_default=True)
@click.option(
    "--start",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Checkpoint whose weights the run starts from.",
)
@loop_options(workers=1)
def main(
    data: Path,
    out: Path,
    recipe: str,
    start: Path | None,
    workers: int,
    running: Running,
    device: str,
    **turned: Any,
) -> None:
    """Train the built-in model on the rendered clips in DATA; write it to OUT.

    OUT gets the state, the log and the checkpoint.
    """
    changes = {name: value for name, value in turned.items() if value is not None}
    chosen = dataclasses.replace(RECIPES[recipe], **changes)
    try:
        with join_processes(device) as processes:
            checkpoint = train(
                chosen,
                data,
                out,
                processes=processes,
                workers=workers,
                running=running,
                start=start,
            )
    except (CheckpointError, StoreError, TrainingError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if processes.first:
        click.echo(f"wrote {checkpoint}")


main.params.extend(_options())

if __name__ == "__main__":
    main(prog_name="python -P -m training.supervised")
