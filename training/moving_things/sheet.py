"""A contact sheet for people: one row of frames per label, what moves outlined."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.moving_things.encode import decode, encode
from training.moving_things.render import mask_grid, render
from training.moving_things.scene import sample_scene

COLUMNS = 8


def contact_sheet(
    labels: Sequence[str], seed: int, side: int = 128, outline: bool = True
) -> NDArray[np.uint8]:
    """uint8 RGB [rows, columns, 3]: 8 evenly spaced frames of one compressed clip per label, each
    cropped to the central square and `side` pixels wide."""
    rows = []
    for number, label in enumerate(labels):
        rng = np.random.default_rng([seed, number])
        scene = sample_scene(label, rng)
        rendered = render(scene, 160)
        frames = decode(encode(rendered.frames, scene.fps, crf=int(rng.integers(18, 35))))
        grid = mask_grid(rendered.mask)
        picks = np.round(np.linspace(0, scene.frames - 1, COLUMNS)).astype(int)
        row = []
        for t in picks:
            height, width = frames[t].shape[:2]
            short = min(height, width)
            top, left = (height - short) // 2, (width - short) // 2
            square = frames[t, top : top + short, left : left + short]
            tile = np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))
            if outline and grid[t].any():
                cells = cv2.resize(
                    grid[t].astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST
                )
                contours, _ = cv2.findContours(cells, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(tile, contours, -1, (255, 40, 40), 1)
            row.append(cv2.copyMakeBorder(tile, 1, 1, 1, 1, cv2.BORDER_CONSTANT))
        strip = np.concatenate(row, axis=1)
        title = np.full((14, strip.shape[1], 3), 255, np.uint8)
        cv2.putText(title, label, (4, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(np.concatenate([title, strip]))
    return np.concatenate(rows).astype(np.uint8)
