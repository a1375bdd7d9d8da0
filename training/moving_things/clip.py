"""One clip of a seed: compressed video, label and mask are a pure function of (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.moving_things.encode import encode
from training.moving_things.labels import LABELS, label_of
from training.moving_things.render import mask_grid, render
from training.moving_things.scene import sample_scene

# Raise this whenever the same (seed, index) would give other pixels, labels or masks: a store of
# another version is refused.
RENDERER_VERSION = 1

SHORT_SIDES = (128, 144, 160, 176)


@dataclass(frozen=True, eq=False)
class RenderedClip:
    """video: MP4 bytes. label: class index. mask: bool [T, 32, 32] over the central square.
    frames: T."""

    video: bytes
    label: int
    mask: NDArray[np.bool_]
    frames: int


def render_clip(seed: int, index: int) -> RenderedClip:
    """Clip `index` of `seed`, as a training set has it: short side 128-176, 20-36 frames."""
    label = label_of(seed, index)
    rng = np.random.default_rng([seed, index])
    scene = sample_scene(LABELS[label], rng)
    rendered = render(scene, int(rng.choice(SHORT_SIDES)))
    video = encode(rendered.frames, scene.fps, crf=int(rng.integers(18, 35)))
    return RenderedClip(video, label, mask_grid(rendered.mask), scene.frames)
