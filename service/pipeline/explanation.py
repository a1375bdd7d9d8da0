"""What was kept of a clip: which tokens, when and where in it, with which scores.

The extraction that keeps K tokens of a view looks at the first K of its ranking. One list in the
order of the scores therefore says of every extraction of a clip what it looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.sampling import Span, Views
from bundle.schema import Manifest
from service.sparsity.levels import Level
from video.facts import ClipFacts, ViewPlan
from video.places import step_spans, token_rectangles, view_rectangles


@dataclass(frozen=True, slots=True)
class Places:
    """When and where the tokens of a clip's views lie in it; see :mod:`video.places`.

    Attributes:
        grid: (steps, rows, columns) of a view's tokens; a step is a frame, or a tubelet of frames.
        views: of the clip, temporal-major.
        regions: float64 [S, 4], the spatial views.
        rectangles: float64 [S, rows, columns, 4].
        stamps: float64 [temporal views, steps, 2], the time stamps of a step's first and last
            frame, in seconds after the first frame shown.
        spans: float64 [temporal views, steps, 2], the part of the clip that a step stands for.
    """

    grid: tuple[int, int, int]
    views: Views
    regions: NDArray[np.float64]
    rectangles: NDArray[np.float64]
    stamps: NDArray[np.float64]
    spans: NDArray[np.float64]

    def steps_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The step of each token; positions are frame-major, then row, then column."""
        _, rows, columns = self.grid
        return positions // (rows * columns)

    def rectangles_of(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """int64 [V, K] positions -> float64 [V, K, 4]: x, y, width and height in the clip."""
        _, rows, columns = self.grid
        cells = positions % (rows * columns)
        spatial = np.arange(len(positions)) % self.views.spatial
        by_cell = self.rectangles.reshape(self.views.spatial, rows * columns, 4)
        return by_cell[spatial[:, None], cells]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was kept of a clip in each of its extractions.

    Attributes:
        places: when and where all tokens lie.
        looks: the level of each extraction, in the order in which they were made.
        shares: float64 [looks, V, steps], how a view's tokens spread over its steps: sums are 1.
        listed: int64 [V, L], positions of the best tokens that any extraction kept, best first. L
            is less than the largest K where so many tokens may not be listed.
        scores: float32 [V, L], the selector's, of these.
    """

    places: Places
    looks: tuple[Level, ...]
    shares: NDArray[np.float64]
    listed: NDArray[np.int64]
    scores: NDArray[np.float32]


def places_of(
    manifest: Manifest, views: Views, span: Span, facts: ClipFacts, stamps: NDArray[np.float64]
) -> Places:
    """When and where the tokens of these views lie.

    Args:
        span: the part of the clip that they show.
        stamps: float64 [temporal views, T], the frames' own time stamps.
    """
    geometry = manifest.geometry
    plan = ViewPlan.of(geometry, manifest.sampling, views, span)
    # Where frames stand in for others, they stand for their own time.
    moments = (
        stamps if facts.substituted_frames else plan.moments(facts.frames, facts.duration_seconds)
    )
    of_steps = stamps.reshape(len(stamps), -1, geometry.tubelet)
    return Places(
        grid=geometry.grid,
        views=views,
        regions=view_rectangles(facts, plan),
        rectangles=token_rectangles(facts, plan, geometry.patch),
        stamps=of_steps[:, :, [0, -1]],
        spans=step_spans(moments, geometry.tubelet, facts.duration_seconds),
    )


def explain(
    places: Places,
    ranking: NDArray[np.int64],
    scores: NDArray[np.float32],
    looks: Sequence[Level],
    max_listed: int,
) -> Explanation:
    """What these extractions kept.

    Args:
        ranking: int64 [V, N], positions from the highest score to the lowest.
        scores: float32 [V, N].
        max_listed: tokens that may be listed, all views together; one of each view is.
    """
    most = max(level.kept for level in looks)
    listed = ranking[:, : min(most, max(1, max_listed // len(ranking)))]
    return Explanation(
        places,
        tuple(looks),
        np.stack([_shares(places, ranking[:, : level.kept]) for level in looks]),
        listed,
        np.take_along_axis(scores, listed, axis=1),
    )


def _shares(places: Places, kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """int64 [V, K] positions -> float64 [V, steps]."""
    steps = np.arange(places.grid[0])
    counts = (places.steps_of(kept)[:, :, None] == steps).sum(axis=1)
    shares: NDArray[np.float64] = counts / kept.shape[1]
    return shares
