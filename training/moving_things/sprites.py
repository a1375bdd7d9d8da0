"""The things: shapes with a texture, of unit area, centred on their centroid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.moving_things.textures import PI, Texture, paint, sample_palette

Points = NDArray[np.float32]

# No thing reaches further from its centre than this (in units of the root of its area), so that
# places and contacts can be planned before anything is drawn.
MAX_RADIUS = 1.05

# Strokes of letter-like shapes on a 2x4 lattice, none with a rotational or mirror symmetry.
_GLYPHS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 0), (0, 4), (2, 4)),  # L
    ((2, 0), (0, 0), (0, 4), (0, 2), (2, 2)),  # F
    ((0, 4), (0, 0), (2, 0), (2, 2), (0, 2)),  # P
    ((0, 0), (2, 0), (1, 4)),  # 7
    ((0, 0), (0, 4), (2, 4), (2, 2), (0, 2)),  # b
    ((2, 0), (2, 4), (0, 4), (0, 3)),  # J
    ((0, 0), (0, 2), (2, 2), (2, 0), (2, 4)),  # 4
    ((0, 4), (0, 0), (2, 0), (2, 2), (0, 2), (2, 4)),  # R
    ((2, 0), (0, 0), (0, 4), (2, 4), (2, 2), (1, 2)),  # G
)
SHAPES = ("polygon", "arrow", "glyph", "compound", "ellipse", "star")
ASYMMETRIC_SHAPES = ("arrow", "glyph", "compound")


@dataclass(frozen=True, eq=False)
class Sprite:
    """parts: closed outlines [n, 2] in units of the root of the sprite's area. accents: parts in
    the second colour, inside the first. texture: of the parts. accent: RGB of the accents.
    outline: RGB of a rim, or None. radius: the furthest point."""

    parts: tuple[Points, ...]
    accents: tuple[Points, ...]
    texture: Texture
    accent: tuple[float, float, float]
    outline: tuple[float, float, float] | None
    radius: float

    def reach(self, direction: float, angle: float) -> float:
        """How far the thing, turned by `angle`, extends towards `direction` (radians)."""
        points = np.concatenate(self.parts)
        bearing = np.arctan2(points[:, 1], points[:, 0]) + angle - direction
        along = np.hypot(points[:, 0], points[:, 1]) * np.cos(bearing)
        near = np.abs((bearing + PI) % (2 * PI) - PI) < 0.6
        return float(along[near].max()) if near.any() else 0.4


def _circle(points: int = 20) -> Points:
    angle = np.linspace(0, 2 * PI, points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def _box(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def _stroke(start: tuple[float, float], end: tuple[float, float], width: float) -> Points:
    a, b = np.array(start, np.float32), np.array(end, np.float32)
    along = (b - a) / np.hypot(*(b - a)) * (width / 2)
    across = np.array([-along[1], along[0]], np.float32)
    corners = [a - along + across, b + along + across, b + along - across, a - along - across]
    return np.array(corners, np.float32)


def _outline(shape: str, rng: np.random.Generator) -> tuple[list[Points], list[Points]]:
    """Parts and accents of a random shape, before they are brought to unit area."""
    match shape:
        case "polygon":
            corners = int(rng.integers(3, 8))
            angle = (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) * (2 * PI / corners)
            radius = rng.uniform(0.7, 1.1, corners)
            part = np.stack([np.cos(angle) * radius, np.sin(angle) * radius], 1).astype(np.float32)
            return [part], [_circle() * 0.22 + np.array([0.2, -0.1], np.float32)]
        case "ellipse":
            part = _circle() * np.array([1.0, rng.uniform(0.6, 1.0)], np.float32)
            return [part], [part * np.float32(0.45)]
        case "star":
            rays = int(rng.integers(4, 8))
            turns = np.arange(2 * rays) * (PI / rays)
            reach = np.where(np.arange(2 * rays) % 2 == 0, 1.0, rng.uniform(0.4, 0.65))
            part = np.stack([np.cos(turns) * reach, np.sin(turns) * reach], 1).astype(np.float32)
            return [part], [_circle() * 0.25]
        case "arrow":
            shaft, head = rng.uniform(0.2, 0.35), rng.uniform(0.75, 1.0)
            tip = np.array([[1.1, 0], [0.1, -head], [0.1, head]], np.float32)
            return [_box(-1.1, -shaft, 0.3, shaft), tip], [_box(-1.1, -shaft, -0.6, shaft)]
        case "glyph":
            path = _GLYPHS[int(rng.integers(len(_GLYPHS)))]
            width = rng.uniform(0.75, 1.0)
            stretch = np.array([rng.uniform(0.9, 1.2), 0.8], np.float32)
            parts = [_stroke(a, b, width) * stretch for a, b in itertools.pairwise(path)]
            return parts, parts[-1:] if rng.random() < 0.5 else []
        case "compound":
            body = _circle() * np.array([0.8, rng.uniform(0.5, 0.8)], np.float32)
            if rng.random() < 0.5:
                body = _box(-0.8, -rng.uniform(0.4, 0.7), 0.8, rng.uniform(0.4, 0.7))
            knob = _circle() * np.float32(rng.uniform(0.35, 0.5)) + np.array(
                [0.95, -0.25], np.float32
            )
            leg = _stroke((-0.5, 0.3), (-0.75, 1.1), rng.uniform(0.25, 0.4))
            return [body, knob, leg], [knob]
        case _:
            raise ValueError(f"unknown shape {shape!r}, known are {', '.join(SHAPES)}")


def _raster(parts: list[Points] | tuple[Points, ...], size: int, scale: float) -> NDArray[np.uint8]:
    mask = np.zeros((size, size), np.uint8)
    for part in parts:
        fixed = np.round((part * scale + size / 2) * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
    return mask


def sample_sprite(
    rng: np.random.Generator, avoid: NDArray[np.float32], *, asymmetric: bool = False
) -> Sprite:
    """A thing whose colours stand out from `avoid` (RGB of the background).

    asymmetric: only shapes whose turning shows at every angle.
    """
    shapes = ASYMMETRIC_SHAPES if asymmetric else SHAPES
    parts, accents = _outline(shapes[int(rng.integers(len(shapes)))], rng)
    turn = rng.uniform(0, 2 * PI)
    flip = rng.choice([-1, 1])
    matrix = np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn) * flip, np.cos(turn) * flip]], np.float32
    )
    moments = cv2.moments(_raster(parts, 96, 10), binaryImage=True)
    middle = np.array([moments["m10"], moments["m01"]], np.float32)
    centre = middle / moments["m00"] / 10 - 4.8
    unit = float(np.sqrt(moments["m00"])) / 10
    radius = max(float(np.hypot(*(p - centre).T).max()) for p in parts)
    unit = max(unit, radius / MAX_RADIUS)
    placed = [((p - centre) / unit @ matrix).astype(np.float32) for p in parts]
    marks = [((p - centre) / unit @ matrix).astype(np.float32) for p in accents]

    # The best of a few draws: a sure bound on the contrast would make all things look alike.
    draws = [sample_palette(rng, 2, 25) for _ in range(5)]
    distances = [float(np.abs(d.mean(0) - avoid).max(axis=-1).min()) for d in draws]
    far = [d for d, distance in zip(draws, distances, strict=True) if distance > 70]
    palette = far[0] if far else draws[int(np.argmax(distances))]
    kinds = ("plain", "plain", "gradient", "noise", "stripes", "checkers", "blobs")
    texture = Texture(
        kinds[int(rng.integers(len(kinds)))], palette, int(rng.integers(2**31)), rng.uniform(0, 20)
    )
    accent = np.where(palette.mean() > 128, palette[0] * 0.35, 255 - (255 - palette[0]) * 0.35)
    rim = palette[1] * 0.4 if rng.random() < 0.5 else None
    return Sprite(
        tuple(placed),
        tuple(marks) if asymmetric or rng.random() < 0.6 else (),
        texture,
        (float(accent[0]), float(accent[1]), float(accent[2])),
        None if rim is None else (float(rim[0]), float(rim[1]), float(rim[2])),
        radius / unit,
    )


@dataclass(frozen=True, eq=False)
class Raster:
    """A drawn sprite: colour uint8 [s, s, 3], defined outside the shape too so that resampling
    has no fringe; alpha uint8 [s, s]; scale: pixels per unit of the sprite."""

    colour: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    scale: float

    def halved(self) -> Raster:
        side = (self.alpha.shape[0] + 1) // 2
        small = cv2.resize(self.colour, (side, side), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.alpha, (side, side), interpolation=cv2.INTER_AREA)
        ratio = side / self.alpha.shape[0]
        return Raster(np.asarray(small), np.asarray(alpha), self.scale * ratio)


def draw(sprite: Sprite, scale: float) -> Raster:
    """Draw at `scale` pixels per unit of the sprite."""
    side = int(np.ceil(2 * sprite.radius * scale)) + 6
    colour = paint(sprite.texture, side, side)
    alpha = _raster(sprite.parts, side, scale)
    if sprite.accents:
        for part in sprite.accents:
            fixed = np.round((part * scale + side / 2) * 16).astype(np.int32)
            cv2.fillPoly(colour, [fixed], sprite.accent, lineType=cv2.LINE_AA, shift=4)
    if sprite.outline is not None:
        rim = max(1, round(scale * 0.06))
        inner = cv2.erode(alpha, np.ones((2 * rim + 1, 2 * rim + 1), np.uint8))
        colour[inner < 128] = np.array(sprite.outline, np.uint8)
    return Raster(colour, alpha, scale)
