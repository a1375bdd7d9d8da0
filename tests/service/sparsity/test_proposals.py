"""Windows are proposed by how concentrated their scores are, and half of them at most."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.sparsity.proposals import Proposer, concentration

TOKENS = 64


def scores(*peaks: float) -> NDArray[np.float32]:
    """A window each, in which one token is worth so much more than the others: [W, N]."""
    made = np.zeros((len(peaks), TOKENS), np.float32)
    made[:, 5] = peaks
    return made


def test_concentration_is_the_negative_entropy_of_the_softmax() -> None:
    found = concentration(scores(0.0, 3.0, 500.0))
    assert found[0] == pytest.approx(-np.log(TOKENS))
    share = np.exp(3.0) / (np.exp(3.0) + TOKENS - 1)
    rest = (1 - share) / (TOKENS - 1)
    assert found[1] == pytest.approx(share * np.log(share) + (1 - share) * np.log(rest))
    assert found[2] == pytest.approx(0.0)
    assert concentration(scores(0.0, 3.0) + 1000) == pytest.approx(found[:2])


def test_what_is_more_concentrated_than_before_is_proposed() -> None:
    assert Proposer().choose(scores(5, 1, 2, 9, 1, 8)).tolist() == [
        True, False, False, True, False, True,
    ]  # fmt: skip
    assert Proposer().choose(scores(3.0)).tolist() == [True], "of one, one"
    proposer = Proposer()
    assert proposer.choose(scores(*range(10, 20))).sum() == 5
    assert proposer.choose(scores(*[1.0] * 10)).sum() == 0, "a quiet part gets nothing"
    assert proposer.choose(scores(*range(20, 30))).sum() == 10, "and leaves it to others"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.floats(0, 20, width=32), min_size=1, max_size=9), max_size=9))
def test_no_more_than_half_ever_is(passages: list[list[float]]) -> None:
    proposer, seen, proposed = Proposer(), 0, 0
    for peaks in passages:
        chosen = proposer.choose(scores(*peaks))
        assert chosen.shape == (len(peaks),)
        seen, proposed = seen + len(peaks), proposed + int(chosen.sum())
        assert 1 <= proposed <= max(1, seen // 2)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 20, width=32), min_size=1, max_size=40), st.integers(1, 9))
def test_the_passages_in_which_they_come_do_not_matter(peaks: list[float], size: int) -> None:
    proposer, every = Proposer(), scores(*peaks)
    parts = [proposer.choose(every[n : n + size]) for n in range(0, len(peaks), size)]
    assert np.concatenate(parts).tolist() == Proposer().choose(every).tolist()
