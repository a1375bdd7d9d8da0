"""Who selects in a step: the target at first, because an untrained selector shows nothing."""

import numpy as np


def target_selects(
    hand_over: tuple[float, float], progress: float, rng: np.random.Generator
) -> bool:
    """Draw whether the target selects.

    Args:
        hand_over: the target selects before the first, the selector from the second of these shares
            of the steps on; in between chance decides, evenly. (0, 0): the selector always does.
        progress: share of the steps that are done.
        rng: the step's, so that every process draws the same.
    """
    start, end = hand_over
    luck = rng.random()
    if progress < start:
        return True
    return bool(progress < end and luck >= (progress - start) / (end - start))
