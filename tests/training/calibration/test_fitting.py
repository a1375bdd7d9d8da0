"""Temperatures, thresholds and the score of the video's vector, on made-up answers."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from bundle.answers import AnswerFacts, KnownScore
from bundle.scores import certainty_of, known_scores, probabilities_of
from training.calibration.figures import figures_of, print_figures
from training.calibration.fitting import certainties, fit, threshold_for
from training.calibration.known import cross_fitted, fit_known, rows_of
from training.calibration.looks import Looks
from training.calibration.temperature import CalibrationError, fit_temperature
from training.datasets import DataSet, Entry, TopOne

CLASSES, WIDTH = 4, 6


def looks(
    name: str,
    clips: int,
    *,
    seed: int,
    sharp: float = 1.0,
    apart: float = 0.0,
    groups: Sequence[str] | None = None,
    views: int = 1,
) -> Looks:
    """Clips whose labels follow the softmax of their logits divided by ``sharp``, and whose
    vectors' first channel is ``apart`` on average."""
    rng = np.random.default_rng(seed)
    each = 2 * rng.normal(size=(clips, CLASSES))
    shares = np.exp(each) / np.exp(each).sum(axis=1, keepdims=True)
    labels = [int(rng.choice(CLASSES, p=share)) for share in shares]
    names = groups or [""] * clips
    entries = tuple(
        Entry(Path(f"{i}.mp4"), (label,), group=group)
        for i, (label, group) in enumerate(zip(labels, names, strict=True))
    )
    names_of_classes = tuple("abcd")
    dataset = DataSet(name, entries, names_of_classes, TopOne(CLASSES))
    logits = np.repeat(sharp * each[:, None], views, axis=1).astype(np.float32)
    vectors = rng.normal(size=(clips, views, WIDTH)).astype(np.float32)
    vectors[..., 0] += apart
    vectors[..., -1] = 7.0  # says nothing
    sparser = vectors + 0.1
    sparser[..., -1] = 7.0
    return Looks(name, dataset, {0.5: logits, 0.9: 2 * logits}, {0.5: vectors, 0.9: sparser})


def test_temperature_is_found_again() -> None:
    for true in (0.5, 1.0, 3.0):
        some = looks("own", 4000, seed=0, sharp=true)
        found = fit_temperature(some.logits[0.5], some.targets)
        assert found == pytest.approx(true, rel=0.05)
    eye = (9 * np.eye(3, dtype=np.float32))[:, None]
    assert math.isfinite(fit_temperature(eye, np.arange(3)))


def test_views_of_a_clip_count_together() -> None:
    """Two views that contradict each other are an even share, at every temperature."""
    logits = np.array([[[4.0, 0.0], [0.0, 4.0]]], np.float32)
    for temperature in (0.1, 1.0, 5.0):
        np.testing.assert_allclose(
            probabilities_of(logits, AnswerFacts(temperature=temperature)), [[0.5, 0.5]]
        )


def test_the_error_of_calibration_is_that_of_its_definition() -> None:
    some = looks("own", 4000, seed=1)
    right = CalibrationError.of(probabilities_of(some.logits[0.5]), some.targets)
    sure = CalibrationError.of(
        probabilities_of(some.logits[0.5], AnswerFacts(temperature=1 / 3)), some.targets
    )
    assert right.value < 0.03 < sure.value
    # Two bins of five clips each: 0.9 said and 0.8 true, 0.5 said and 0.8 true.
    score = np.repeat([0.5, 0.9], 50)
    hits = np.tile([True] * 4 + [False], 20)
    error = CalibrationError(score, hits)
    assert error.value == pytest.approx((0.3 + 0.1) / 2)
    times = np.zeros((1, 100), np.int64)
    times[0, 50:] = 3
    assert error.resampled(times)[0] == pytest.approx(0.1)


def test_no_more_than_their_share_of_clips_is_below_a_threshold() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(100) / 100)
    for share, below in ((0.0, 0), (0.049, 4), (0.05, 5), (0.5, 50)):
        assert int((scores < threshold_for(scores, share)).sum()) == below
    equal = np.full(10, 0.3)
    assert not (equal < threshold_for(equal, 0.5)).any()


def test_the_score_of_the_vector_is_what_a_service_computes() -> None:
    own, none = looks("own", 300, seed=2, apart=4.0, views=2), looks("none", 100, seed=3, views=2)
    score = fit_known(rows_of([own], [none]), 1e-3)
    assert score.weights[0] > 0
    assert score.weights[-1] == 0.0, "what never changes says nothing"
    found = known_scores(score, own.video[0.5])
    answer = AnswerFacts(known=score, unknown=[{"sparsity": 0.5, "threshold": 0.5}])  # type: ignore[list-item]
    said = [certainty_of(np.ones(1), video, answer) for video in own.video[0.5]]
    np.testing.assert_allclose(found, said)
    assert found.mean() > 0.9 > 0.1 > known_scores(score, none.video[0.5]).mean()


def test_each_set_counts_alike_however_many_clips_it_has() -> None:
    rows = rows_of([looks("a", 400, seed=0), looks("b", 40, seed=1)], [looks("none", 100, seed=2)])
    known = rows.known == 1
    assert rows.weight[known].sum() == pytest.approx(0.5)
    assert rows.weight[~known].sum() == pytest.approx(0.5)
    assert rows.weight[:400].sum() == pytest.approx(rows.weight[800:840].sum())


def test_scores_of_folds_have_not_seen_the_group() -> None:
    """Every clip of a group has the group's own mark, by which nothing is told of another."""
    rng = np.random.default_rng(0)

    def marked(name: str, first: int, names: NDArray[np.int64]) -> Looks:
        some = looks(name, len(names), seed=first, groups=[f"{name}{i}" for i in names])
        marks = np.zeros((len(names), 1, 40), np.float32)
        marks[np.arange(len(names)), 0, first + names] = 3.0
        return replace(some, video={0.5: marks + 0.01 * rng.normal(size=marks.shape)})

    groups = np.repeat(np.arange(20), 10)
    own, none = marked("own", 0, groups), marked("none", 20, groups)
    seen = fit_known(rows_of([own], [none]), 1e-3)
    assert known_scores(seen, own.video[0.5]).min() > 0.9
    unseen = cross_fitted([own], [none], 1e-3, 0)
    assert np.abs(unseen[0][0.5].mean() - unseen[1][0.5].mean()) < 0.1


def test_without_other_clips_the_best_label_decides() -> None:
    own, also = looks("own", 400, seed=4), looks("also", 200, seed=5, sharp=0.5)
    fitted = fit([own, also], [], share=0.1)
    assert (fitted.decay, fitted.answer.known) == (None, None)
    for some in (own, also):
        for sparsity, scores in certainties(some, fitted.answer).items():
            below = fitted.answer.unknown_below(sparsity)
            assert below is not None
            assert (scores < below).mean() <= 0.1
    at = fitted.answer.temperature_at
    assert at(0.9) == pytest.approx(2 * at(0.5), rel=1e-3)


def test_the_vector_is_taken_where_it_tells_more() -> None:
    own = looks("own", 400, seed=6, apart=4.0)
    none = looks("none", 200, seed=7)
    fitted = fit([own], [none], share=0.05)
    assert fitted.answer.known is not None
    assert fitted.best_caught is not None
    assert fitted.known_caught is not None
    assert fitted.known_caught > 0.8 > 0.2 > fitted.best_caught
    fresh = looks("fresh", 400, seed=8, apart=4.0)
    rows = [
        *figures_of(fresh, AnswerFacts(), fitted.answer, labelled=True),
        *figures_of(looks("no", 300, seed=9), AnswerFacts(), fitted.answer, labelled=False),
    ]
    by = {(row.name, row.sparsity): row for row in rows}
    assert by["fresh", 0.9].unknown.value < 0.1
    assert by["no", 0.9].unknown.value > 0.8
    assert by["no", 0.9].after is None
    before, after = by["fresh", 0.9].before, by["fresh", 0.9].after
    assert before is not None
    assert after is not None
    assert after.value < 0.05 < before.value
    with (console := Console(width=100)).capture() as shown:
        print_figures(console, rows, fitted.answer)
    assert "fresh, 400 clips, percent" in shown.get()
    assert rows[-1].as_json().keys() == {"set", "clips", "sparsity", "unknown"}


def test_a_vector_that_tells_nothing_is_left_alone() -> None:
    own = looks("own", 400, seed=10, sharp=4.0)
    none = looks("none", 200, seed=11, sharp=0.01)
    fitted = fit([own], [none], share=0.05)
    assert fitted.answer.known is None
    assert fitted.best_caught is not None
    assert fitted.best_caught > 0.2


def test_a_score_has_finite_weights_where_all_is_apart() -> None:
    own, none = looks("own", 50, seed=12, apart=1000.0), looks("none", 50, seed=13, apart=-1000.0)
    score = fit_known(rows_of([own], [none]), 1e-4)
    assert KnownScore.model_validate(score.model_dump()) == score
    assert known_scores(score, own.video[0.5]).min() > 0.99
