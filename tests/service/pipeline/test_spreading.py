"""For what time windows speak where some were not looked at."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.pipeline.journey import WindowPlace
from service.pipeline.segments import Cell
from service.pipeline.spreading import Spread

WINDOW, STRIDE = 4, 1
NOTHING = -1


def places(count: int, shot: int = 0, begin: float = 0.0) -> list[WindowPlace]:
    made = []
    for number in range(count):
        start = begin + number * STRIDE
        cell = (start if not number else start + 1.5, start + 2.5)
        frames = round(10 * cell[0]), round(10 * cell[1])
        made.append(WindowPlace(start, start + WINDOW, cell, frames, shot, False, 0))
    return made


def spread(asked: list[tuple[WindowPlace, bool]]) -> tuple[list[Cell], list[int]]:
    """All cells, and the window that each speaks by: the number that its first score is."""
    spreading, cells = Spread(2), list[Cell]()
    for number, (place, looked) in enumerate(asked):
        if looked:
            cells += spreading.add(place, np.array([number, 0.0]))
        else:
            cells += spreading.skip(place)
        waiting = number + 1 - len(cells)
        assert waiting <= WINDOW / STRIDE, "memory does not grow with a video"
    cells += spreading.finish()
    return cells, [NOTHING if cell.unknown else int(cell.scores[0]) for cell in cells]


def test_time_goes_to_the_nearest_that_saw_it() -> None:
    looked = [n in (3, 6) for n in range(9)]
    _, by = spread(list(zip(places(9), looked, strict=True)))
    # A window sees all of the cells of the one before and the one behind it.
    assert by == [NOTHING, NOTHING, 3, 3, 3, 6, 6, 6, NOTHING]
    _, by = spread(list(zip(places(3), [False] * 3, strict=True)))
    assert by == [NOTHING] * 3


def test_another_shot_is_not_its_business() -> None:
    both = [*places(2), *places(2, shot=1, begin=5.0)]
    _, by = spread(list(zip(both, [False, True, False, False], strict=True)))
    assert by == [NOTHING, 1, NOTHING, NOTHING]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.booleans(), max_size=20))
def test_each_has_its_cell_and_those_that_were_looked_at_their_own(looked: list[bool]) -> None:
    own = places(len(looked))
    cells, by = spread(list(zip(own, looked, strict=True)))
    assert [(cell.start, cell.end) for cell in cells] == [place.cell for place in own]
    assert [(cell.first, cell.last) for cell in cells] == [place.frames for place in own]
    for number, (place, found) in enumerate(zip(own, by, strict=True)):
        if looked[number]:
            assert found == number
        elif found != NOTHING:
            assert looked[found]
            assert own[found].start <= place.cell[0] <= place.cell[1] <= own[found].end
        else:
            near = looked[max(0, number - 1) : number + 2]
            assert number == 0 or not any(near)
