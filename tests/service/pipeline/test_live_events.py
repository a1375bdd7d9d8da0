"""Events of a stream, by hand and by their properties."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bundle.answers import AnswerFacts
from service.pipeline.live_events import Change, Changes
from service.pipeline.segments import Cell, Merger, Presence

PRESENCE = Presence.of(AnswerFacts(), 3, 0.5, 0.5)


def cells_of(rows: list[list[float]], start: float = 0.0) -> list[Cell]:
    return [
        Cell(start + i, start + i + 1.0, 0, 0, np.array(row)) for i, row in enumerate(rows)
    ]  # fmt: skip


def changes_of(cells: list[Cell], window: float = 2.0) -> list[Change]:
    merger, changes, found = Merger(PRESENCE, window, 1.0), Changes(), list[Change]()
    for cell in cells:
        merger.add(cell)
        found += changes.pass_to(cell, merger.showing())
    return found + changes.end()


def test_a_label_begins_and_ends_with_the_first_window_that_says_so() -> None:
    found = changes_of(cells_of([[0.1, 0.9, 0], [0.2, 0.7, 0], [0.3, 0.3, 0], [0.9, 0, 0]]))
    assert [(c.kind, c.label, c.seconds) for c in found] == [
        ("begin", 1, 0.0), ("end", 1, 2.0), ("begin", 0, 3.0), ("end", 0, 4.0),
    ]  # fmt: skip
    assert (found[0].score, found[1].score) == (0.9, 0.8)


def test_a_more_certain_window_before_has_its_say() -> None:
    """As in segments, where windows share half of their time."""
    found = changes_of(cells_of([[0.9, 0.1, 0], [0.2, 0.6, 0], [0.1, 0.2, 0]]))
    assert [(c.kind, c.label, c.seconds) for c in found] == [("begin", 0, 0.0), ("end", 0, 1.0)]
    found = changes_of(cells_of([[0.6, 0.1, 0], [0.05, 0.9, 0]]))
    assert [(c.kind, c.label) for c in found] == [
        ("begin", 0), ("end", 0), ("begin", 1), ("end", 1)
    ]  # fmt: skip


def test_nothing_goes_on_over_a_time_that_nobody_saw() -> None:
    cells = cells_of([[0.9, 0, 0]]) + cells_of([[0.9, 0, 0]], start=5.0)
    found = changes_of(cells)
    assert [(c.kind, c.seconds) for c in found] == [
        ("begin", 0.0), ("end", 1.0), ("begin", 5.0), ("end", 6.0)
    ]  # fmt: skip


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=12))
def test_what_begins_ends_once_and_in_order(rows: list[list[float]]) -> None:
    there: set[int] = set()
    last = 0.0
    for change in changes_of(cells_of(rows)):
        assert change.seconds >= last
        assert 0 <= change.score <= 1
        last = change.seconds
        if change.kind == "begin":
            assert change.label not in there
            there.add(change.label)
        else:
            there.remove(change.label)
    assert not there
