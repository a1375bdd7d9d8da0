"""Selectors without weights: what they prefer, as modules and as graphs."""

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from bundle.tokens import select_top_k
from export.graphs import clip_selector_to_onnx
from networks.selectors import SELECTORS, SelectorInput, make_selector

GIVEN = SelectorInput((8, 4, 4), 8)


def a_clip(seed: int = 0) -> NDArray[np.uint8]:
    """Pictures of squares, of which half stand still: ties, as real clips have them."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (2, 8, 8, 8, 3), dtype=np.uint8)
    coarse[:, :, :4] = coarse[:, :1, :4]
    return np.kron(coarse, np.ones((1, 1, 4, 4, 1), np.uint8))


def scores_of(kind: str, clip: NDArray[np.uint8], given: SelectorInput = GIVEN) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = make_selector(kind, given)(torch.from_numpy(clip))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", SELECTORS)
def test_a_graph_answers_exactly_what_its_module_does(kind: str) -> None:
    selector = make_selector(kind, GIVEN, seed=3)
    graph = clip_selector_to_onnx(selector)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for clip in (a_clip(), a_clip(1)[:1], np.zeros((3, *GIVEN.shape), np.uint8)):
        (ours,) = session.run(["scores"], {"clip_small": clip})
        with torch.no_grad():
            expected = selector(torch.from_numpy(clip)).numpy()
        assert np.array_equal(ours, expected)
        assert ours.shape == (len(clip), GIVEN.tokens)


def test_change_prefers_what_moves() -> None:
    clip = np.zeros((1, *GIVEN.shape), np.uint8)
    clip[0, 3, 8:16, 16:24] = 200  # one token lights up at step 3, and is gone at step 4
    scores = scores_of("change", clip).reshape(8, 4, 4)
    assert scores[3, 1, 2] == scores[4, 1, 2] == 200 * 8 * 8 * 3
    scores[3:5, 1, 2] = 0
    assert not scores.any()


def test_the_first_step_takes_the_seconds_score() -> None:
    scores = scores_of("change", a_clip()).reshape(2, 8, 16)
    assert torch.equal(scores[:, 0], scores[:, 1])
    assert not torch.equal(scores[:, 1], scores[:, 2])
    one = SelectorInput((1, 4, 4), 8)
    assert not scores_of("change", a_clip()[:, :1], one).any()


@pytest.mark.parametrize(("steps", "groups"), [(8, 4), (4, 4), (6, 2), (5, 1), (2, 2), (1, 1)])
def test_group_takes_the_same_share_of_each_group(steps: int, groups: int) -> None:
    given = SelectorInput((steps, 4, 4), 8)
    clip = a_clip()[:, :steps]
    clip[:, : max(1, steps // 2)] = clip[:, :1]  # nothing moves in the first half
    scores = scores_of("group", clip, given).numpy()
    for kept in (1, groups, 5, given.tokens // 2, given.tokens):
        chosen = select_top_k(scores, kept)
        for row in chosen:
            share = np.bincount(row // (given.tokens // groups), minlength=groups)
            assert share.max() - share.min() <= 1, (kept, share)
    if steps == 8:
        # within a group, by change: the second half's groups have the same order as `change`
        change = scores_of("change", clip, given).numpy()[:, -16:]
        assert np.array_equal(np.argsort(-scores[:, -16:], kind="stable"),
                              np.argsort(-change, kind="stable"))  # fmt: skip


def test_unique_is_the_distance_to_the_nearest_other_cell() -> None:
    clip = a_clip()
    cells = clip.reshape(2, 8, 4, 8, 4, 8, 3).transpose(0, 1, 2, 4, 3, 5, 6).reshape(2, 128, -1)
    numbers = cells.astype(np.int64)
    distances = np.square(numbers[:, :, None] - numbers[:, None]).sum(-1)
    distances[:, np.arange(128), np.arange(128)] = np.iinfo(np.int64).max
    expected = distances.min(-1)
    assert np.array_equal(scores_of("unique", clip).numpy(), expected)
    selector = make_selector("unique", GIVEN)
    selector.rows = 48  # in three pieces, the last of which is smaller
    assert np.array_equal(selector(torch.from_numpy(clip)).numpy(), expected)
    assert expected.min() == 0  # what stands still is there more than once


def test_random_is_the_same_for_every_clip_and_another_for_every_seed() -> None:
    one = make_selector("random", GIVEN, seed=1)
    scores = one(torch.from_numpy(a_clip()))
    assert torch.equal(scores[0], scores[1])
    assert scores[0].unique().numel() == GIVEN.tokens
    again = make_selector("random", GIVEN, seed=1)(torch.from_numpy(a_clip(5)))
    assert torch.equal(scores, again)
    other = make_selector("random", GIVEN, seed=2)(torch.from_numpy(a_clip()))
    assert not torch.equal(scores, other)


def test_each_says_what_it_costs() -> None:
    values = 8 * 32 * 32 * 3
    macs = {kind: make_selector(kind, GIVEN).macs for kind in SELECTORS}
    assert macs["random"] == 0
    assert macs["change"] == macs["group"] == values
    assert macs["unique"] == 128 * 128 * 192 + 3 * 128 * 192
    with pytest.raises(ValueError, match="there is no selector 'tube', but change, group"):
        make_selector("tube", GIVEN)
