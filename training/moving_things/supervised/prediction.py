"""What a training of the built-in model takes, before it is started."""

import dataclasses

import numpy as np
import torch

from training.moving_things.supervised.objective import build
from training.moving_things.supervised.recipes import SupervisedRecipe
from training.prediction.memory import FLOAT
from training.prediction.recipes import (
    TRAINED,
    Forecast,
    fixed_memory,
    largest_step,
    mean_macs,
    rows_at_once,
    view_bytes,
)


def predict_supervised(recipe: SupervisedRecipe, *, processes: int = 1, low: int = 2) -> Forecast:
    """A training of the built-in model by its labels."""
    with torch.device("meta"):
        model, _ = build(recipe)
    config, rows = model.config, rows_at_once(recipe.loop, processes)
    dense = max(1, round(recipe.dense_batch * rows))
    steps = [(config.lowest_sparsity, rows), (min(recipe.dense_sparsities), dense)]
    kept, working = largest_step(config, steps, low, False, recipe.train_selector)
    memory = dataclasses.replace(
        fixed_memory([model], True, processes, low),
        batch=rows * (view_bytes(config) + 5 * config.tokens),
        activations=kept + rows * config.tokens * 4 * FLOAT,
        working=working,
    )
    sparsities = np.linspace(
        config.lowest_sparsity, config.highest_sparsity, recipe.levels
    ).tolist()
    macs = TRAINED * mean_macs(config, sparsities)
    return Forecast(memory, processes, rows, recipe.steps, recipe.batch, macs)
