"""How many tokens a step of pre-training keeps."""

import numpy as np

from bundle.tokens import tokens_to_keep
from model.config import ModelConfig


def draw_kept(config: ModelConfig, seed: int, step: int) -> int:
    """Draw the step's K: the sparsity is uniform in the configuration's range.

    A pure function of its arguments: every process of a run, and a resumed run, draws the same.

    Source: one K per step, uniform, is LookWhere's; the range is the paper's.
    """
    # Apart from what else is drawn from the same seed.
    rng = np.random.default_rng((seed, 2, step))
    sparsity = rng.uniform(config.lowest_sparsity, config.highest_sparsity)
    return tokens_to_keep(float(sparsity), config.tokens)
