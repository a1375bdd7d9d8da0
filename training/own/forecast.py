"""How long a run will take, told before it begins."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from training.datasets import DataSet, evaluation_batches
from training.own.probing import SPARSITIES
from training.own.tuning import recipe_for, step_seconds
from training.processes import Processes


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds on this machine: of scaling a clip, of showing one to the frozen network at all
    sparsities, of a step of fine-tuning (None where it is not asked for), and of the stem's looks
    at a clip's stored views (0 without a stem)."""

    scaling: float
    showing: float
    step: float | None
    looking: float = 0.0


def take_time(
    scale_some: Callable[[int], DataSet],
    clips: int,
    start: Path,
    model: LookWhen,
    processes: Processes,
    *,
    tuned: bool,
) -> Timing:
    """Do a little of everything.

    Args:
        scale_some: scales this number of clips more and gives all that are scaled.
        clips: how many to scale.
        tuned: whether to take the time of fine-tuning.
    """
    began = time.monotonic()
    some = scale_some(clips)
    scaling = (time.monotonic() - began) / clips
    some = some.subset(range(min(clips, len(some))))
    batches = list(evaluation_batches(some, model.config, batch=clips, workers=0, lost_share=0.0))
    model.to(processes.device)
    kept = [tokens_to_keep(sparsity, model.config.tokens) for sparsity in SPARSITIES]
    began = time.monotonic()
    with torch.inference_mode():
        for batch in batches:
            views = (batch.frames.to(processes.device), batch.clip_small.to(processes.device))
            for _ in model.sweep(*views, kept):
                pass
    showing = (time.monotonic() - began) / len(some)
    recipe = recipe_for(model.config)
    step = step_seconds(start, some, recipe, processes) if tuned else None
    # Shown at all sparsities, the stem has looked at more tokens than a stored view has.
    looking = recipe.stored_views * showing if tuned else 0.0
    return Timing(scaling, showing, step, looking)


def minutes(seconds: float) -> str:
    """As people say it."""
    return "less than a minute" if seconds < 60 else f"{round(seconds / 60)} min"
