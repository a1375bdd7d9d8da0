"""What was kept of a clip, to be looked at: a picture of its frames, or a film of all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bundle.schema import Geometry
from service.errors import TooMuchEncoding
from service.pipeline.explanation import Places
from service.sparsity.levels import Level
from video.facts import ClipFacts

DrawingFormat = Literal["png", "jpeg", "mp4"]

# Our choice: sixteen frames in two lines are a picture that a page has room for.
_FRAMES_OF_LINE = 8
_GAP, _PAPER = 4, 255


@dataclass(frozen=True, slots=True)
class DrawingLimits:
    """Pixels of a picture, and of all frames of a film together; see the settings."""

    max_picture_pixels: int
    max_film_pixels: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture or a film of what was kept."""

    format: DrawingFormat
    content: bytes


def film_pixels(facts: ClipFacts) -> int:
    """Pixels of all frames of a film of the clip."""
    return max(2, facts.width) * max(2, facts.height) * facts.frames


def picture_size(geometry: Geometry, lines: int) -> tuple[int, int]:
    """(height, width) of a picture in pixels; ``lines`` are extractions times views."""
    across = geometry.frames
    if lines == 1:
        across = min(across, _FRAMES_OF_LINE)
        lines = -(-geometry.frames // across)
    return lines * (geometry.size + _GAP) - _GAP, across * (geometry.size + _GAP) - _GAP


def require_room(
    kind: DrawingFormat, geometry: Geometry, lines: int, facts: ClipFacts, limits: DrawingLimits
) -> None:
    """Refuse what has too many pixels, before anything is drawn.

    Raises:
        TooMuchEncoding.
    """
    if kind == "mp4":
        pixels, limit = film_pixels(facts), limits.max_film_pixels
    else:
        height, width = picture_size(geometry, lines)
        pixels, limit = height * width, limits.max_picture_pixels
    if pixels > limit:
        raise TooMuchEncoding(pixels, limit)


def draw_picture(
    frames: NDArray[np.uint8],
    ranking: NDArray[np.int64],
    looks: Sequence[Level],
    geometry: Geometry,
) -> NDArray[np.uint8]:
    """The frames of the views side by side, dropped tokens darkened: uint8 [height, width, 3].

    Each extraction has a line for each view. Where there is one line in all, it is broken.

    Args:
        frames: uint8 [V, T, H, W, 3].
        ranking: int64 [V, N], positions from the highest score to the lowest.

    Source: the paper's figure of selections.
    """
    lines = [
        line for level in looks for line in _darkened(frames, ranking[:, : level.kept], geometry)
    ]
    if len(lines) == 1:
        (line,) = lines
        lines = [
            line[first : first + _FRAMES_OF_LINE] for first in range(0, len(line), _FRAMES_OF_LINE)
        ]
    height, width = picture_size(geometry, len(looks) * len(frames))
    picture = np.full((height, width, 3), _PAPER, np.uint8)
    pitch = geometry.size + _GAP
    for row, line in enumerate(lines):
        for column, frame in enumerate(line):
            top, left = row * pitch, column * pitch
            picture[top : top + geometry.size, left : left + geometry.size] = frame
    return picture


def _darkened(
    frames: NDArray[np.uint8], kept: NDArray[np.int64], geometry: Geometry
) -> NDArray[np.uint8]:
    """uint8 [V, T, H, W, 3] with all but the kept tokens, int64 [V, K], at a quarter."""
    tokens = np.zeros((len(frames), geometry.tokens), bool)
    np.put_along_axis(tokens, kept, True, axis=1)
    lit = tokens.reshape(len(frames), *geometry.grid)
    for axis, times in ((1, geometry.tubelet), (2, geometry.patch), (3, geometry.patch)):
        lit = lit.repeat(times, axis)
    return np.where(lit[..., None], frames, frames >> 2)


def places_lit(places: Places, kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """When and where a film is lit, float64 [V * K, 8]; see :func:`video.film.encode_film`.

    Args:
        kept: int64 [V, K], positions. What any view kept is lit.
    """
    temporal = np.arange(len(kept)) // places.views.spatial
    steps = places.steps_of(kept)
    spans = places.spans[temporal[:, None], steps]  # [V, K, 2]
    # A frame that is shown for long began long before the time that the step stands for.
    stamps = np.clip(places.stamps[temporal[:, None], steps], spans[..., :1], spans[..., 1:])
    rows = np.concatenate([spans, stamps, places.rectangles_of(kept)], axis=-1)
    return rows.reshape(-1, rows.shape[-1])
