"""How cut-outs move: the built-in model's events once more, written apart from its renderer.

Lengths are in units of the picture's shorter side, from its middle, x to the right and y down;
angles in radians, clockwise as seen on the screen. Whatever acts stays in the square in the middle.
All amounts are our choice: what a person sees at a glance.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]  # [T]

PI = float(np.pi)
_EDGE = 0.48


@dataclass(frozen=True, eq=False)
class Way:
    """Where one cut-out is: its middle, its radius, its angle and its opacity, each [T]."""

    x: Curve
    y: Curve
    radius: Curve
    angle: Curve
    alpha: Curve


def _way(t: Curve, x: Curve | float, y: Curve | float, radius: Curve | float) -> Way:
    one = np.ones_like(t)
    return Way(one * x, one * y, one * radius, np.zeros_like(t), one.copy())


def _radius(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.08, 0.16))


def _still(rng: np.random.Generator, t: Curve) -> Way:
    radius = _radius(rng)
    x, y = rng.uniform(-1, 1, 2) * (_EDGE - radius)
    return _way(t, x, y, radius)


def _straight(dx: int, dy: int) -> Callable[[np.random.Generator, Curve], list[Way]]:
    def ways(rng: np.random.Generator, t: Curve) -> list[Way]:
        radius = _radius(rng)
        room = _EDGE - radius
        half = rng.uniform(0.2, room)
        aside = rng.uniform(-1, 1) * room
        middle = rng.uniform(-1, 1) * (room - half)
        along = middle + half * (2 * t - 1)
        return [
            _way(t, dx * along + abs(dy) * aside, dy * along + abs(dx) * aside, radius),
        ]

    return ways


def _approaching(rng: np.random.Generator, t: Curve) -> list[Way]:
    smallest = rng.uniform(0.05, 0.08)
    radius = smallest * rng.uniform(2.2, 3.5) ** t
    x, y = rng.uniform(-1, 1, 2) * (_EDGE - radius.max())
    return [_way(t, x, y, radius)]


def _backwards(
    ways: Callable[[np.random.Generator, Curve], list[Way]],
) -> Callable[[np.random.Generator, Curve], list[Way]]:
    return lambda rng, t: ways(rng, t[::-1])


def _turning(sign: int) -> Callable[[np.random.Generator, Curve], list[Way]]:
    def ways(rng: np.random.Generator, t: Curve) -> list[Way]:
        turn = sign * rng.uniform(0.3, 0.8) * 2 * PI
        return [replace(_still(rng, t), angle=rng.uniform(0, 2 * PI) + turn * t)]

    return ways


def _appearing(rng: np.random.Generator, t: Curve) -> list[Way]:
    begin, length = rng.uniform(0.25, 0.5), rng.choice([0.01, 0.25])
    return [replace(_still(rng, t), alpha=np.clip((t - begin) / length, 0, 1))]


def _meeting(rng: np.random.Generator, t: Curve) -> list[Way]:
    first, second = rng.uniform(0.07, 0.11, 2)
    heading = rng.uniform(0, 2 * PI)
    c, s = np.cos(heading), np.sin(heading)
    # From the ends of a line through the middle until they touch, then they stay.
    progress = np.clip(t / 0.8, 0, 1)
    far, near = 2 * _EDGE - first - second - 0.05, first + second
    half = 0.5 * (far + (near - far) * progress)
    return [_way(t, -c * half, -s * half, first), _way(t, c * half, s * half, second)]


def _behind(rng: np.random.Generator, t: Curve) -> list[Way]:
    """The first goes behind the second, which stands still in front of it."""
    small, large = rng.uniform(0.06, 0.09), rng.uniform(0.14, 0.18)
    heading = rng.uniform(0, 2 * PI)
    along = (2 * t - 1) * (_EDGE - small)
    mover = _way(t, along * np.cos(heading), along * np.sin(heading), small)
    return [mover, _way(t, 0.0, 0.0, large)]


def _shaking(rng: np.random.Generator, t: Curve) -> list[Way]:
    way = _still(rng, t)
    steps = rng.uniform(-1, 1, (2, len(t))) * rng.uniform(0.02, 0.04)
    return [replace(way, x=way.x + steps[0], y=way.y + steps[1])]


def _bouncing(rng: np.random.Generator, t: Curve) -> list[Way]:
    radius = rng.uniform(0.07, 0.12)
    floor = _EDGE - radius - rng.uniform(0, 0.1)
    height = rng.uniform(0.45, 0.6)
    hops = rng.uniform(2, 3)
    # |sin| drawn as parabolas: each arc lasts as long as the last and is lower.
    phase = hops * t + 0.5
    arc = 1 - (2 * (phase % 1) - 1) ** 2
    return [_way(t, rng.uniform(-0.3, 0.3), floor - height * 0.75 ** np.floor(phase) * arc, radius)]


def _falling(rng: np.random.Generator, t: Curve) -> list[Way]:
    radius = rng.uniform(0.07, 0.12)
    room = _EDGE - radius
    progress = np.clip((t - 0.1) / 0.75, 0, 1)
    height = rng.uniform(0.5, 2 * room)
    return [_way(t, rng.uniform(-0.3, 0.3), room - height + height * progress**2, radius)]


def _resting(rng: np.random.Generator, t: Curve) -> list[Way]:
    return [_still(rng, t)]


# What two things do is a way each; of a passing, the one that is covered comes first.
WAYS: dict[str, Callable[[np.random.Generator, Curve], list[Way]]] = {
    "moving left": _straight(-1, 0),
    "moving right": _straight(1, 0),
    "moving up": _straight(0, -1),
    "moving down": _straight(0, 1),
    "approaching": _approaching,
    "receding": _backwards(_approaching),
    "turning clockwise": _turning(1),
    "turning counter-clockwise": _turning(-1),
    "appearing": _appearing,
    "disappearing": _backwards(_appearing),
    "two things meeting": _meeting,
    "two things parting": _backwards(_meeting),
    "one thing passing behind another": _behind,
    "shaking": _shaking,
    "bouncing": _bouncing,
    "falling": _falling,
    "nothing moves": _resting,
    "only the camera moves": _resting,
}
