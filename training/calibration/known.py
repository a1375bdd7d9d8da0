"""A score of the video's vector: is there a label for what happens in a clip?

A logistic regression between clips of a bundle's own classes and clips in which none of them
happens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.answers import KnownScore
from bundle.scores import known_scores, sigmoid
from training.calibration.looks import Looks

_FOLDS = 5
_STEPS, _SMALLEST_STEP = 50, 1e-8
# Digits of a weight in the manifest: more than a service's float32 vectors have.
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Vectors of views, float64 [m, D], whether each is of a known clip, and what each counts."""

    vectors: NDArray[np.float64]
    known: NDArray[np.float64]
    weight: NDArray[np.float64]


def rows_of(
    own: Sequence[Looks],
    none: Sequence[Looks],
    taken: Sequence[NDArray[np.bool_]] | None = None,
) -> VectorRows:
    """All views at all sparsities: the known count as much as the others, and each set of either
    as much as the next, however many clips it has.

    Args:
        taken: which clips of each set, bool [n], those of ``own`` first; None for all.
    """
    vectors, known, weight = [], [], []
    for number, (looks, value) in enumerate(
        [*((looks, 1.0) for looks in own), *((looks, 0.0) for looks in none)]
    ):
        sets = len(own) if value else len(none)
        for video in looks.video.values():
            some = video if taken is None else video[taken[number]]
            flat = some.reshape(-1, some.shape[-1]).astype(np.float64)
            vectors.append(flat)
            known.append(np.full(len(flat), value))
            weight.append(np.full(len(flat), 0.5 / (sets * len(looks.video) * max(1, len(flat)))))
    return VectorRows(np.concatenate(vectors), np.concatenate(known), np.concatenate(weight))


def fit_known(rows: VectorRows, decay: float) -> KnownScore:
    """The weights of highest likelihood under ``decay`` / 2 times their squares' sum, where
    vectors are standardised; by Newton's method."""
    centre, spread = rows.vectors.mean(axis=0), rows.vectors.std(axis=0)
    # What never changes says nothing, and must not be blown up where it does.
    flat = spread <= 1e-6 * np.maximum(np.abs(rows.vectors).max(axis=0), 1e-6)
    spread = np.where(flat, np.inf, spread)
    x = np.concatenate([(rows.vectors - centre) / spread, np.ones((len(rows.known), 1))], axis=1)
    ridge = np.full(x.shape[1], decay)
    ridge[-1] = 1e-9  # of the bias
    found = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        share = sigmoid(x @ found)
        gradient = x.T @ (rows.weight * (share - rows.known)) + ridge * found
        curvature = rows.weight * share * (1 - share)
        hessian = x.T @ (x * curvature[:, None]) + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        # Far from the top a whole step may lead beyond it.
        found -= step * min(1.0, 10.0 / max(1e-30, float(np.abs(step).max())))
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    weights = found[:-1] / spread
    bias = found[-1] - weights @ centre
    return KnownScore(
        weights=[float(f"{value:.{_DIGITS}g}") for value in weights],
        bias=float(f"{bias:.{_DIGITS}g}"),
    )


def cross_fitted(
    own: Sequence[Looks], none: Sequence[Looks], decay: float, seed: int
) -> list[dict[float, NDArray[np.float64]]]:
    """Scores of each clip by sparsity, [n], by weights that have seen nothing of its group; of the
    sets in ``own``, then of those in ``none``."""
    sets = [*own, *none]
    scores = [{s: np.zeros(len(v)) for s, v in looks.video.items()} for looks in sets]
    for held in _folds(sets, seed):
        score = fit_known(rows_of(own, none, [~some for some in held]), decay)
        for looks, some, of_set in zip(sets, held, scores, strict=True):
            for sparsity, video in looks.video.items():
                of_set[sparsity][some] = known_scores(score, video[some])
    return scores


def _folds(sets: Sequence[Looks], seed: int) -> Iterator[list[NDArray[np.bool_]]]:
    """Which clips of each set are held out, bool [n], in each of five folds: whole groups, as many
    of a set in each."""
    rng = np.random.default_rng(seed)
    folds = []
    for looks in sets:
        groups = looks.resampling.groups
        drawn = rng.permutation(int(groups.max()) + 1) % _FOLDS
        folds.append(drawn[groups])
    for number in range(_FOLDS):
        yield [fold == number for fold in folds]
