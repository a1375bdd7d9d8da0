"""Fine-tuning within a time: how long a step takes here, and how many of them there is time for."""

import dataclasses
import time
from pathlib import Path

import torch

from model.checkpoint import load_checkpoint
from model.config import ModelConfig
from model.efficientnet import POOLED
from training.datasets import DataSet, training_batches
from training.finetune import RECIPES, FineTuning, FineTuningRecipe, Rows, finetune, with_head
from training.loop import OutOfTime, to_device
from training.processes import Processes
from training.progress import Counter, uncounted
from training.running import Running

# From the probe's head on, which the first steps would otherwise have to find while they spoil the
# features (Kumar et al., "Fine-tuning can distort pretrained features", 2022). Rare classes are
# shown as often as common ones. Beyond a recipe's epochs a few hundred clips are known by heart.
RECIPE = dataclasses.replace(RECIPES["own"], keep_head=True)
# Of a network with a stem: a look costs more than all the steps that learn from it, and over more
# epochs the strong decay of weights would leave nothing of them.
STEM_RECIPE = dataclasses.replace(RECIPES["stem"], stored_views=4, keep_head=True)
# Below, a rate that rises and falls teaches nothing that the probe does not know.
FEWEST_EPOCHS = 2.0
# Of the time, for what the trial cannot know: other work on the machine.
_MARGIN = 0.9
_TRIAL = 4
_VALIDATIONS = 4


def recipe_for(config: ModelConfig) -> FineTuningRecipe:
    """How a network of that configuration is fine-tuned on a person's clips."""
    return RECIPE if config.stem is None else STEM_RECIPE


def step_seconds(
    start: Path, clips: DataSet, recipe: FineTuningRecipe, processes: Processes
) -> float:
    """How long a step takes, decoding within this process, by a few whose gradients are let go.

    Where the recipe stores views, the stem's looks are not part of the steps.

    Args:
        start: a checkpoint; its head does not matter.
        clips: scaled ones; a few are enough.
    """
    recipe = dataclasses.replace(recipe, keep_head=False)
    parent, _ = load_checkpoint(start)
    model, _ = with_head(parent, clips.labels, recipe)
    objective = FineTuning(model, clips.task, recipe).to(processes.device).train()
    batches = training_batches(
        clips, model.config, batch=recipe.batch, seed=0, first=0, last=_TRIAL + 1, workers=0,
        augmentation=recipe.augmentation,
    )  # fmt: skip
    began = time.monotonic()
    for step, batch in enumerate(batches):
        frames = batch.frames
        if recipe.stored_views and model.config.stem is not None:
            frames = torch.zeros(len(frames), model.config.tokens, POOLED)
        rows = Rows(frames, batch.clip_small, batch.target, torch.empty(len(frames), 0))
        loss, _ = objective(to_device(rows, processes.device), step)
        loss.backward()
        if step == 0:  # kernels are compiled in the first
            began = time.monotonic()
    return (time.monotonic() - began) / _TRIAL


def epochs_within(seconds: float, step: float, clips: int, recipe: FineTuningRecipe) -> float:
    """Epochs that there is time for, at most the recipe's, 0 where there are too few to be worth
    it."""
    steps = int(_MARGIN * max(0.0, seconds) / step)
    epochs = min(recipe.epochs, steps * recipe.batch / clips)
    return epochs if epochs >= FEWEST_EPOCHS else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Tuned:
    """checkpoint: of the last step, or of the best where time was over before; whole: which."""

    checkpoint: Path
    whole: bool


def tune(
    recipe: FineTuningRecipe,
    start: Path,
    out: Path,
    train: DataSet,
    held: DataSet,
    *,
    processes: Processes,
    data: str,
    seconds: float,
    looking: float,
    workers: int,
    count: Counter = uncounted,
) -> Tuned:
    """Fine-tune, or go on; when the seconds are over, take what was best on the clips held out.

    Args:
        seconds: for all of it; looking: of them, what the stem's looks will take.

    Raises:
        OutOfTime: they are over before anything was measured.
        DataSetError, TrainingError: see :func:`training.finetune.finetune`.
    """
    steps = recipe.loop(len(train)).steps
    try:
        finished = finetune(
            recipe, start, out, train, held, processes=processes, data=data, workers=workers,
            validate_every=max(1, steps // _VALIDATIONS),
            running=Running(save_minutes=1.0, seconds=max(1.0, seconds - looking)), lost_share=0.0,
            count=count,
        )  # fmt: skip
    except OutOfTime:
        best = out / "best.safetensors"
        if not best.exists():
            raise
        return Tuned(best, whole=False)
    return Tuned(finished, whole=True)
