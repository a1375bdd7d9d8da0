"""``python -m training.supervised``: train selector, extractor and head on labelled clips at once.

What the built-in bundle is made with. There is no teacher: the selector learns from a target in
pixels (:func:`training.targets.pixel_change`), the extractor from the labels. Because an untrained
selector shows the extractor nothing worth learning from, the target itself selects at first and
hands over to the selector, batch by batch, as that learns.

Runs on a CPU in bfloat16 where that is fast. A run writes ``state.safetensors`` as it goes and,
started again with the same arguments, goes on from there; ``checkpoint.safetensors`` is the result.
"""

import csv
import dataclasses
import json
import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from bundle.tokens import tokens_to_keep
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig, get_config
from training.data import Sample, train_loader
from training.losses import map_loss
from training.moving_things.labels import LABELS
from training.moving_things.store import ClipStore, StoreError
from training.optimizers import build_optimizers, set_rate
from training.state import load_state, save_state


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
    dense_batch: int = 10
    # The mean of the patch tokens must tell the label as well, through the same head: from scratch,
    # tokens learn what they show long before the video token learns where to look.
    pooled_weight: float = 0.5


RECIPES = {
    # The built-in bundle, from scratch.
    "default": Recipe(),
    # And further from there, with a selector that has learnt: no target to lean on, the whole
    # trained range from the first step, another order of clips.
    "default-continued": Recipe(
        seed=1,
        steps=1000,
        learning_rate=5e-4,
        matrix_learning_rate=1.5e-3,
        hand_over=(0.0, 0.0),
        sparse_until=0.0,
    ),
}


class DivergedError(RuntimeError):
    """The loss is no longer a number."""


def build(recipe: Recipe) -> tuple[LookWhen, list[Optimizer]]:
    """The model as the seed initialises it, and its optimisers."""
    torch.manual_seed(recipe.seed)
    config = dataclasses.replace(get_config(recipe.config), labels=LABELS)
    model = LookWhen(config, recipe.drop_path)
    return model, build_optimizers(
        model,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
    )


def rate(recipe: Recipe, step: int) -> float:
    """Share of the peak rates at a step: linear warm-up, then a cosine down to the final share."""
    warm = max(1, round(recipe.warm_up * recipe.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, recipe.steps - warm)
    return recipe.final_rate + (1 - recipe.final_rate) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What chance decides for one step, as a pure function of seed and step."""

    sparsity: float
    by_target: bool
    clips: int  # of the batch, from its beginning


def plan(recipe: Recipe, config: ModelConfig, step: int) -> StepPlan:
    """Draw the step's sparsity, whether the target selects, and how many clips it is shown."""
    rng = np.random.default_rng((recipe.seed, 1, step))
    progress = step / recipe.steps
    levels = np.linspace(config.lowest_sparsity, config.highest_sparsity, recipe.levels)
    if progress < recipe.sparse_until:
        levels = levels[recipe.levels // 2 :]
    sparsity = rng.choice(levels)
    clips = recipe.batch
    if rng.random() < recipe.dense_share and progress >= recipe.sparse_until:
        sparsity = rng.choice(recipe.dense_sparsities)
        clips = min(clips, recipe.dense_batch)
    start, end = recipe.hand_over
    by_target = rng.random() >= (progress - start) / max(1e-9, end - start)
    return StepPlan(float(sparsity), bool(by_target), clips)


def losses(
    model: LookWhen, batch: Sample, step_plan: StepPlan, recipe: Recipe
) -> tuple[Tensor, dict[str, float]]:
    """The step's loss, and what to log of it."""
    kept = tokens_to_keep(step_plan.sparsity, model.config.tokens)
    batch = Sample(*(tensor[: step_plan.clips] for tensor in batch))
    with _precision():
        predicted = model(
            batch.frames,
            batch.clip_small,
            kept,
            selection=batch.target if step_plan.by_target else None,
        )
        pooled = model.head(predicted.features.patches.mean(dim=1))
    label_loss, pooled_loss = (
        F.cross_entropy(logits.float(), batch.label, label_smoothing=recipe.label_smoothing)
        for logits in (predicted.logits, pooled)
    )
    selector_loss = map_loss(predicted.scores, batch.target, recipe.map_temperature)
    with torch.no_grad():
        moving = batch.moving.sum(dim=1)
        own = predicted.scores.float().topk(kept, dim=1).indices
        found = batch.moving.gather(1, own).sum(dim=1)
        recall = (found / moving.clamp(min=1))[moving > 0].mean()
        accuracy = (predicted.logits.argmax(dim=1) == batch.label).float().mean()
    total = label_loss + recipe.pooled_weight * pooled_loss + recipe.map_weight * selector_loss
    return total, {
        "loss": total.item(),
        "label_loss": label_loss.item(),
        "pooled_loss": pooled_loss.item(),
        "map_loss": selector_loss.item(),
        "accuracy": accuracy.item(),
        "recall": recall.item(),
    }


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    workers: int,
    save_every: int,
    start: Path | None = None,
) -> Path:
    """Run the recipe, or the rest of it; returns the checkpoint's path.

    Args:
        start: a checkpoint whose weights the run starts from, in place of random ones.

    Raises:
        DivergedError: the loss is not a number; the last good state is kept.
        CheckpointError: ``start`` cannot be read, or is of another shape.
    """
    out.mkdir(parents=True, exist_ok=True)
    model, optimizers = build(recipe)
    commit = current_commit()  # of the code that runs, not of what is checked out when it ends
    before: dict[str, Any] = {}
    if start is not None:
        parent, before = load_checkpoint(start)
        if parent.config != model.config:
            raise CheckpointError(f"{start}: is not of the shape {model.config.name}")
        model.load_state_dict(parent.state_dict())
    state = out / "state.safetensors"
    first = 0
    if state.exists():
        first, facts = load_state(state, model, optimizers)
        if facts["recipe"] != json.loads(json.dumps(dataclasses.asdict(recipe))):
            raise click.ClickException(
                f"{state} belongs to another recipe; choose another folder or remove it"
            )
    facts = {"recipe": dataclasses.asdict(recipe)}
    loader = train_loader(
        data,
        model.config,
        batch=recipe.batch,
        seed=recipe.seed,
        first=first,
        last=recipe.steps,
        workers=workers,
    )
    _drop_rows(out / "log.csv", first)
    model.train()
    with _progress() as bar, (out / "log.csv").open("a", newline="") as log:
        writer = csv.writer(log)
        task = bar.add_task("training", total=recipe.steps, completed=first, shown="")
        started = time.monotonic()
        for step, batch in enumerate(loader, start=first):
            sample = Sample(*batch)
            step_plan = plan(recipe, model.config, step)
            set_rate(optimizers, rate(recipe, step))
            loss, shown = losses(model, sample, step_plan, recipe)
            if not math.isfinite(shown["loss"]):
                raise DivergedError(
                    f"the loss is {shown['loss']} at step {step}; the last good state is in {state}"
                )
            model.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_gradient)
            for optimizer in optimizers:
                optimizer.step()
            row = {"step": step, **shown, **dataclasses.asdict(step_plan)}
            if log.tell() == 0:
                writer.writerow(row)
            writer.writerow(f"{v:.4f}" if isinstance(v, float) else v for v in row.values())
            log.flush()
            done = step + 1
            speed = (done - first) * recipe.batch / (time.monotonic() - started)
            bar.update(
                task,
                completed=done,
                shown=f"loss {shown['loss']:.2f}  accuracy {shown['accuracy']:.2f}  "
                f"recall {shown['recall']:.2f}  {speed:.0f} clips/s",
            )
            if done % save_every == 0 or done == recipe.steps:
                save_state(state, model, optimizers, done, facts)
    checkpoint = out / "checkpoint.safetensors"
    meta = ClipStore(data).meta
    save_checkpoint(
        model,
        checkpoint,
        {
            **facts,
            "name": "training.supervised",
            "data": f"moving_things, {meta['clips']} clips of seed {meta['seed']}",
            "clips_seen": recipe.steps * recipe.batch + int(before.get("clips_seen", 0)),
            "continues": before,
            "commit": commit,
        },
    )
    return checkpoint


def _drop_rows(log: Path, first: int) -> None:
    """Take the rows out that a killed run wrote after its last saved state."""
    if not log.exists():
        return
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: 1 + first]))


def current_commit() -> str:
    """The commit the code stands at, or "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _precision() -> AbstractContextManager[Any]:
    """bfloat16 where the processor multiplies in it, otherwise float32."""
    if torch.cpu._is_avx512_bf16_supported():
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def _progress() -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
    )


def _options() -> Iterator[click.Option]:
    """One option per field of the recipe that a person would turn."""
    for name, text in (
        ("config", "Shape of the network."),
        ("seed", "Seed of weights, order and augmentation."),
        ("steps", "Optimiser steps."),
        ("batch", "Clips per step."),
        ("learning_rate", "AdamW's peak learning rate."),
        ("matrix_learning_rate", "Muon's peak learning rate, for the matrices inside blocks."),
        ("map_weight", "Weight of the selector's loss."),
        ("dense_share", "Share of steps denser than the trained range."),
    ):
        kind = click.Choice(list(CONFIGS)) if name == "config" else type(getattr(Recipe(), name))
        yield click.Option(
            [f"--{name.replace('_', '-')}"], type=kind, help=f"{text}  [default: the recipe's]"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="default", show_default=True)
@click.option(
    "--start",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Checkpoint whose weights the run starts from.",
)
@click.option("--workers", default=1, show_default=True, help="Processes that decode clips.")
@click.option("--save-every", default=100, show_default=True, help="Steps between saved states.")
def main(
    data: Path,
    out: Path,
    recipe: str,
    start: Path | None,
    workers: int,
    save_every: int,
    **turned: Any,
) -> None:
    """Train on the rendered clips in DATA; write state, log and checkpoint to OUT."""
    changes = {name: value for name, value in turned.items() if value is not None}
    chosen = dataclasses.replace(RECIPES[recipe], **changes)
    try:
        checkpoint = train(chosen, data, out, workers=workers, save_every=save_every, start=start)
    except (CheckpointError, DivergedError, StoreError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {checkpoint}")


main.params.extend(_options())

if __name__ == "__main__":
    main()
