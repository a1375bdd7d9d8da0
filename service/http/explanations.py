"""What was kept of a clip, as part of an answer."""

import numpy as np
from numpy.typing import NDArray

from service.http import schemas
from service.pipeline.explanation import Explanation, Places

# Finer than a pixel, a time stamp of any container, and a score's own precision.
_PIXEL_DIGITS, _SECOND_DIGITS, _SCORE_DIGITS, _SHARE_DIGITS = 3, 6, 5, 6


def explanation(found: Explanation) -> schemas.ExplanationAnswer:
    """The member ``explanation`` of an answer."""
    steps, rows, columns = found.places.grid
    return schemas.ExplanationAnswer(
        grid=schemas.GridAnswer(steps=steps, rows=rows, columns=columns),
        extractions=[
            schemas.ExtractionAnswer(
                sparsity=level.sparsity,
                kept=level.kept,
                shares=np.round(shares, _SHARE_DIGITS).tolist(),
            )
            for level, shares in zip(found.looks, found.shares, strict=True)
        ],
        listed=found.listed.shape[1],
        views=[_view(found, view) for view in range(len(found.listed))],
    )


def _view(found: Explanation, view: int) -> schemas.ViewAnswer:
    places = found.places
    temporal, spatial = divmod(view, places.views.spatial)
    steps = [
        schemas.StepAnswer(
            start_seconds=start, end_seconds=end, from_seconds=begin, until_seconds=until
        )
        for (start, end), (begin, until) in zip(
            np.round(places.stamps[temporal], _SECOND_DIGITS).tolist(),
            np.round(places.spans[temporal], _SECOND_DIGITS).tolist(),
            strict=True,
        )
    ]
    return schemas.ViewAnswer(
        temporal=temporal,
        spatial=spatial,
        region=_rectangle(places.regions[spatial]),
        steps=steps,
        tokens=_tokens(places, steps, found.listed[view], found, view),
    )


def _tokens(
    places: Places,
    steps: list[schemas.StepAnswer],
    positions: NDArray[np.int64],
    found: Explanation,
    view: int,
) -> list[schemas.TokenAnswer]:
    _, rows, columns = places.grid
    rectangles = np.round(places.rectangles_of(found.listed)[view], _PIXEL_DIGITS).tolist()
    scores = np.round(found.scores[view].astype(np.float64), _SCORE_DIGITS).tolist()
    answers = []
    for position, (x, y, width, height), score in zip(
        positions.tolist(), rectangles, scores, strict=True
    ):
        step, cell = divmod(position, rows * columns)
        row, column = divmod(cell, columns)
        answers.append(
            schemas.TokenAnswer(
                step=step,
                row=row,
                column=column,
                start_seconds=steps[step].start_seconds,
                end_seconds=steps[step].end_seconds,
                x=x,
                y=y,
                width=width,
                height=height,
                score=score,
            )
        )
    return answers


def _rectangle(values: NDArray[np.float64]) -> schemas.RectangleAnswer:
    x, y, width, height = np.round(values, _PIXEL_DIGITS).tolist()
    return schemas.RectangleAnswer(x=x, y=y, width=width, height=height)
