"""How many tokens a step of pre-training keeps."""

import numpy as np

from bundle.tokens import tokens_to_keep


def draw_kept(tokens: int, sparsities: tuple[float, float], seed: int, step: int) -> int:
    """Draw the step's K, of ``tokens``: the sparsity is uniform in a range.

    A pure function of its arguments: every process of a run, and a resumed run, draws the same.

    Source: one K per step, uniform, is LookWhere's; the range is the paper's.
    """
    # Apart from what else is drawn from the same seed.
    rng = np.random.default_rng((seed, 2, step))
    return tokens_to_keep(float(rng.uniform(*sparsities)), tokens)
