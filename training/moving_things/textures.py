"""Procedural textures: uint8 RGB pictures of any size from a kind, a palette and a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

PI = float(np.pi)


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture that does not depend on the resolution.

    kind: a key of `FIELDS`. palette: float32 [n, 3], RGB 0-255, n >= 2. seed: of the details.
    grain: strength of fine value noise on top, in grey levels.
    """

    kind: str
    palette: NDArray[np.float32]
    seed: int
    grain: float = 0.0


def value_noise(rng: np.random.Generator, height: int, width: int, cells: float) -> Field:
    """Smooth noise in 0..1, [height, width], with about `cells` cells along the short side."""
    short = min(height, width)
    rows = max(2, round(cells * height / short) + 1)
    columns = max(2, round(cells * width / short) + 1)
    grid = rng.random((rows, columns), dtype=np.float32)
    noise = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(noise, np.float32)


def _clipped(field: Field) -> Field:
    return np.clip(field, 0, 1).astype(np.float32)


def _coordinates(height: int, width: int) -> tuple[Field, Field]:
    """x [1, width] and y [height, 1] in units of the short side, zero in the centre."""
    short = min(height, width)
    x = np.asarray((np.arange(width, dtype=np.float32) - width / 2) / short, np.float32)
    y = np.asarray((np.arange(height, dtype=np.float32) - height / 2) / short, np.float32)
    return x[None, :], y[:, None]


def _rotated(rng: np.random.Generator, height: int, width: int) -> Field:
    x, y = _coordinates(height, width)
    angle = rng.uniform(0, 2 * PI)
    return np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y


def _plain(rng: np.random.Generator, height: int, width: int) -> Field:
    return 0.1 * value_noise(rng, height, width, 2)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Field:
    return np.float32(rng.uniform(0.7, 1.1)) * _rotated(rng, height, width) + np.float32(0.5)


def _noise(rng: np.random.Generator, height: int, width: int) -> Field:
    cells = rng.uniform(2, 6)
    field = 0.55 * value_noise(rng, height, width, cells)
    field += 0.3 * value_noise(rng, height, width, cells * 2.3)
    field += 0.25 * value_noise(rng, height, width, cells * 5.1)
    return (field - np.float32(0.55)) * np.float32(1.8) + np.float32(0.5)


def _stripes(rng: np.random.Generator, height: int, width: int) -> Field:
    phase = _rotated(rng, height, width) * np.float32(rng.uniform(3, 9) * 2 * PI)
    phase = phase + np.float32(rng.uniform(0, 2 * PI))
    return _clipped(np.sin(phase) * np.float32(rng.uniform(0.6, 3)) + 0.5)


def _checkers(rng: np.random.Generator, height: int, width: int) -> Field:
    x, y = _coordinates(height, width)
    angle, cells = rng.uniform(0, PI / 2), rng.uniform(2.5, 7) * PI
    c, s = np.float32(np.cos(angle) * cells), np.float32(np.sin(angle) * cells)
    product = np.sin(c * x + s * y) * np.sin(c * y - s * x)
    return _clipped(product * np.float32(rng.uniform(2, 9)) + 0.5)


def _blobs(rng: np.random.Generator, height: int, width: int) -> Field:
    field = value_noise(rng, height, width, rng.uniform(4, 10))
    return _clipped((field - 0.5) * np.float32(rng.uniform(4, 12)) + 0.5)


def _room(rng: np.random.Generator, height: int, width: int) -> Field:
    """A wall above a floor: brightness jumps at a horizon, the floor lightens towards it."""
    _, y = _coordinates(height, width)
    horizon = np.float32(rng.uniform(-0.15, 0.4))
    wall = 0.2 * value_noise(rng, height, width, rng.uniform(2, 12)) + 0.1
    floor = np.float32(rng.uniform(0.6, 0.8)) + 0.2 * np.sin(
        value_noise(rng, height, width, rng.uniform(2, 4)) * np.float32(rng.uniform(4, 20))
    )
    return np.where(y < horizon, wall, floor).astype(np.float32)


FIELDS: dict[str, Callable[[np.random.Generator, int, int], Field]] = {
    "plain": _plain,
    "gradient": _gradient,
    "noise": _noise,
    "stripes": _stripes,
    "checkers": _checkers,
    "blobs": _blobs,
    "room": _room,
}


def paint(texture: Texture, height: int, width: int) -> Image:
    """uint8 [height, width, 3]."""
    rng = np.random.default_rng(texture.seed)
    field = FIELDS[texture.kind](rng, height, width)
    # A table of 256 colours makes the palette one look-up per pixel.
    stops = np.linspace(0, 255, len(texture.palette))
    ramp = np.arange(256)
    table = np.stack([np.interp(ramp, stops, texture.palette[:, c]) for c in range(3)], axis=1)
    level = cv2.convertScaleAbs(np.clip(field, 0, 1), alpha=255.0)
    image = cv2.LUT(cv2.merge([level, level, level]), table.astype(np.uint8)[None])
    if texture.grain > 0:
        cells = rng.uniform(12, 40)
        grain = cv2.convertScaleAbs(value_noise(rng, height, width, cells) + 0.2, alpha=255 / 1.4)
        grey = cv2.merge([grain, grain, grain])
        scale = texture.grain / 64
        image = cv2.addWeighted(image, 1.0, grey, scale, -128 * scale)
    return np.asarray(image, np.uint8)


def sample_palette(rng: np.random.Generator, colours: int, spread: float) -> NDArray[np.float32]:
    """Colours around a random one, `spread` grey levels apart (standard deviation)."""
    base = rng.uniform(30, 225, size=3)
    # Real pictures are mostly dull: pull half of the palettes towards grey.
    if rng.random() < 0.5:
        base = base.mean() + 0.35 * (base - base.mean())
    offsets = rng.normal(0, spread, size=(colours, 1)) + rng.normal(0, spread / 2, (colours, 3))
    return np.clip(base + offsets, 5, 250).astype(np.float32)
