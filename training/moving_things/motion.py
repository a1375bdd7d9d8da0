"""What each label means: the tracks of the things that act.

Coordinates are in units of the frame's short side, origin in the centre of the frame, x to the
right and y downwards; angles in radians, clockwise as seen on the screen. Everything that acts
stays within the central square of the frame. Amounts are our choice: large against the camera's
shake and spread over most of the clip, so that 16 frames of it show what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.moving_things.sprites import Sprite
from training.moving_things.textures import PI

Curve = NDArray[np.float32]

EDGE = 0.49


@dataclass(frozen=True, eq=False)
class Track:
    """Where a thing is; every curve is float32 [T].

    x, y: its centre. size: root of its area. angle. alpha: its opacity in 0..1. reveal: the share
    of its extent, along `reveal_direction` (radians, in the thing's own frame), that is uncovered.
    """

    x: Curve
    y: Curve
    size: Curve
    angle: Curve
    alpha: Curve
    reveal: Curve
    reveal_direction: float = 0.0

    def acting(self) -> NDArray[np.bool_]:
        """bool [T]: does the thing change between this frame and a neighbouring one?

        A thing that appears or disappears also counts as acting for an eighth of the clip before
        and after it changes: the evidence of a change is in the frames on both sides of it.
        """
        reach = float(self.size.max())
        moved = np.hypot(np.diff(self.x), np.diff(self.y))
        moved += np.abs(np.diff(self.size)) / 2 + np.abs(np.diff(self.angle)) * reach / 2
        shown = np.abs(np.diff(self.alpha)) + np.abs(np.diff(self.reveal)) > 0.004
        margin = max(1, len(self.x) // 8)
        return _widened(moved > 0.001, 1) | _widened(shown, margin)


def _widened(steps: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    """bool [T - 1] between frames -> bool [T], reaching `margin` frames to both sides."""
    frames = len(steps) + 1
    near = np.zeros(frames, np.bool_)
    for step in np.flatnonzero(steps):
        near[max(0, step + 1 - margin) : step + 1 + margin] = True
    return near


def still(x: float, y: float, size: float, angle: float, frames: int) -> Track:
    def curve(value: float) -> Curve:
        return np.full(frames, value, np.float32)

    return Track(curve(x), curve(y), curve(size), curve(angle), curve(1), curve(1))


def _time(frames: int) -> Curve:
    return np.linspace(0, 1, frames, dtype=np.float32)


def _smooth_noise(rng: np.random.Generator, frames: int, waves: float) -> Curve:
    """A smooth curve of about unit amplitude with up to `waves` waves over the clip."""
    u = _time(frames)
    total = np.zeros(frames, np.float32)
    for _ in range(3):
        wave = np.sin(2 * PI * rng.uniform(0.3, 1.0) * waves * u + rng.uniform(0, 2 * PI))
        total += wave.astype(np.float32)
    return total / np.float32(1.7)


def _place(rng: np.random.Generator, sprite: Sprite, size: float) -> tuple[float, float]:
    room = EDGE - sprite.radius * size
    return rng.uniform(-room, room), rng.uniform(-room, room)


def _start(rng: np.random.Generator, room: float, travel: float) -> float:
    """Where a path of signed length `travel` may begin to stay within +-room."""
    low, high = max(-room, -room - travel), min(room, room - travel)
    return rng.uniform(low, high) if high > low else (low + high) / 2


def _size(rng: np.random.Generator) -> float:
    return rng.uniform(0.13, 0.23)


def _tilt(rng: np.random.Generator, frames: int) -> Curve:
    """Things sway a little while they move."""
    sway = rng.uniform(0, 0.12) * _smooth_noise(rng, frames, 1.5)
    return (rng.uniform(0, 2 * PI) + sway).astype(np.float32)


def _track(x: Curve, y: Curve, size: Curve | float, angle: Curve | float) -> Track:
    frames = len(x)
    ones = np.ones(frames, np.float32)
    return Track(
        x.astype(np.float32),
        y.astype(np.float32),
        (ones * size).astype(np.float32),
        (ones * angle).astype(np.float32),
        ones,
        ones,
    )


def _travel(direction: float) -> Callable[..., list[Track]]:
    def tracks(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
        """A steady motion; the heading is off the axis by up to 15 degrees."""
        size = _size(rng)
        room = EDGE - sprites[0].radius * size
        length = rng.uniform(0.32, max(0.34, min(0.62, 1.9 * room)))
        heading = direction + rng.uniform(-1, 1) * PI / 12
        dx, dy = length * np.cos(heading), length * np.sin(heading)
        u = _time(frames)
        ease = rng.uniform(-0.1, 0.1)
        s = u + ease * np.sin(2 * PI * u) / (2 * PI)
        wobble = rng.uniform(0, 0.006)
        x = _start(rng, room, dx) + dx * s + wobble * _smooth_noise(rng, frames, 3)
        y = _start(rng, room, dy) + dy * s + wobble * _smooth_noise(rng, frames, 3)
        return [_track(x, y, size, _tilt(rng, frames))]

    return tracks


def _approach(
    rng: np.random.Generator, sprites: list[Sprite], frames: int, sign: int = 1
) -> list[Track]:
    """The size grows by a constant factor per second, as of a thing that comes nearer."""
    factor = rng.uniform(1.9, 2.8)
    middle = rng.uniform(0.15, 0.19)
    size = middle * factor ** ((_time(frames) - 0.5) * sign)
    x, y = _place(rng, sprites[0], float(size.max()))
    drift = rng.uniform(0, 0.05)
    heading = rng.uniform(0, 2 * PI)
    u = _time(frames) - 0.5
    return [
        _track(
            x + drift * np.cos(heading) * u, y + drift * np.sin(heading) * u, size,
            _tilt(rng, frames),
        )
    ]  # fmt: skip


def _recede(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
    return _approach(rng, sprites, frames, -1)


def _turn(sign: int) -> Callable[..., list[Track]]:
    def tracks(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
        size = rng.uniform(0.16, 0.25)
        x, y = _place(rng, sprites[0], size)
        u = _time(frames)
        turn = sign * rng.uniform(1 / 4, 5 / 6) * 2 * PI
        angle = rng.uniform(0, 2 * PI) + turn * u
        drift = rng.uniform(0, 0.015)
        return [
            _track(
                x + drift * _smooth_noise(rng, frames, 1),
                y + drift * _smooth_noise(rng, frames, 1),
                size,
                angle.astype(np.float32),
            )
        ]

    return tracks


def _appear(
    rng: np.random.Generator, sprites: list[Sprite], frames: int, backwards: bool = False
) -> list[Track]:
    """A thing fades in, is uncovered, or is there at once, and stays where it is."""
    size = _size(rng)
    x, y = _place(rng, sprites[0], size)
    track = still(x, y, size, rng.uniform(0, 2 * PI), frames)
    u = _time(frames)
    kind = rng.choice(["fade", "uncover", "pop"])
    length = 0.0 if kind == "pop" else rng.uniform(0.25, 0.65)
    begin = rng.uniform(0.15, 0.85 - length)
    shown = np.clip((u - begin) / max(length, 1e-6), 0, 1).astype(np.float32)
    if backwards:
        shown = shown[::-1].copy()
    alpha, reveal = (track.alpha, shown) if kind == "uncover" else (shown, track.reveal)
    return [Track(track.x, track.y, track.size, track.angle, alpha, reveal, rng.uniform(0, 2 * PI))]


def _disappear(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
    return _appear(rng, sprites, frames, backwards=True)


def _meet(
    rng: np.random.Generator, sprites: list[Sprite], frames: int, backwards: bool = False
) -> list[Track]:
    """Two things come towards each other until they touch, and stay together."""
    sizes = [rng.uniform(0.12, 0.18) for _ in sprites]
    angles = [rng.uniform(0, 2 * PI) for _ in sprites]
    heading = rng.uniform(0, 2 * PI)
    reach = sizes[0] * sprites[0].reach(heading, angles[0])
    reach += sizes[1] * sprites[1].reach(heading + PI, angles[1])
    touching = 0.93 * reach
    way = rng.uniform(0.28, 0.42)
    u = _time(frames)
    rest = rng.uniform(0.1, 0.3)
    s = np.clip(u / (1 - rest), 0, 1)
    if backwards:
        s = s[::-1]
    gap = touching + way * (1 - s)
    share = rng.uniform(0.35, 0.65)
    # The centre of the pair is placed so that both ends of the way stay inside the square.
    ends = [
        sign * part * (touching + way) * np.array([np.cos(heading), np.sin(heading)])
        for sign, part in ((-1, share), (1, 1 - share))
    ]
    low = [
        max(-EDGE + sp.radius * sz - e[a] for sp, sz, e in zip(sprites, sizes, ends, strict=True))
        for a in (0, 1)
    ]
    high = [
        min(EDGE - sp.radius * sz - e[a] for sp, sz, e in zip(sprites, sizes, ends, strict=True))
        for a in (0, 1)
    ]
    cx, cy = (
        rng.uniform(lo, hi) if hi > lo else (lo + hi) / 2 for lo, hi in zip(low, high, strict=True)
    )
    return [
        _track(
            cx + sign * part * gap * np.cos(heading),
            cy + sign * part * gap * np.sin(heading),
            size,
            angle,
        )
        for sign, part, size, angle in zip((-1, 1), (share, 1 - share), sizes, angles, strict=True)
    ]


def _part(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
    return _meet(rng, sprites, frames, backwards=True)


def _pass_behind(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
    """The first sprite crosses behind the second, which stands still and is drawn over it."""
    cover_size = rng.uniform(0.23, 0.29)
    size = rng.uniform(0.11, 0.15)
    heading = rng.uniform(0, 2 * PI)
    cover, mover = sprites[1], sprites[0]
    angle = rng.uniform(0, 2 * PI)
    clear = size * mover.radius + 0.02
    before = cover_size * cover.reach(heading + PI, angle) + clear + rng.uniform(0, 0.03)
    after = cover_size * cover.reach(heading, angle) + clear + rng.uniform(0, 0.03)
    c, s = np.cos(heading), np.sin(heading)
    room = EDGE - size * mover.radius
    cover_room = EDGE - cover_size * cover.radius
    centre = []
    for along in (c, s):
        low = max(-cover_room, *(-room - end * along for end in (-before, after)))
        high = min(cover_room, *(room - end * along for end in (-before, after)))
        centre.append(rng.uniform(low, high) if high > low else (low + high) / 2)
    way = -before + (before + after) * _time(frames)
    shift = rng.uniform(-0.03, 0.03)
    x = centre[0] + way * c - shift * s
    y = centre[1] + way * s + shift * c
    return [
        _track(x, y, size, _tilt(rng, frames)),
        still(centre[0], centre[1], cover_size, angle, frames),
    ]


def _shake(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
    """Small quick irregular to and fro about a place, along one direction mostly."""
    size = _size(rng)
    amplitude = rng.uniform(0.025, 0.05)
    room = EDGE - sprites[0].radius * size - amplitude
    heading = rng.uniform(0, 2 * PI)
    # A period of 2.5 to 5 frames, not steady, so that no sampling of frames makes it stand still.
    step = 2 * PI / rng.uniform(2.5, 5, frames)
    along = np.sin(np.cumsum(step) + rng.uniform(0, 2 * PI)) * amplitude
    across = rng.uniform(-1, 1, frames) * amplitude * 0.3
    angle = rng.uniform(0, 2 * PI) + np.sin(np.cumsum(step)) * rng.uniform(0, 0.2)
    x = rng.uniform(-room, room) + along * np.cos(heading) - across * np.sin(heading)
    y = rng.uniform(-room, room) + along * np.sin(heading) + across * np.cos(heading)
    return [_track(x, y, size, angle.astype(np.float32))]


def _bounce(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
    """Parabolic arcs onto a floor, each lower than the one before."""
    size = rng.uniform(0.12, 0.19)
    room = EDGE - sprites[0].radius * size
    height = rng.uniform(0.32, max(0.34, min(0.55, 1.9 * room)))
    damping = rng.uniform(0.6, 0.85)  # of the height, from arc to arc
    half = rng.uniform(0.14, 0.19)  # of the clip, from the first top to the floor
    # The clip begins somewhere on the first arc: going up or coming down.
    u = _time(frames) + rng.uniform(-0.12, 0.04)
    altitude = height * (1 - (u / half) ** 2)
    begin, top, width = half, height, half
    while begin < 1:
        top *= damping
        width = half * np.sqrt(top / height)
        arc = top * (1 - ((u - begin - width) / width) ** 2)
        altitude = np.where(u >= begin, arc, altitude)
        begin += 2 * width
    floor = rng.uniform(-room + height, room) if 2 * room > height else room
    drift = rng.uniform(-0.3, 0.3)
    x = _start(rng, room, drift) + drift * _time(frames)
    angle = rng.uniform(0, 2 * PI) + rng.uniform(-1, 1) * _time(frames)
    return [_track(x, (floor - altitude).astype(np.float32), size, angle)]


def _fall(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
    """From rest, faster and faster, tumbling a little, until it lands and stays."""
    size = rng.uniform(0.12, 0.19)
    room = EDGE - sprites[0].radius * size
    height = rng.uniform(0.4, max(0.42, min(0.75, 1.95 * room)))
    u = _time(frames)
    begin, end = rng.uniform(0.05, 0.3), rng.uniform(0.75, 0.92)
    s = np.clip((u - begin) / (end - begin), 0, 1)
    drop = s**2.2
    y = _start(rng, room, height) + height * drop
    drift = rng.uniform(-0.06, 0.06)
    x = _start(rng, room, drift) + drift * s
    angle = rng.uniform(0, 2 * PI) + rng.uniform(-0.9, 0.9) * drop
    return [_track(x, y, size, angle.astype(np.float32))]


def _rest(rng: np.random.Generator, sprites: list[Sprite], frames: int) -> list[Track]:
    size = _size(rng)
    x, y = _place(rng, sprites[0], size)
    return [still(x, y, size, rng.uniform(0, 2 * PI), frames)]


TRACKS: dict[str, Callable[..., list[Track]]] = {
    "moving left": _travel(PI),
    "moving right": _travel(0.0),
    "moving up": _travel(-PI / 2),
    "moving down": _travel(PI / 2),
    "approaching": _approach,
    "receding": _recede,
    "turning clockwise": _turn(1),
    "turning counter-clockwise": _turn(-1),
    "appearing": _appear,
    "disappearing": _disappear,
    "two things meeting": _meet,
    "two things parting": _part,
    "one thing passing behind another": _pass_behind,
    "shaking": _shake,
    "bouncing": _bounce,
    "falling": _fall,
    "nothing moves": _rest,
    "only the camera moves": _rest,
}
TWO_THINGS = ("two things meeting", "two things parting", "one thing passing behind another")
