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

# What a left-right flip makes of an event.
_MIRRORED = {
    "moving left": "moving right",
    "moving right": "moving left",
    "turning clockwise": "turning counter-clockwise",
    "turning counter-clockwise": "turning clockwise",
}
MIRROR = np.array([LABELS.index(_MIRRORED.get(label, label)) for label in LABELS])

# What playing it backwards makes of an event; a fall and a bounce played backwards are neither.
_BACKWARDS = {
    "moving left": "moving right",
    "moving right": "moving left",
    "moving up": "moving down",
    "moving down": "moving up",
    "approaching": "receding",
    "receding": "approaching",
    "turning clockwise": "turning counter-clockwise",
    "turning counter-clockwise": "turning clockwise",
    "appearing": "disappearing",
    "disappearing": "appearing",
    "two things meeting": "two things parting",
    "two things parting": "two things meeting",
}
BACKWARDS = np.array([LABELS.index(_BACKWARDS.get(label, label)) for label in LABELS])
ONE_WAY = frozenset(LABELS.index(label) for label in ("bouncing", "falling"))

# Which way a thing turns stays the same on a picture that is turned by a quarter, and no other
# event does: left becomes up, and what falls must fall downwards.
TURNING = frozenset(
    LABELS.index(label) for label in ("turning clockwise", "turning counter-clockwise")
)

_LABEL_STREAM = 1


def label_of(seed: int, index: int) -> int:
    """The class of clip `index` of seed `seed`: each block of len(LABELS) clips holds every class
    once, in random order, so that any prefix of a store is balanced."""
    block, place = divmod(index, len(LABELS))
    order = np.random.default_rng([seed, block, _LABEL_STREAM]).permutation(len(LABELS))
    return int(order[place])
