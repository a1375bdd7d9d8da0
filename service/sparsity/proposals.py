"""Where something happens, by the selector's scores: which windows of a long video are looked at.

A selector puts its mass on few tokens where something of its own happens, and spreads it where all
of the picture moves, or nothing does. So a window is proposed when its scores are as concentrated
as those of the middle one of this video's windows so far, and no more than half of all are: what
all of a video costs is bounded by that, whatever it shows. What is proposed depends on the windows
before it alone, and not on how many of them are scored together.

Our choice. benchmarks/timeline.py measures it; of the entropy of the scores' softmax, the share of
the mass in the best tokens, and the spread of the scores over time and place, entropy told windows
with an action from others best, and it has nothing to be set.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

SHARE = 0.5
# Windows of which the middle one is taken.
_REMEMBERED = 512


def concentration(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """The negative entropy of the scores' softmax, which is what the selector says of its tokens
    (see :func:`service.sparsity.levels.coverage_curve`): float32 [W, N] -> float64 [W], up to 0."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    mass = np.exp(shifted)
    total = mass.sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = (mass / total * (shifted - np.log(total))).sum(axis=1)
    return found


class Proposer:
    """Chooses among the windows of one video, as they come."""

    def __init__(self) -> None:
        self._known: deque[float] = deque(maxlen=_REMEMBERED)
        self._seen = self._proposed = 0

    def choose(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of some windows are looked at: float32 [W, N] -> bool [W].

        Of all windows so far no more than half are, or one.
        """
        chosen = np.zeros(len(scores), bool)
        for window, found in enumerate(concentration(scores).tolist()):
            self._known.append(found)
            self._seen += 1
            room = self._proposed < max(1, int(SHARE * self._seen))
            chosen[window] = room and found >= np.median(self._known)
            self._proposed += int(chosen[window])
        return chosen
