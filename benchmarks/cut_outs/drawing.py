"""Cut-outs on their backgrounds: a shape filled with a colour, with noise or with a photo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cut_outs.ways import PI, WAYS, Way
from video.codec import VideoDecoder

Picture = NDArray[np.uint8]  # [H, W, 3]

# (height, width) of a clip, as phones and cameras have them, small.
_SIZES = ((240, 320), (240, 426), (320, 240), (240, 240))
_FPS = 25.0
_SPRITE = 256  # pixels of a cut-out before it is scaled
# How much larger than the picture a background is, so that the camera may move over it.
_MARGIN = 1.4
_ANTI_ALIASED = 2


@dataclass(frozen=True, eq=False)
class Drawn:
    """frames uint8 [T, H, W, 3], and how many of them are shown a second."""

    frames: NDArray[np.uint8]
    fps: float


def draw(label: str, background: str, rng: np.random.Generator, photos: Sequence[Path]) -> Drawn:
    """Draw a clip in which ``label`` happens.

    Args:
        background: ``photo``, ``noise`` or ``plain``, in whose place there is noise where only the
            camera moves.
        photos: videos, of whose frames backgrounds and cut-outs are made.
    """
    height, width = _SIZES[int(rng.integers(len(_SIZES)))]
    short = min(height, width)
    frames = int(rng.integers(36, 61))
    ways = WAYS[label](rng, np.linspace(0, 1, frames))
    camera = label == "only the camera moves"
    if camera and background == "plain":  # over which nobody sees a camera move
        background = "noise"
    wide = _fill(background, rng, round(_MARGIN * height), round(_MARGIN * width), photos)
    # What fills a cut-out is of another kind than what lies behind it, so that it can be seen.
    kinds = ("plain", "noise", "photo") if photos else ("plain", "noise")
    fills = [kind for kind in kinds if kind != background]
    sprites = [_sprite(fills[int(rng.integers(len(fills)))], rng, photos) for _ in ways]
    moves = _camera(rng, frames) if camera else np.zeros((frames, 4))
    shown = np.empty((frames, height, width, 3), np.uint8)
    for frame in range(frames):
        dx, dy, zoom, turn = moves[frame]
        view = _similarity(
            (width - 1) / 2 + dx * short, (height - 1) / 2 + dy * short, np.exp(zoom), turn
        )
        back = view @ _similarity(-(wide.shape[1] - 1) / 2, -(wide.shape[0] - 1) / 2, 1, 0)
        picture = np.asarray(
            cv2.warpAffine(wide, back[:2], (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8
        )
        for way, sprite in zip(ways, sprites, strict=True):
            _paste(picture, sprite, way, frame, view, short)
        shown[frame] = picture
    return Drawn(shown, _FPS)


def _similarity(x: float, y: float, scale: float, angle: float) -> NDArray[np.float64]:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y], [0, 0, 1]])


def _camera(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """(x, y, logarithm of zoom, angle) by frame: a pan, a zoom or a turn."""
    kind = int(rng.integers(3))
    moves = np.zeros((frames, 4))
    t = np.linspace(-0.5, 0.5, frames)
    heading = rng.uniform(0, 2 * PI)
    if kind == 0:
        moves[:, 0], moves[:, 1] = 0.3 * np.cos(heading) * t, 0.3 * np.sin(heading) * t
    else:
        moves[:, kind + 1] = rng.choice([-1, 1]) * rng.uniform(0.3, 0.5) * t
    moves[:, 2] += 0.05
    return moves


def _fill(
    kind: str, rng: np.random.Generator, height: int, width: int, photos: Sequence[Path]
) -> Picture:
    if kind == "plain":
        return np.full((height, width, 3), rng.integers(20, 236, 3), np.uint8)
    if kind == "photo":
        return _cover(_photo(rng, photos), height, width, rng)
    grain = int(rng.choice([1, 2, 4, 8]))
    noise = rng.integers(0, 256, (height // grain + 1, width // grain + 1, 3), np.uint8)
    large = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.uint8)


def _photo(rng: np.random.Generator, photos: Sequence[Path]) -> Picture:
    """Some frame of some video."""
    decoder = VideoDecoder(
        str(photos[int(rng.integers(len(photos)))]), dimension_order="NHWC", num_ffmpeg_threads=1
    )
    return np.asarray(decoder.get_frame_at(int(rng.integers(len(decoder)))).data.numpy(), np.uint8)


def _cover(photo: Picture, height: int, width: int, rng: np.random.Generator) -> Picture:
    """A piece of a photo, as large as it can be in this shape."""
    scale = max(height / photo.shape[0], width / photo.shape[1])
    size = max(width, round(scale * photo.shape[1])), max(height, round(scale * photo.shape[0]))
    large = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    top = int(rng.integers(large.shape[0] - height + 1))
    left = int(rng.integers(large.shape[1] - width + 1))
    return large[top : top + height, left : left + width]


def _sprite(kind: str, rng: np.random.Generator, photos: Sequence[Path]) -> NDArray[np.float32]:
    """A cut-out of radius ``_SPRITE / 2``: colour and opacity, float32 [S, S, 4]."""
    colour = _fill(kind, rng, _SPRITE, _SPRITE, photos)
    if kind == "plain":  # a mark, by which one sees a disc turn
        cv2.rectangle(colour, (_SPRITE // 2, 0), (_SPRITE, _SPRITE // 2),
                      rng.integers(20, 236, 3).tolist(), -1)  # fmt: skip
    opacity = np.zeros((_SPRITE, _SPRITE), np.uint8)
    corners = int(rng.choice([0, 3, 4, 5]))
    if corners:
        around = rng.uniform(0, 2 * PI) + 2 * PI * np.arange(corners) / corners
        around += rng.uniform(-0.3, 0.3, corners)
        points = _SPRITE / 2 + (_SPRITE / 2 - 2) * np.stack([np.cos(around), np.sin(around)], 1)
        cv2.fillPoly(opacity, [points.round().astype(np.int32)], 255)
    else:
        cv2.circle(opacity, (_SPRITE // 2, _SPRITE // 2), _SPRITE // 2 - 2, 255, -1)
    return np.dstack([colour, opacity]).astype(np.float32)


def _paste(
    picture: Picture,
    sprite: NDArray[np.float32],
    way: Way,
    frame: int,
    view: NDArray[np.float64],
    short: int,
) -> None:
    """Blend a cut-out onto a picture in place."""
    place = view @ _similarity(
        way.x[frame] * short, way.y[frame] * short,
        2 * way.radius[frame] * short / _SPRITE, way.angle[frame],
    ) @ _similarity(-(_SPRITE - 1) / 2, -(_SPRITE - 1) / 2, 1, 0)  # fmt: skip
    height, width = picture.shape[:2]
    # Drawn larger and averaged: a small cut-out would otherwise lose its edge.
    larger = _similarity(_ANTI_ALIASED / 2 - 0.5, _ANTI_ALIASED / 2 - 0.5, _ANTI_ALIASED, 0)
    warped = cv2.warpAffine(
        sprite, (larger @ place)[:2], (_ANTI_ALIASED * width, _ANTI_ALIASED * height)
    )
    warped = cv2.resize(warped, (width, height), interpolation=cv2.INTER_AREA)
    alpha = np.asarray(warped[..., 3:] / 255, np.float32)
    share = alpha * np.float32(way.alpha[frame])
    # Colours were averaged with the nothing around them; the opacity undoes that.
    colour = np.asarray(warped[..., :3], np.float32) / np.maximum(alpha, 1e-3)
    picture[...] = (picture + (np.minimum(colour, 255) - picture) * share + 0.5).astype(np.uint8)
