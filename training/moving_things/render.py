"""From a scene to pixels and to the mask of what moves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training.moving_things.motion import Track
from training.moving_things.scene import Scene, Thing
from training.moving_things.sprites import Raster, draw
from training.moving_things.textures import Image, paint, value_noise

Matrix = NDArray[np.float64]  # [3, 3], homogeneous

GRID = 32
# A cell of the grid counts as moving when the thing covers at least this share of it: a quarter of
# a 4x4 pixel cell of a 128 pixel view is what the eye still sees of it. Our choice.
NOTABLE = 0.25

_POOL = 640
_POOL_SIGMA = 32.0


@dataclass(frozen=True, eq=False)
class Rendered:
    """frames: uint8 [T, H, W, 3], RGB. mask: bool [T, H, W], the visible area of the things that
    move or change at that frame (see `Track.acting`); shadows and the camera do not count."""

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def _similarity(x: float, y: float, scale: float, angle: float) -> Matrix:
    """Scale, turn clockwise (y points down), then move."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y], [0, 0, 1]])


class _Drawn:
    """A thing with its sprite drawn at the sizes it needs."""

    def __init__(self, thing: Thing, pixels: float) -> None:
        """pixels: the largest number of pixels that one unit of the scene covers."""
        self.thing = thing
        track = thing.track
        self.acting = track.acting() if thing.actor else np.zeros(len(track.x), np.bool_)
        top = float(track.size.max()) * pixels
        self.levels = [draw(thing.sprite, max(4.0, top))]
        smallest = float(track.size.min()) * pixels * 0.6
        while self.levels[-1].scale > 1.6 * smallest and self.levels[-1].scale > 8:
            self.levels.append(self.levels[-1].halved())

    def _level(self, scale: float) -> Raster:
        chosen = self.levels[0]
        for level in self.levels:
            if level.scale > 0.75 * scale:
                chosen = level
        return chosen

    def paste(
        self, image: Image, view: Matrix, frame: int, shadow: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], slice, slice] | None:
        """Blend onto `image` in place. `view` takes scene coordinates to pixels.

        Returns (alpha, footprint, rows, columns): the opacity that was blended and the opacity
        the thing would have if it were all there, both float32 over that part of the image; or
        None when nothing of the thing is inside.
        """
        track = self.thing.track
        size, x, y = float(track.size[frame]), float(track.x[frame]), float(track.y[frame])
        place = view @ _similarity(x, y, size, float(track.angle[frame]))
        scale = float(np.hypot(place[0, 0], place[1, 0]))
        level = self._level(scale)
        reach = self.thing.sprite.radius * scale + 2
        region = _region(image, place[:2, 2], reach)
        if region is None:
            return None
        rows, columns = region
        half = level.alpha.shape[0] / 2 - 0.5
        local = place @ _similarity(-half / level.scale, -half / level.scale, 1 / level.scale, 0)
        local[0, 2] -= columns.start
        local[1, 2] -= rows.start
        width, height = columns.stop - columns.start, rows.stop - rows.start
        whole = _warp(level.alpha, local, width, height)
        opacity = float(track.alpha[frame])
        shown = level.alpha
        if track.reveal[frame] < 1:
            shown = _uncovered(level, track, frame, self.thing.sprite.radius)
            alpha = _warp(shown, local, width, height) * np.float32(opacity / 255)
        else:
            alpha = whole * np.float32(opacity / 255)
        if opacity > 0 and self.thing.shadow > 0:
            self._cast(image, view, place, shown, level.scale, opacity, size * shadow)
        if opacity > 0:
            colour = cv2.warpAffine(
                level.colour, local[:2], (width, height), borderMode=cv2.BORDER_REPLICATE
            )
            target = image[rows, columns].astype(np.float32)
            target += (colour.astype(np.float32) - target) * alpha[..., None]
            image[rows, columns] = (target + 0.5).astype(np.uint8)
        return alpha, whole * np.float32(1 / 255), rows, columns

    def _cast(
        self,
        image: Image,
        view: Matrix,
        place: Matrix,
        shape: NDArray[np.uint8],
        pixels: float,
        opacity: float,
        offset: NDArray[np.float32],
    ) -> None:
        """Darken what lies under the thing's shadow."""
        moved = place.copy()
        moved[:2, 2] += view[:2, :2] @ offset
        scale = float(np.hypot(place[0, 0], place[1, 0]))
        region = _region(image, moved[:2, 2], self.thing.sprite.radius * scale + 3)
        if region is None:
            return
        rows, columns = region
        half = shape.shape[0] / 2 - 0.5
        local = moved @ _similarity(-half / pixels, -half / pixels, 1 / pixels, 0)
        local[0, 2] -= columns.start
        local[1, 2] -= rows.start
        soft = _warp(shape, local, columns.stop - columns.start, rows.stop - rows.start)
        blur = max(1, round(scale * 0.06))
        soft = np.asarray(cv2.blur(soft, (2 * blur + 1, 2 * blur + 1)), np.float32)
        keep = 1 - soft * np.float32(self.thing.shadow * opacity / 255)
        image[rows, columns] = (image[rows, columns] * keep[..., None]).astype(np.uint8)


def _region(image: Image, centre: NDArray[np.float64], reach: float) -> tuple[slice, slice] | None:
    height, width = image.shape[:2]
    left, right = max(0, int(centre[0] - reach)), min(width, int(centre[0] + reach) + 2)
    top, bottom = max(0, int(centre[1] - reach)), min(height, int(centre[1] + reach) + 2)
    return None if left >= right or top >= bottom else (slice(top, bottom), slice(left, right))


def _warp(source: NDArray[np.uint8], local: Matrix, width: int, height: int) -> NDArray[np.float32]:
    warped = cv2.warpAffine(source, local[:2], (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, np.float32)


def _uncovered(level: Raster, track: Track, frame: int, radius: float) -> NDArray[np.uint8]:
    side = level.alpha.shape[0]
    offset = (np.arange(side, dtype=np.float32) - side / 2 + 0.5) / level.scale
    along = offset[None, :] * np.cos(track.reveal_direction)
    along = along + offset[:, None] * np.sin(track.reveal_direction)
    edge = (2 * float(track.reveal[frame]) - 1) * radius
    share = np.clip((edge - along) * level.scale + 0.5, 0, 1)
    return np.asarray(level.alpha * share).astype(np.uint8)


@lru_cache(maxsize=1)
def _noise_pool() -> NDArray[np.uint8]:
    """Grey noise around 128, shared by all clips: drawing fresh numbers for each pixel would cost
    more than everything else. Clips take random pieces of it."""
    rng = np.random.default_rng(20240917)
    shared = rng.normal(0, 0.8, (_POOL, _POOL, 1)) + rng.normal(0, 0.6, (_POOL, _POOL, 3))
    return np.clip(128 + _POOL_SIGMA * shared, 0, 255).astype(np.uint8)


def _canvas(scene: Scene, short_side: int) -> tuple[Image, Matrix, int]:
    """The background with the things that always stand still behind all others, over everything
    the camera will see; the matrix from scene coordinates to its pixels; how many things it took.
    """
    height, width = scene.size(short_side)
    camera = scene.camera
    zoom = float(np.clip(camera.zoom.max(), 1, 2))
    pixels = short_side * zoom
    corners = np.array([[-width, -height], [width, -height], [-width, height], [width, height]])
    corners = corners / (2 * short_side)
    seen = []
    for x, y, z, a in zip(camera.x, camera.y, camera.zoom, camera.angle, strict=True):
        turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) / z
        seen.append(corners @ turn.T + [x, y])
    reach = np.abs(np.concatenate(seen)).max(axis=0) + 2 / short_side
    shape = (int(np.ceil(2 * reach[1] * pixels)), int(np.ceil(2 * reach[0] * pixels)))
    image = paint(scene.background, *shape)
    if scene.vignette > 0:
        rng = np.random.default_rng(scene.seed)
        light = 1 + scene.vignette * (value_noise(rng, *shape, 1.2) - 0.5) * 2
        light_u8 = cv2.convertScaleAbs(light, alpha=128.0)
        image = np.asarray(cv2.multiply(image, cv2.merge([light_u8] * 3), scale=1 / 128), np.uint8)
    view = _similarity(shape[1] / 2 - 0.5, shape[0] / 2 - 0.5, pixels, 0)
    taken = 0
    for thing in scene.things:
        if thing.actor:
            break
        _Drawn(thing, pixels).paste(image, view, 0, scene.shadow)
        taken += 1
    return image, view, taken


def render(scene: Scene, short_side: int) -> Rendered:
    """Draw all frames; the shape is `scene.size(short_side)`."""
    height, width = scene.size(short_side)
    camera = scene.camera
    canvas, to_canvas, taken = _canvas(scene, short_side)
    from_canvas = np.linalg.inv(to_canvas)
    pixels = short_side * float(camera.zoom.max())
    drawn = [_Drawn(thing, pixels) for thing in scene.things[taken:]]
    pool = _noise_pool()
    if max(height, width) > _POOL // 2:
        copies = int(np.ceil(2 * max(height, width) / _POOL))
        pool = np.tile(pool, (copies, copies, 1))
    rng = np.random.default_rng([scene.seed, 1])
    spots = rng.integers(0, np.subtract(pool.shape[:2], (height, width)), (scene.frames, 2))

    frames = np.empty((scene.frames, height, width, 3), np.uint8)
    mask = np.zeros((scene.frames, height, width), np.bool_)
    still_camera = all(float(np.ptp(c)) == 0 for c in (camera.x, camera.y, camera.zoom))
    still_camera &= float(np.ptp(camera.angle)) == 0
    base: Image | None = None
    for t in range(scene.frames):
        scale = short_side * float(camera.zoom[t])
        view = _similarity(width / 2 - 0.5, height / 2 - 0.5, scale, float(camera.angle[t]))
        view = view @ _similarity(-float(camera.x[t]), -float(camera.y[t]), 1, 0)
        if base is None or not still_camera:
            matrix = (view @ from_canvas)[:2]
            warped = cv2.warpAffine(
                canvas, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101
            )
            base = np.asarray(warped, np.uint8)
        frame = base.copy() if still_camera else base
        for thing in drawn:
            blended = thing.paste(frame, view, t, scene.shadow)
            if blended is None:
                continue
            alpha, footprint, rows, columns = blended
            # What is drawn later hides what moves behind it.
            mask[t, rows, columns] &= alpha < 0.5
            if thing.acting[t]:
                mask[t, rows, columns] |= footprint > 0.5
        top, left = spots[t]
        noise = pool[top : top + height, left : left + width]
        strength = scene.noise / _POOL_SIGMA
        cv2.addWeighted(
            frame, float(scene.gain[t]), noise, strength, -128 * strength, dst=frames[t]
        )
    return Rendered(frames, mask)


def mask_grid(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool [T, H, W] -> bool [T, GRID, GRID] over the central square: cells covered notably."""
    _, height, width = mask.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    grid = np.zeros((len(mask), GRID, GRID), np.bool_)
    for t in np.flatnonzero(mask.any(axis=(1, 2))):
        square = mask[t, top : top + side, left : left + side].astype(np.float32)
        cells = cv2.resize(square, (GRID, GRID), interpolation=cv2.INTER_AREA)
        grid[t] = np.asarray(cells) >= NOTABLE
    return grid
