"""A scene: everything a clip shows, as curves over time, independent of the resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.moving_things.labels import LABELS
from training.moving_things.motion import TRACKS, TWO_THINGS, Curve, Track, still
from training.moving_things.sprites import Sprite, sample_sprite
from training.moving_things.textures import PI, Texture, sample_palette

# (width, height) ratios of phones, cameras and the web, both orientations.
ASPECTS = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 4 / 5, 3 / 4, 9 / 16)


@dataclass(frozen=True, eq=False)
class Thing:
    """actor: the thing takes part in the event, so that it may count as moving."""

    sprite: Sprite
    track: Track
    actor: bool
    shadow: float  # opacity of its shadow, 0 for none


@dataclass(frozen=True, eq=False)
class Camera:
    """x, y: the point of the scene in the centre of the picture, in units of the short side.
    zoom: magnification. angle: of the scene on the screen, clockwise. All float32 [T]."""

    x: Curve
    y: Curve
    zoom: Curve
    angle: Curve


@dataclass(frozen=True, eq=False)
class Scene:
    """things: from the back to the front. gain: brightness by frame [T]. vignette: a slow change
    of light over the picture. shadow: where shadows fall, [2] in units of a thing's size. noise:
    standard deviation of the sensor's noise in grey levels, luminance and colour."""

    label: str
    frames: int
    fps: float
    aspect: float
    background: Texture
    things: tuple[Thing, ...]
    camera: Camera
    gain: Curve
    vignette: float
    shadow: NDArray[np.float32]
    noise: float
    seed: int

    def size(self, short_side: int) -> tuple[int, int]:
        """(height, width) in pixels, both even as 4:2:0 video wants."""
        height = short_side / min(1.0, self.aspect)
        width = short_side * max(1.0, self.aspect)
        return 2 * round(height / 2), 2 * round(width / 2)


def _shake(rng: np.random.Generator, frames: int, amplitude: float) -> Curve:
    """A hand that holds a camera: slow drift and a little tremor, [T]."""
    u = np.linspace(0, 1, frames)
    slow = sum(np.sin(2 * PI * (rng.uniform(0.2, 2) * u + rng.random())) for _ in range(2))
    tremor = rng.normal(0, 1, frames)
    curve = amplitude * (0.7 * slow + 0.25 * tremor)
    return np.asarray(curve, np.float32)


def _camera(rng: np.random.Generator, frames: int, moves: bool) -> Camera:
    u = np.linspace(-0.5, 0.5, frames)
    amplitude = rng.uniform(0.001, 0.008) if rng.random() < 0.75 else 0.0
    x, y = _shake(rng, frames, amplitude), _shake(rng, frames, amplitude)
    zoom = np.exp(_shake(rng, frames, amplitude * 0.4))
    angle = _shake(rng, frames, amplitude * 0.5)
    if moves:
        # At least one of the three is large; the others may join in.
        strength = rng.uniform(0, 0.35, 3) * (rng.random(3) < 0.35)
        strength[rng.integers(3)] = rng.uniform(0.6, 1.0)
        heading = rng.uniform(0, 2 * PI)
        x = x + strength[0] * 0.4 * np.cos(heading) * u
        y = y + strength[0] * 0.4 * np.sin(heading) * u
        zoom = zoom * np.exp(strength[1] * rng.choice([-1, 1]) * 0.55 * u)
        angle = angle + strength[2] * rng.choice([-1, 1]) * 0.75 * u
    return Camera(*(np.asarray(c, np.float32) for c in (x, y, zoom, angle)))


def _clear(x: float, y: float, reach: float, tracks: list[Track], crossing: bool) -> bool:
    """Is a place away from the acting things (if `crossing`, only from their ends)?"""
    for t in tracks:
        picks = [0, -1] if crossing else range(0, len(t.x), 3)
        for i in picks:
            if np.hypot(t.x[i] - x, t.y[i] - y) < reach + 0.6 * t.size[i] + 0.02:
                return False
        if np.hypot(t.x[-1] - x, t.y[-1] - y) < reach + 0.6 * t.size[-1] + 0.02:
            return False
    return True


def _bystanders(
    rng: np.random.Generator,
    actors: list[Track],
    frames: int,
    aspect: float,
    avoid: NDArray[np.float32],
    crossing: bool,
) -> list[Thing]:
    """Things of the same kind that do nothing, in every class: that there are two things close
    together, a large one, or one near an edge must say nothing."""
    wide, high = (0.5 * aspect, 0.5) if aspect >= 1 else (0.5, 0.5 / aspect)
    found: list[Thing] = []
    placed: list[Track] = []
    for _ in range(int(rng.integers(1, 5))):
        size = rng.uniform(0.22, 0.29) if rng.random() < 0.25 else rng.uniform(0.1, 0.24)
        through = crossing and rng.random() < 0.4
        for _attempt in range(12):
            x, y = rng.uniform(-wide, wide), rng.uniform(-high, high)
            if placed and rng.random() < 0.2:
                other = placed[int(rng.integers(len(placed)))]
                heading, gap = rng.uniform(0, 2 * PI), 0.5 * (size + float(other.size[0]))
                x = float(other.x[0]) + gap * np.cos(heading)
                y = float(other.y[0]) + gap * np.sin(heading)
            if _clear(x, y, 0.6 * size, actors, through):
                track = still(x, y, size, rng.uniform(0, 2 * PI), frames)
                placed.append(track)
                found.append(Thing(sample_sprite(rng, avoid), track, False, 0.0))
                break
    return found


def sample_scene(
    label: str,
    rng: np.random.Generator,
    *,
    frames: int | None = None,
    fps: float | None = None,
    aspect: float | None = None,
) -> Scene:
    """A random scene of a class; whatever is not given is drawn (20-36 frames, 10-15 fps).

    Raises ValueError for an unknown label.
    """
    if label not in LABELS:
        raise ValueError(f"unknown label {label!r}; the labels are: {', '.join(LABELS)}")
    drawn = int(rng.integers(20, 37)), float(rng.uniform(10, 15)), float(rng.choice(ASPECTS))
    frames = drawn[0] if frames is None else frames
    fps = round(drawn[1], 1) if fps is None else fps
    aspect = drawn[2] if aspect is None else aspect

    kinds = ("gradient", "noise", "noise", "stripes", "checkers", "blobs", "room", "room")
    palette = sample_palette(rng, int(rng.integers(2, 4)), rng.uniform(8, 40))
    background = Texture(
        kinds[int(rng.integers(len(kinds)))],
        palette,
        int(rng.integers(2**31)),
        rng.uniform(2, 25),
    )
    count = 2 if label in TWO_THINGS else 1
    turning = label.startswith("turning")
    sprites = [sample_sprite(rng, palette, asymmetric=turning) for _ in range(count)]
    tracks = TRACKS[label](rng, sprites, frames)
    opacity = rng.uniform(0.2, 0.5) if rng.random() < 0.5 else 0.0

    crossing = label.startswith("moving")
    bystanders = _bystanders(rng, tracks, frames, aspect, palette, crossing)
    # The actors are drawn last; of a pass the mover comes first, so that it is covered.
    things = [Thing(b.sprite, b.track, False, opacity) for b in bystanders]
    things += [Thing(s, t, True, opacity) for s, t in zip(sprites, tracks, strict=True)]

    drift = rng.uniform(0, 0.1) if rng.random() < 0.6 else 0.0
    gain = rng.uniform(0.75, 1.15) * (1 + drift * _shake(rng, frames, 0.7))
    heading = rng.uniform(0, 2 * PI)
    return Scene(
        label=label,
        frames=frames,
        fps=fps,
        aspect=aspect,
        background=background,
        things=tuple(things),
        camera=_camera(rng, frames, label == "only the camera moves"),
        gain=np.asarray(gain, np.float32),
        vignette=rng.uniform(0, 0.35),
        shadow=np.array([np.cos(heading), np.sin(heading)], np.float32)
        * np.float32(rng.uniform(0.05, 0.15)),
        noise=rng.uniform(0, 7) if rng.random() < 0.8 else 0.0,
        seed=int(rng.integers(2**31)),
    )
