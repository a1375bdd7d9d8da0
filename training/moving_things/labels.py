"""The labels, in the fixed order of the classes."""

from __future__ import annotations

import numpy as np

LABELS: tuple[str, ...] = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "approaching",
    "receding",
    "turning clockwise",
    "turning counter-clockwise",
    "appearing",
    "disappearing",
    "two things meeting",
    "two things parting",
    "one thing passing behind another",
    "shaking",
    "bouncing",
    "falling",
    "nothing moves",
    "only the camera moves",
)

_LABEL_STREAM = 1


def label_of(seed: int, index: int) -> int:
    """The class of clip `index` of seed `seed`: each block of len(LABELS) clips holds every class
    once, in random order, so that any prefix of a store is balanced."""
    block, place = divmod(index, len(LABELS))
    order = np.random.default_rng([seed, block, _LABEL_STREAM]).permutation(len(LABELS))
    return int(order[place])
